"""Peak memory by the clip's length: encoding and decoding, a fresh process each.

`python -m tests.benchmarks.bench_vae_memory`. Ours goes frame by frame from a generator and into
a preallocated buffer; diffusers' Wan as it is takes and gives a whole tensor; the same Wan behind
our contract is streamed through its cache. What is counted is the process, and its growth
after loading.
"""

import subprocess
import sys

from tests.benchmarks.timing import report

LENGTHS = (9, 33, 129, 513)
SIDE = 96
WAYS = ("ours", "wan as it is", "wan streamed")
PROGRAM = """
import resource, sys
import numpy as np, torch
torch.set_num_threads(1)
from tests.benchmarks.vae_models import noise, ours, peer, pixels, raw
way, total, side = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
def frames():
    for i in range(total):
        yield np.random.default_rng(i).integers(0, 256, (1, side, side, 3), dtype=np.uint8)
model = raw("AutoencoderKLWan") if way == "wan as it is" else (
    ours() if way == "ours" else peer("AutoencoderKLWan"))
if way == "wan as it is":
    with torch.no_grad():
        model.decode(model.encode(pixels(noise(5, 8, 8))).latent_dist.mode())
        before = peak()
        x = torch.cat([pixels(f) for f in frames()], 2)
        back = model.decode(model.encode(x).latent_dist.mode()).sample
        count = back.shape[2]
else:
    model.decode_video(model.encode_video(noise(5, 8, 8), 8))
    before = peak()
    count = 0
    for part in model.decode_stream(
        model.encode_stream(frames()), height=side, width=side, num_frames=total
    ):
        count += len(part)
assert count == total
print(before, peak())
"""


def peak(way: str, total: int) -> tuple[float, float]:
    """MiB of the process before its first frame, and at its peak."""
    argv = [sys.executable, "-c", PROGRAM, way, str(total), str(SIDE)]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True)
    before, most = done.stdout.splitlines()[-1].split()
    return int(before) / 1024, int(most) / 1024


def main() -> None:
    rows = []
    for way in WAYS:
        found = {total: peak(way, total) for total in LENGTHS}
        print(way, found, file=sys.stderr)
        said = ", ".join(f"{most:.0f} ({most - before:+.0f})" for before, most in found.values())
        lengths = ", ".join(map(str, LENGTHS))
        what = f"{way}: peak MiB (of it after loading) at T = {lengths}, {SIDE}x{SIDE}"
        ratios = [f"{found[513][1] / found[total][1]:.3f}x of T = {total}" for total in (9, 33)]
        rows.append((what, "T = 9, 33", f"{said}; at 513 {', '.join(ratios)}"))
    report("vae_memory", rows)


if __name__ == "__main__":
    main()
