"""Frames a second and GFLOP a second of encoding and decoding, taking turns.

`python -m tests.benchmarks.bench_vae_speed [SIDE] [REPEATS] [THREADS]`. FLOPs are counted by torch
of what is really run. Ours is timed through its public array forms, diffusers' as they are, both
from memory to memory; beside them ours in a single pass, against which streaming is measured: with
the same kernels, and with oneDNN's, which are faster and depend on a tensor's shape.
"""

import dataclasses
import sys
from collections.abc import Callable
from typing import Any

import torch

from tests.benchmarks.timing import interleaved, report
from tests.benchmarks.vae_models import (
    OURS,
    WIDE,
    flops,
    noise,
    num_parameters,
    ours,
    pixels,
    raw,
)

PEERS = ("AutoencoderKLWan", "AutoencoderKLCogVideoX")
NUM_FRAMES = 17
STEPS = (1, 2, 4)
WAYS = ("encode", "decode")
Calls = dict[str, Callable[[], Any]]


def our_calls(name: str, model: Any, side: int) -> Calls:
    frames = noise(NUM_FRAMES, side, side)
    video = model.encode_video(frames, fps=8)
    return {
        f"{name} encode": lambda: model.encode_video(frames, fps=8),
        f"{name} decode": lambda: model.decode_video(video),
    }


def their_calls(name: str, side: int) -> tuple[Calls, int]:
    model = raw(name)
    x = pixels(noise(NUM_FRAMES, side, side))
    with torch.no_grad():
        z = model.encode(x).latent_dist.mode()

    def decode() -> Any:
        with torch.no_grad():
            return model.decode(z).sample

    def encode() -> Any:
        with torch.no_grad():
            return model.encode(x).latent_dist.mode()

    return {f"{name} encode": encode, f"{name} decode": decode}, num_parameters(model)


def single_pass(side: int) -> Calls:
    """Ours without micro-steps, from uint8 to uint8: exactly, and as in training."""
    model = ours()
    frames = noise(NUM_FRAMES, side, side)
    video = model.encode_video(frames, fps=8)
    x = torch.from_numpy(frames)
    z = torch.from_numpy(video.latents).permute(1, 2, 3, 0).contiguous()

    def encode() -> Any:
        return model.encoder(x.float() / 127.5 - 1, None)

    def decode() -> Any:
        found, _ = model.decoder(z, None)
        return ((found + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)

    return {
        "single encode": lambda: model.encode_step(x, None),
        "single decode": lambda: model.decode_step(z, None),
        "oneDNN encode": encode,
        "oneDNN decode": decode,
    }


def main() -> None:
    side, repeats, threads = (
        int(n) for n in [*sys.argv[1:], *("64", "5", "2")[len(sys.argv) - 1 :]]
    )
    torch.set_num_threads(threads)
    models = {"ours, their parameters": ours(OURS), "ours, their FLOPs": ours(WIDE)}
    calls: Calls = {}
    sizes = {name: num_parameters(model) for name, model in models.items()}
    for name, model in models.items():
        calls |= our_calls(name, model, side)
    for name in PEERS:
        found, sizes[name] = their_calls(name, side)
        calls |= found
    steps: Calls = single_pass(side)
    for step in STEPS:
        steps |= our_calls(f"step {step}", ours(dataclasses.replace(OURS, step=step)), side)
    costs = {name: flops(run) for name, run in calls.items()}
    seconds = interleaved(calls, repeats)
    rows = []
    for way in WAYS:
        for name in sizes:
            key = f"{name} {way}"
            rate = costs[key] / seconds[key] / 1e9
            wan = f"AutoencoderKLWan {way}"
            speed, against = seconds[wan] / seconds[key], rate / (costs[wan] / seconds[wan] / 1e9)
            what = f"{way}, {name} ({sizes[name] / 1e6:.1f} M, {costs[key] / 1e9:.1f} GFLOP)"
            said = f"{NUM_FRAMES / seconds[key]:.1f} frames/s ({speed:.2f}x), {rate:.1f} GFLOP/s"
            rows.append((what, "AutoencoderKLWan", f"{said} ({against:.2f}x)"))
    took = interleaved(steps, repeats)
    for against, said in (("single", "one pass"), ("oneDNN", "one pass by oneDNN")):
        for step in STEPS:
            ratios = [took[f"step {step} {w}"] / took[f"{against} {w}"] for w in WAYS]
            figure = f"encode {ratios[0]:.2f}x, decode {ratios[1]:.2f}x the time"
            what = f"ours: {NUM_FRAMES} frames streamed in micro-steps of {step} latent frames"
            rows.append((what, said, figure))
    for row in rows:
        print(row, file=sys.stderr)
    report("vae_speed", rows)


if __name__ == "__main__":
    main()
