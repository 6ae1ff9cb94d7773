"""What it costs to go on: seconds before the first new row, by the rows that are done already.

A table of N clips of which all but one have a copy's row; the stage is called, and the clock runs
until the one new row is heard of. Ray runs before the clock. Beside it Ray Data's own checkpointing
on the same ids, and the planner alone (no Ray) at ten million rows.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from openreel.pipeline import table
from openreel.pipeline.clip import Clip, Copy, Row
from openreel.pipeline.stage import Stage, _todo, run_stage
from tests.benchmarks.timing import report

DONE = (100, 1_000, 10_000, 100_000, 1_000_000)
PLANNED = 10_000_000
_ROWS_A_PART = 250_000


def ids(start: int, end: int) -> pa.Array:
    """Random-looking ids of 32 digits, all different."""
    numbers = np.arange(start, end, dtype=np.uint64)
    mixed = numbers * np.uint64(0x9E3779B97F4A7C15)
    return pa.array([f"{a:016x}{b:016x}" for a, b in zip(mixed, numbers, strict=True)])


def write(folder: Path, record: type[Row], example: Row, count: int) -> None:
    """A compacted table of `count` rows that differ in their key."""
    table.create(folder, stage="benchmark", key="clip_id", fingerprint={})
    schema = record.schema()
    values = example.to_row()
    for start in range(0, count, _ROWS_A_PART):
        keys = ids(start, min(start + _ROWS_A_PART, count))
        constant = {
            name: pa.repeat(pa.scalar(values[name], schema.field(name).type), len(keys))
            for name in schema.names
        }
        rows = pa.table({**constant, "clip_id": keys}, schema=schema)
        pq.write_table(rows, folder / f"part-{start:032x}.parquet", compression="zstd")


CLIP = Clip(
    clip_id="",
    video_id="v",
    uri="/film.mp4",
    kind="video",
    start_frame=0,
    num_frames=100,
    start_pts=0,
    end_pts=100,
    time_base="1/25",
    fps=25.0,
    width=1280,
    height=720,
    phashes=tuple(range(8)),
)


def first_new_row(done: int, folder: Path) -> float:
    """Seconds from the call to the one new row."""
    write(folder / "clips", Clip, CLIP, done + 1)
    write(folder / "copies", Copy, Copy(clip_id=""), done)
    stage: Stage[Clip, Copy] = Stage(
        name="benchmark", key="clip_id", record=Copy, fingerprint={}, build=lambda: copied
    )
    heard = []
    start = time.perf_counter()
    rows = table.view(folder / "clips", Clip).having("ok")
    run_stage(
        stage, rows, folder / "copies", on_row=lambda key, status: heard.append(time.perf_counter())
    )
    assert len(heard) == 1
    return heard[0] - start


def copied(clip: Clip) -> Copy:
    return Copy(clip_id=clip.clip_id)


RAY = """
import json, sys, time
from pathlib import Path
import pyarrow as pa, pyarrow.parquet as pq
import ray, ray.data
from ray.data.checkpoint import CheckpointConfig
from openreel.pipeline.cluster import start_ray
from tests.benchmarks.bench_resume import ids
folder, done = Path(sys.argv[1]), int(sys.argv[2])
start_ray(num_cpus=2)
context = ray.data.DataContext.get_current()
first = []

def step(batch):
    (folder / f"saw-{time.time_ns()}").touch()
    return batch

def run(count):
    (folder / "in").mkdir(exist_ok=True)
    pq.write_table(pa.table({"id": ids(0, count)}), folder / "in" / "rows.parquet")
    context.checkpoint_config = CheckpointConfig(
        id_column="id",
        checkpoint_path=str(folder / "checkpoint"),
        delete_checkpoint_on_success=False,
    )
    start = time.time_ns()
    for old in folder.glob("saw-*"):
        old.unlink()
    ray.data.read_parquet(str(folder / "in")).map_batches(step).write_parquet(str(folder / "out"))
    seen = sorted(int(p.name[4:]) for p in folder.glob("saw-*"))
    return (seen[0] - start) / 1e9

run(done)
print(json.dumps(run(done + 1)))
"""


def ray_first_new_row(done: int, folder: Path, patience_s: int = 240) -> str:
    argv = [sys.executable, "-c", RAY, str(folder), str(done)]
    try:
        run = subprocess.run(argv, capture_output=True, text=True, timeout=patience_s)
    except subprocess.TimeoutExpired:
        return f"not within {patience_s} s"
    if run.returncode:
        return "fails: " + run.stderr.strip().splitlines()[-1][:80]
    return f"{json.loads(run.stdout.splitlines()[-1]):.1f} s"


def planned(done: int, folder: Path) -> tuple[float, float]:
    """Seconds, and GiB of memory, in which the planner finds one new row among `done`."""
    write(folder / "clips", Clip, CLIP, done + 1)
    write(folder / "copies", Copy, Copy(clip_id=""), done)
    code = (
        "import sys; from pathlib import Path; from tests.benchmarks.bench_resume import plan; "
        "plan(Path(sys.argv[1]))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True
    )
    seconds, gib = json.loads(run.stdout)
    return seconds, gib


def plan(folder: Path) -> None:
    """The planner alone, in a process of its own."""
    stage: Stage[Clip, Copy] = Stage(
        name="benchmark", key="clip_id", record=Copy, fingerprint={}, build=lambda: copied
    )
    start = time.perf_counter()
    rows = table.view(folder / "clips", Clip).having("ok")
    places, attempts = _todo(stage, rows.keys, folder / "copies", 0)
    some: Sequence[Clip] = rows.rows(places)
    assert len(some) == len(attempts) == 1
    seconds = time.perf_counter() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps((seconds, memory)))


def main() -> None:
    from openreel.pipeline.cluster import start_ray

    figures = []
    start_ray(num_cpus=2)
    with tempfile.TemporaryDirectory() as warm:
        first_new_row(10, Path(warm))
    for done in DONE:
        with tempfile.TemporaryDirectory() as folder:
            seconds = first_new_row(done, Path(folder))
        figures.append((f"first new row after {done:,} done", "", f"{seconds:.2f} s"))
        print(figures[-1], file=sys.stderr)
    for done in DONE[:: len(DONE) // 2]:
        with tempfile.TemporaryDirectory() as folder:
            shown = ray_first_new_row(done, Path(folder))
        figures.append((f"first new row after {done:,} done", "Ray Data's checkpoint", shown))
        print(figures[-1], file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        seconds, gib = planned(PLANNED, Path(folder))
    figures.append((f"planner at {PLANNED:,} done rows", "", f"{seconds:.1f} s, {gib:.1f} GiB"))
    report("resume", figures)


if __name__ == "__main__":
    main()
