"""What killing does to recaptioning: actors and drivers of runs over real small clips.

A dataset is captioned under kill -9, several times over: an actor is killed and the run goes on by
itself; then its driver is, and the same command is given again; at last it is left in peace. Then
every clip must have one row, and that row must say what an uninterrupted run says: texts and
verdicts equal, log-probabilities and agreements to 1e-4, since rows that are done again are done
alone. Each window that a captioner is shown leaves a line, so that work in hand is known at each
kill, and work that was done again is counted.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq

from openreel.pipeline import table
from openreel.pipeline.clip import Clip
from openreel.pipeline.curate import CLIPS
from openreel.pipeline.keyed import uniform
from openreel.recaption.caption import Caption, ClipCaptions
from openreel.recaption.tables import caption_tables
from openreel.recaption.writer import Sight, Window, Writer, Written
from tests.benchmarks.bench_faults import MARK, quiet, sweep
from tests.benchmarks.small_clips import dataset_of, small_clips, untrained
from tests.benchmarks.timing import report

KILLS = int(os.environ.get("OPENREEL_BENCH_KILLS", "20"))
NUM_CLIPS = int(os.environ.get("OPENREEL_BENCH_CLIPS", "192"))
KILLS_A_DATASET = 4
BATCH = 4
PAUSE_S = 0.15
"""that a batch takes longer, as with a captioner of some size"""


@dataclass
class Traced:
    """A captioner that leaves a line for each window before it writes, and takes its time."""

    writer: Writer
    log: Path

    @property
    def source(self) -> str:
        return self.writer.source

    @property
    def identity(self) -> str:
        return self.writer.identity

    @property
    def sight(self) -> Sight:
        return self.writer.sight

    def prompt(self, kind: str) -> str:
        return self.writer.prompt(kind)

    def write(self, windows: Sequence[Window], kind: str) -> list[Written]:
        if kind == "short":
            with self.log.open("a") as log:
                log.write("".join(f"{window.key.split()[0]}\n" for window in windows))
            time.sleep(PAUSE_S)
        return self.writer.write(windows, kind)


def traced(build: Callable[[], Writer], log: Path) -> Any:
    return Traced(build(), log)


def drive(dataset: Path, captioner: Path, log: Path) -> None:
    """What the verb does, with a captioner that leaves lines."""
    from ray import cloudpickle

    from openreel.deploy.stations_text import captioner_of
    from openreel.pipeline.cluster import start_ray
    from openreel.pipeline.stage import run_stage
    from openreel.recaption.run import RecaptionConfig, fingerprint, recaption_stage
    from openreel.recaption.tables import place_of

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    config = RecaptionConfig(batch_size=BATCH)
    plan = captioner_of(config, captioner)
    place = place_of(dataset, plan.source, fingerprint(plan, config))
    plan = replace(plan, build=partial(traced, plan.build, log))
    start_ray(num_cpus=2)
    clips = table.usable(dataset / CLIPS, Clip)
    run_stage(recaption_stage(plan, config, take=place.take), clips, place.folder)


def driver(dataset: Path, captioner: Path, log: Path) -> "subprocess.Popen[bytes]":
    module = "tests.benchmarks.bench_recaption_faults"
    argv = [sys.executable, "-m", module, str(dataset), str(captioner), str(log)]
    return quiet(argv, {**os.environ, MARK: str(dataset)})


def actors(run: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    try:
        below = psutil.Process(run.pid).children(recursive=True)
        return [p for p in below if "MapWorker" in (p.cmdline() or [""])[0]]
    except psutil.NoSuchProcess:
        return []


def begun(log: Path) -> list[str]:
    return log.read_text().split() if log.exists() else []


def committed(dataset: Path) -> list[str]:
    """The key of every row that lies in a part, as often as it lies there."""
    parts = [part for folder in caption_tables(dataset) for part in table.parts(folder)]
    return [key for part in parts for key in pq.read_table(part)["clip_id"].to_pylist()]


def wait_for(run: "subprocess.Popen[bytes]", log: Path, count: int) -> bool:
    """Wait until a run has begun this many clips; False if it was over before."""
    while run.poll() is None:
        if len(begun(log)) >= count:
            return True
        time.sleep(0.01)
    return False


def killed(number: int, run: "subprocess.Popen[bytes]", dataset: Path, log: Path) -> Counter[str]:
    """Kill an actor (even numbers) or the driver (odd) at some moment of the run's work."""
    later = 1 + int(uniform(0, "kill", number) * NUM_CLIPS / (KILLS_A_DATASET + 2))
    if not wait_for(run, log, len(begun(log)) + later):
        return Counter({"too late": 1})
    time.sleep(uniform(0, "moment", number) * PAUSE_S)
    found = actors(run)
    while number % 2 == 0 and not found and run.poll() is None:
        found = actors(run)  # those that were killed before are being started again
    stored = committed(dataset)
    counts = Counter({"with rows in hand": int(bool(set(begun(log)) - set(stored)))})
    # Counted here, too, because a run that ends in peace merges its parts.
    counts["twice"] = len(stored) - len(set(stored))
    if number % 2:
        run.send_signal(signal.SIGKILL)
        run.wait()
        sweep(str(dataset))
        return counts + Counter({"drivers": 1})
    if not found:
        return Counter({"too late": 1})
    found[int(uniform(0, "actor", number) * len(found))].kill()
    return counts + Counter({"actors": 1})


