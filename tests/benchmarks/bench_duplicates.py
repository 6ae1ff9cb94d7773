"""Cost and recall of the search for duplicates: `python -m tests.benchmarks.bench_duplicates`.

Clips of 4 to 20 hashes, each 8 bits from the one before, as half a second of film is. One in ten is
a copy of another: trimmed at both ends, sampled at another moment, 2 bits of noise on each hash.
Each size runs in a process of its own, which is fed one clip at a time.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from openreel.pipeline.duplicates import DuplicateConfig, Item, Search, find_duplicates
from tests.benchmarks.timing import report

SIZES = (10_000, 100_000, 300_000)
BITS = 63


def flips(rng: np.random.Generator, count: int, bits: float) -> np.ndarray:
    """(count,) masks in which each bit is set with the chance bits / 63."""
    chosen = rng.random((count, BITS)) < bits / BITS
    return (chosen << np.arange(BITS)).sum(1, dtype=np.uint64)


def film(rng: np.random.Generator, length: int) -> np.ndarray:
    steps = flips(rng, length, 8.0)
    steps[0] = rng.integers(1, 1 << BITS, dtype=np.uint64)
    return np.bitwise_xor.accumulate(steps)


def copied(rng: np.random.Generator, hashes: np.ndarray) -> np.ndarray:
    """A part of a film, each hash somewhere between two of the original's, with noise."""
    length = max(3, len(hashes) - int(rng.integers(1, 3)))
    start = int(rng.integers(0, len(hashes) - length))
    here, after = hashes[start : start + length], hashes[start + 1 : start + length + 1]
    moved = (here ^ after) & flips(rng, length, rng.random() * BITS)
    return np.asarray(here ^ moved ^ flips(rng, length, 2.0))


def clips(count: int) -> Iterator[Item]:
    """Clips c<i>; x<i> is a copy of c<i>."""
    rng = np.random.default_rng(0)
    for i in range(count * 9 // 10):
        hashes = film(rng, int(rng.integers(4, 21)))
        yield Item(clip_id=f"c{i}", kind="video", phashes=tuple(hashes.tolist()), rank=(0, i))
        if i % 9 == 0:
            other = tuple(copied(rng, hashes).tolist())
            yield Item(clip_id=f"x{i}", kind="video", phashes=other, rank=(1, i))


def measure(count: int) -> dict[str, float]:
    """One search, in this process."""
    for _ in clips(200):  # what the imports need is not the search's
        pass
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    searches: list[Search] = []
    with tempfile.TemporaryDirectory() as scratch:
        start = time.perf_counter()
        for _ in clips(count):
            pass
        made = time.perf_counter()
        found = find_duplicates(clips(count), Path(scratch), DuplicateConfig(), searches.append)
        seconds = time.perf_counter() - made - (made - start)
    right = sum(clip[0] == "x" and what.kept == f"c{clip[1:]}" for clip, what in found.items())
    planted = len(range(0, count * 9 // 10, 9))
    return {
        "seconds": seconds,
        "mib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
        "compared": searches[0].compared / count,
        "verified": searches[0].verified / count,
        "crowded": searches[0].crowded,
        "recall": right / planted,
        "precision": right / max(1, len(found)),
    }


def main() -> None:
    rows = []
    for count in SIZES:
        argv = [sys.executable, "-m", "tests.benchmarks.bench_duplicates", str(count)]
        run = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True)
        found = json.loads(run.stdout)
        clips_name = f"{count:,} clips"
        rows += [
            (f"seconds, {clips_name}", "", f"{found['seconds']:.1f}"),
            (f"peak memory above imports, {clips_name}", "", f"{found['mib']:.0f} MiB"),
            (
                f"pairs of hashes compared a clip, {clips_name}",
                f"all pairs: {12 * 12 * count / 2:,.0f}",
                f"{found['compared']:.2f}",
            ),
            (f"pairs of clips verified a clip, {clips_name}", "", f"{found['verified']:.3f}"),
            (f"recall, {clips_name}", "", f"{found['recall']:.2%}"),
            (f"precision, {clips_name}", "", f"{found['precision']:.2%}"),
        ]
    report("duplicates", rows)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(int(sys.argv[1]))))
    else:
        main()
