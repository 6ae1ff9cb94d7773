"""The recaptioning stage against its model in a plain loop, over the same clips.

The loop is one process with all processors: read a batch of clips one after the other, caption
them, read the next, keep the results in memory. The stage does the same reading and captioning in
its actors, and commits every batch to its table. Times begin when the model is loaded (in the
stage: the first actor's) and end when the last clip is done; what Ray takes before is told beside
it. So is the model on frames that were read before: what no stage can reach whose processors also
have to decode. Each runs in a process of its own, in turns.

    python -m tests.benchmarks.bench_recaption
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from tests.benchmarks.timing import report

CLIPS = int(os.environ.get("OPENREEL_BENCH_CLIPS", "400"))
LARGER_CLIPS = max(16, CLIPS // 4)
ROUNDS = int(os.environ.get("OPENREEL_BENCH_ROUNDS", "3"))


def loop(folder: Path, captioner: Path, count: int) -> dict[str, float]:
    """Read and caption in one process; then caption once more what was read."""
    from openreel.recaption.coca_writer import CocaWriter
    from openreel.recaption.run import RecaptionConfig, written_rows
    from openreel.recaption.windows import read_windows
    from tests.benchmarks.small_clips import small_clips

    config = RecaptionConfig()
    clips = small_clips(folder, count)
    writer = CocaWriter(captioner, config.decoding)
    kept, rows = [], []
    start = time.perf_counter()
    for first in range(0, count, config.batch_size):
        some = [
            (clip, read_windows(clip, writer.sight, config.windows))
            for clip in clips[first : first + config.batch_size]
        ]
        rows += written_rows(some, writer, config)
        kept.append(some)
    seconds = time.perf_counter() - start
    assert len(rows) == count
    start = time.perf_counter()
    for some in kept:
        written_rows(some, writer, config)
    return {"loop": seconds, "at hand": time.perf_counter() - start}


def marked(build: Callable[[], object], mark: Path) -> object:
    """Build a captioner and leave the time at which it was there."""
    writer = build()
    (mark / f"{os.getpid()}").write_text(repr(time.time()))
    return writer


def stage(folder: Path, captioner: Path, count: int) -> dict[str, float]:
    """The stage on Ray, with its actors' start told apart."""
    from ray import cloudpickle

    from openreel.pipeline import table
    from openreel.pipeline.stage import run_stage
    from openreel.recaption.caption import ClipCaptions
    from openreel.recaption.run import RecaptionConfig, recaption_stage
    from openreel.recaption.writers import writer_of
    from tests.benchmarks.small_clips import small_clips

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    config = RecaptionConfig()
    clips = small_clips(folder, count)
    with tempfile.TemporaryDirectory() as name:
        place, mark = Path(name) / "table", Path(name) / "mark"
        mark.mkdir()
        plan = writer_of(str(captioner), config.kinds, config.decoding)
        plan = replace(plan, build=partial(marked, plan.build, mark))
        begun = time.time()
        run_stage(recaption_stage(plan, config), clips, place)
        ended = time.time()
        ready = min(float(path.read_text()) for path in mark.iterdir())
        assert len(table.usable(place, ClipCaptions)) == count
    return {"stage": ended - ready, "start": ready - begun}


def alone(what: str, *arguments: str) -> dict[str, float]:
    """One of the two above in a process of its own."""
    argv = [sys.executable, "-m", "tests.benchmarks.bench_recaption", what, *arguments]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def compared(folder: Path, captioner: Path, count: int) -> dict[str, float]:
    """Medians over rounds, in turns."""
    seconds: dict[str, list[float]] = {}
    for number in range(ROUNDS):
        for what in ("loop", "stage"):
            for name, value in alone(what, str(folder), str(captioner), str(count)).items():
                seconds.setdefault(name, []).append(value)
        print(number, {k: round(v[-1], 1) for k, v in seconds.items()}, file=sys.stderr)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    if len(sys.argv) > 1:
        what, folder, captioner, count = sys.argv[1:]
        found = {"loop": loop, "stage": stage}[what](Path(folder), Path(captioner), int(count))
        print(json.dumps(found))
        return
    from tests.benchmarks.small_clips import small_clips, untrained

    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small_clips(folder / "clips", CLIPS)
        for larger, count in ((False, CLIPS), (True, LARGER_CLIPS)):
            captioner = untrained(folder / f"captioner-{larger}", larger=larger)
            found = compared(folder / "clips", captioner, count)
            model = "25 M parameters" if larger else "1 M parameters"
            share = 1 - found["at hand"] / found["loop"]
            rows.append(
                (
                    f"recaption stage, {count} clips, {model}",
                    f"the model in a loop ({found['loop']:.1f} s, {share:.0%} of it reading)",
                    f"{found['stage'] / found['loop']:.2f}x wall; {found['start']:.1f} s before "
                    f"for Ray and its actors; {found['stage'] / found['at hand']:.2f}x of the "
                    "model on frames in memory",
                )
            )
    report("recaption", rows)


if __name__ == "__main__":
    main()