def said(dataset: Path) -> dict[str, ClipCaptions]:
    (folder,) = caption_tables(dataset)
    return {row.clip_id: row for row in table.read(folder, ClipCaptions)}


def alike(one: ClipCaptions, other: ClipCaptions) -> bool:
    return one.status == other.status and all(
        _alike(a, b) for a, b in zip(one.captions, other.captions, strict=True)
    )


def _alike(one: Caption, other: Caption) -> bool:
    numbers = [(one.logprob, other.logprob), (one.agreement, other.agreement)]
    near = all(a == b or (a and b and abs(a - b) < 1e-4) for a, b in numbers)
    bare = {"logprob": None, "agreement": None}
    return near and replace(one, **bare) == replace(other, **bare)


def trial(
    first: int, kills: int, place: Path, clips: list[Clip], captioner: Path, clean: Path
) -> Counter[str]:
    """Some kills of one dataset's runs, the last run in peace, and the comparison."""
    dataset, log = dataset_of(place, clips), place / "log"
    counts: Counter[str] = Counter()
    run = driver(dataset, captioner, log)
    for number in range(first, first + kills):
        if run.poll() is not None:
            run = driver(dataset, captioner, log)
        counts += killed(number, run, dataset, log)
    if run.poll() is not None:
        run = driver(dataset, captioner, log)
    status = run.wait()
    wanted, found, stored = said(clean), said(dataset), committed(dataset)
    counts["runs that failed"] += int(status != 0)
    counts["missing"] += len(wanted.keys() - found.keys())
    counts["twice"] += len(stored) - len(set(stored))
    counts["different"] += sum(not alike(found[key], row) for key, row in wanted.items())
    counts["written again"] += len(begun(log)) - len(set(begun(log)))
    return counts


def main() -> None:
    if len(sys.argv) > 1:
        drive(*map(Path, sys.argv[1:]))
        return
    total: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clips = small_clips(folder / "media", NUM_CLIPS)
        captioner = untrained(folder / "captioner")
        clean = dataset_of(folder / "clean", clips)
        assert driver(clean, captioner, folder / "log").wait() == 0
        for first in range(0, KILLS, KILLS_A_DATASET):
            kills = min(KILLS_A_DATASET, KILLS - first)
            found = trial(first, kills, folder / f"{first}", clips, captioner, clean)
            total += found
            print(first, json.dumps(found), file=sys.stderr)
    report(
        "recaption_faults",
        [
            (
                f"{NUM_CLIPS} clips captioned under kill -9 of {total['actors']} actors and "
                f"{total['drivers']} drivers ({total['with rows in hand']} with rows in hand)",
                "uninterrupted run",
                f"{total['missing']} missing, {total['twice']} twice, {total['different']} "
                f"different, {total['written again']} written again, {total['too late']} kills "
                f"too late, {total['runs that failed']} runs failed",
            )
        ],
    )


if __name__ == "__main__":
    main()
