"""Exactness of the autoencoder, diffusers' beside: chunks, causality, tiles, shapes, plains.

`python -m tests.benchmarks.bench_vae [FOLDER...]`. Small models with random weights, the same for
each figure; plain colours also by the trained autoencoders of the folders.
"""

import dataclasses
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from openreel.vae.codec import Codec, Frames, load_codec
from openreel.vae.evaluate import plain
from openreel.vae.model import Autoencoder
from tests.benchmarks.timing import report
from tests.benchmarks.vae_models import OURS, PEERS, noise, ours, peer, pixels, raw

SIZES = [
    (1, 1), (3, 2), (7, 5), (8, 8), (13, 31), (17, 9), (19, 33), (23, 29), (31, 11), (37, 5),
    (40, 22), (41, 3),
]  # fmt: skip
LENGTHS = range(1, 19)
PLANS = {"frame by frame": [1], "uneven": [3, 1, 7, 2], "in fives": [5]}
Row = tuple[str, str, str]


def pieces(total: int, sizes: list[int]) -> Iterator[slice]:
    at, turn = 0, 0
    while at < total:
        yield slice(at, at + sizes[turn % len(sizes)])
        at, turn = at + sizes[turn % len(sizes)], turn + 1


def chunk_plans(codec: Codec) -> Row:
    """Encode and decode a clip by several plans; the largest difference from the whole."""
    frames = noise(19, 45, 67)
    video = codec.encode_video(frames, fps=8)
    whole, worst, most = codec.decode_video(video), 0.0, 0
    for sizes in PLANS.values():
        coded = np.concatenate(list(codec.encode_stream(frames[p] for p in pieces(19, sizes))), 1)
        worst = max(worst, float(np.abs(coded - video.latents).max()))
        parts = (video.latents[:, p] for p in pieces(video.latents.shape[1], sizes))
        back = np.concatenate(list(codec.decode_stream(parts, height=45, width=67, num_frames=19)))
        most = max(most, int(np.abs(back.astype(int) - whole).max()))
    said = f"latents differ by {worst:.1g}, frames by {most} levels"
    return f"chunk plans ({', '.join(PLANS)}) against the whole", "one another", said


def future(codec: Codec) -> str:
    """Frames changed one by one: how many earlier latents and frames move."""
    frames = noise(17, 32, 32)
    video = codec.encode_video(frames, fps=8)
    scale = codec.config.time_factor
    latents = sum(
        int((codec.encode_video(_flipped(frames, k), 8).latents != video.latents)
            .any((0, 2, 3))[: -(-k // scale)].sum())
        for k in range(1, 17, 3)
    )  # fmt: skip
    whole, moved = codec.decode_video(video), 0
    for k in range(1, video.latents.shape[1]):
        changed = video.latents.copy()
        changed[:, k] += 1
        other = codec.decode_video(type(video)(**{**vars(video), "latents": changed}))
        moved += int((other != whole).any((1, 2, 3))[: scale * (k - 1) + 1].sum())
    return f"{latents} latents and {moved} frames moved"


def _flipped(frames: Frames, k: int) -> Frames:
    changed = frames.copy()
    changed[k] = 255 - changed[k]
    return changed


def our_tiles(model: Autoencoder) -> str:
    """Over 17 frames, the last 16 in one micro-step: from there on kernels change."""
    frames = noise(17, 141, 203)
    video, worst = model.encode_video(frames, fps=8), 0.0
    whole = model.decode_video(video)
    for tile in (3, 5, 7):
        tiled = model.encode_video(frames, fps=8, tile=tile)
        worst = max(worst, float(np.abs(tiled.latents - video.latents).max()))
        back = model.decode_video(video, tile=tile)
        worst = max(worst, float(np.abs(back.astype(int) - whole).max()))
    return f"difference {worst:.1f}"


def their_tiles(name: str) -> str:
    """diffusers' overlapped, blended tiles against its own whole frame; a size and an overlap that
    its cells divide."""
    model = raw(name)
    x = pixels(noise(5, 144, 208))
    whole = model.encode(x).latent_dist.mode()
    back = model.decode(whole).sample
    width = 80 if hasattr(model, "tile_overlap_factor_width") else 96  # a fifth overlaps
    model.enable_tiling(tile_sample_min_height=96, tile_sample_min_width=width)
    if hasattr(model, "tile_sample_stride_height"):
        model.tile_sample_stride_height = model.tile_sample_stride_width = 64
    tiled = model.encode(x).latent_dist.mode()
    again = model.decode(whole).sample
    latents = float((tiled - whole).abs().max() / whole.abs().mean())
    frames = float((again - back).abs().max()) * 127.5
    return f"latents {latents:.2g} of their mean magnitude, frames {frames:.2g} levels"


def shapes(run: Callable[[Frames], tuple[int, ...]]) -> str:
    """Over all lengths and sizes: how many come back in their own shape."""
    counts: Counter[str] = Counter()
    for height, width in SIZES:
        for num_frames in LENGTHS:
            frames = noise(num_frames, height, width)
            try:
                counts["exact" if run(frames) == frames.shape[:3] else "another shape"] += 1
            except (RuntimeError, ValueError, AssertionError, IndexError):
                counts["raised"] += 1
    total = len(SIZES) * len(LENGTHS)
    return f"{counts['exact']} of {total} exact, {counts['another shape']} of another shape, " + (
        f"{counts['raised']} raised"
    )


def contract(codec: Codec) -> Callable[[Frames], tuple[int, ...]]:
    return lambda frames: codec.decode_video(codec.encode_video(frames, fps=8)).shape[:3]


def plainly(model: Any) -> Callable[[Frames], tuple[int, ...]]:
    def run(frames: Frames) -> tuple[int, ...]:
        return tuple(model.decode(model.encode(pixels(frames)).latent_dist.mode()).sample.shape[2:])

    return run


def plainness(codec: Codec) -> str:
    """All energy off a frame's mean, as a root mean square: a grid or a border would be in it."""
    found = plain(codec, 2**34)
    return (
        f"{found.off_mean:.3f} levels off the mean (at most {found.largest:.1f}), "
        f"wobble {found.wobble:.3f}"
    )


def main(folders: list[str]) -> None:
    torch.set_num_threads(1)
    model, long_steps = ours(), ours(dataclasses.replace(OURS, step=4))
    rows = [(f"ours: {(row := chunk_plans(model))[0]}", *row[1:])]
    rows.append(("ours: a future frame changed", "earlier latents and frames", future(model)))
    for name in PEERS:
        rows.append((f"{name}: a future frame changed", "earlier ones", future(peer(name))))
        print(rows[-1], file=sys.stderr)
    rows.append(("ours: tiled at odd offsets", "whole", our_tiles(long_steps)))
    for name in PEERS:
        rows.append((f"{name}: its own blended tiles", "whole", their_tiles(name)))
        print(rows[-1], file=sys.stderr)
    rows.append((f"ours: T = 1-18 x {len(SIZES)} sizes", "shape in", shapes(contract(model))))
    for name in PEERS:
        rows.append((f"{name} behind our contract", "shape in", shapes(contract(peer(name)))))
        rows.append((f"{name} as it is", "shape in", shapes(plainly(raw(name)))))
        print(rows[-2:], file=sys.stderr)
    rows += [
        (f"{folder}: plain colours", "plain pictures", plainness(load_codec(folder)))
        for folder in folders
    ]
    report("vae", rows)


if __name__ == "__main__":
    main(sys.argv[1:])
