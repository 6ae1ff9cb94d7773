"""Rate and distortion of a discrete autoencoder on real clips, x264 and x265 beside.

`python -m tests.benchmarks.bench_rate FOLDER FILE...`: an autoencoder's folder, and files that it
was not trained on. Without them nothing is measured.

Bits of ours: log2 of the codebook a token, and what an arithmetic coder needs whose model learns as
it goes: each channel's digit given the same channel's digit a latent frame before. Its length is
computed, not coded: a coder adds two bits at most. Bits of the others: the elementary stream
without the encoder's remarks (SEI), at constant quality, preset slow, 4:2:0, decoded back to RGB.

T H W   frames, rows, columns; t h w latents; C channels
"""

import math
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from openreel.deploy.eval_vae import clips_to_judge
from openreel.pipeline.media import ffmpeg_program, read_clip
from openreel.vae.codec import Frames
from openreel.vae.heads import Codebook, Integers
from openreel.vae.measures import ms_ssim, psnr
from openreel.vae.run import EncodeConfig, scaled_size
from openreel.vae.weights import load_autoencoder
from tests.benchmarks.timing import report

QUALITIES = (18, 24, 30, 36, 42, 48, 51)
MOST_FRAMES, AREA = 33, 256 * 256
PEERS = {
    "x264": ("libx264", "h264", "filter_units=remove_types=6", "-x264-params", "info=0"),
    "x265": ("libx265", "hevc", "filter_units=remove_types=39-40", "-x265-params", "info=0"),
}


@dataclass(frozen=True, kw_only=True)
class Point:
    """One coding of one clip."""

    bpp: float
    """bits a pixel and frame"""
    psnr: float
    ms_ssim: float


def adaptive_bits(digits_thwC: Integers, book: Codebook) -> float:
    """Bits of an adaptive model: counts that begin at a half, by channel and earlier digit.

    With such counts the order doesn't matter, so that the length has a closed form.
    """
    bits = 0.0
    for c, radix in enumerate(book.radices):
        now = digits_thwC[..., c]
        before = np.concatenate([np.full_like(now[:1], radix), now[:-1]])
        for context in range(radix + 1):
            counts = np.bincount(now[before == context].ravel(), minlength=radix)
            bits += math.lgamma(counts.sum() + radix / 2) - math.lgamma(radix / 2)
            bits -= sum(math.lgamma(n + 0.5) - math.lgamma(0.5) for n in counts)
    return bits / math.log(2)


def by_ffmpeg(frames: Frames, peer: str, quality: int, folder: Path) -> Point:
    """Encode, weigh, decode."""
    encoder, kind, strip, option, value = PEERS[peer]
    height, width = frames.shape[1:3]
    raw = f"-f rawvideo -pix_fmt rgb24 -s {width}x{height}".split()
    stream, quiet = folder / f"stream.{kind}", ["-nostdin", "-y", "-loglevel", "error"]
    (folder / "raw").write_bytes(frames.tobytes())
    argv = [ffmpeg_program(), *quiet, *raw, "-r", "25", "-i", str(folder / "raw"), "-c:v", encoder]
    argv += ["-preset", "slow", "-crf", str(quality), "-pix_fmt", "yuv420p", option, value]
    subprocess.run([*argv, "-bsf:v", strip, "-f", kind, str(stream)], check=True,
                   stderr=subprocess.DEVNULL)  # fmt: skip
    back = [ffmpeg_program(), *quiet, "-i", str(stream), *raw[:4], "-"]
    out = subprocess.run(back, check=True, stdout=subprocess.PIPE).stdout
    decoded = np.frombuffer(bytearray(out), np.uint8).reshape(frames.shape)
    bits = 8 * stream.stat().st_size
    return Point(
        bpp=bits / frames[..., 0].size,
        psnr=psnr(frames, decoded),
        ms_ssim=ms_ssim(frames, decoded),
    )


def at_rate(curve: list[Point], bpp: float, figure: str) -> float:
    """A curve's figure at a rate, between its points along the rate's logarithm; nan outside."""
    points = sorted(curve, key=lambda p: p.bpp)
    rates = [math.log(p.bpp) for p in points]
    if not rates[0] <= math.log(bpp) <= rates[-1]:
        return math.nan
    return float(np.interp(math.log(bpp), rates, [getattr(p, figure) for p in points]))


def compared(
    name: str, ours: Point, coded: float, curves: dict[str, list[Point]]
) -> list[tuple[str, str, str]]:
    """Ours against each curve at our rate, with the bits that an arithmetic coder needs."""
    rows = []
    for peer, curve in curves.items():
        theirs = [at_rate(curve, coded, figure) for figure in ("psnr", "ms_ssim")]
        said = (
            f"ours {ours.bpp:.4f} bpp raw, {coded:.4f} coded: {ours.psnr:.2f} dB, "
            f"MS-SSIM {ours.ms_ssim:.4f}; {peer} at the coded rate: {theirs[0]:.2f} dB, "
            f"{theirs[1]:.4f}; its points "
            + ", ".join(f"{p.bpp:.4f}/{p.psnr:.1f}/{p.ms_ssim:.4f}" for p in curve)
        )
        rows.append((f"{name}: rate and distortion", peer, said))
    return rows


def main(folder: str, files: list[str]) -> None:
    torch.set_num_threads(1)
    model = load_autoencoder(Path(folder))
    book = model.codebook
    limits, rows = EncodeConfig(max_area=AREA, max_frames=MOST_FRAMES), []
    for clip in clips_to_judge(files, len(files)):
        frames = read_clip(clip, size=scaled_size(clip, limits), max_frames=MOST_FRAMES)
        even = (slice(None), *(slice(size // 2 * 2) for size in frames.shape[1:3]))
        frames = np.ascontiguousarray(frames[even])
        video = model.encode_video(frames, fps=0.0)
        indices, decoded = model.indices(video), model.decode_video(video)
        num_pixels = frames[..., 0].size
        ours = Point(
            bpp=indices.size * math.log2(book.size) / num_pixels,
            psnr=psnr(frames, decoded),
            ms_ssim=ms_ssim(frames, decoded),
        )
        coded = adaptive_bits(book.digits(indices), book) / num_pixels
        with tempfile.TemporaryDirectory() as scratch:
            curves = {
                peer: [by_ffmpeg(frames, peer, crf, Path(scratch)) for crf in QUALITIES]
                for peer in PEERS
            }
        name = f"{Path(clip.uri).name}, {'x'.join(map(str, frames.shape[:3]))}"
        rows += compared(name, ours, coded, curves)
        print(*rows[-2:], sep="\n", file=sys.stderr)
    report("rate", rows)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        report("rate", [("rate and distortion", "x264, x265", "no autoencoder and files named")])
    else:
        main(sys.argv[1], sys.argv[2:])
