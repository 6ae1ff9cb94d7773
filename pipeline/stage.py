"""A station on data: one row in, one row out, on Ray Data, with a verdict for every row.

    rows -> those not yet in the table -> blocks -> a worker each -> one part a block -> compaction

A row is in the table before anyone hears of it, so that a crash costs the work in flight and no
more; the same call again goes on. A row function may raise: MediaError is a verdict on the row
(rejected), anything else is a failure (failed) that retry_failed tries again. One that takes
several rows at a time (batches.py) gives each row its own verdict all the same.
"""

import dataclasses
import inspect
import pickle
import typing
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from openreel.pipeline import table
from openreel.pipeline.batches import Batched, in_batches
from openreel.pipeline.clip import Row, Status, Verdict
from openreel.pipeline.cluster import start_ray, usable
from openreel.pipeline.errors import InputError, MediaError
from openreel.pipeline.runs import OnRow, logged, version
from openreel.pipeline.view import Places, View

In = TypeVar("In", bound=Row)
Out = TypeVar("Out", bound=Verdict)

_WINDOW = 4096
"""rows that the driver hands to Ray at a time, so that it holds no more of them"""
WORKER_LOST = "the worker process died (out of memory, or a crash in native code)"


@dataclass(frozen=True, kw_only=True)
class Stage(Generic[In, Out]):
    """What a station does to a row, and what it needs for that."""

    name: str
    key: str
    """the key column, a field of the input row and of the output row"""
    record: type[Out]
    fingerprint: Mapping[str, object]
    """every setting that the output depends on; a resume with another one is refused"""
    build: Callable[[], Callable[[In], Out] | Batched[In, Out]]
    """picklable; called in each worker, where models are loaded, and returns the row function, or
    one for several rows at a time"""
    holds_model: bool = False
    """True: few long-lived workers that build once; False: a short task per block"""
    num_cpus: float = 1.0
    num_gpus: float = 0.0
    rows_per_block: int = 4
    """rows that a worker is handed at a time, at most: Ray takes a tenth of a second between two"""
    commit_block: bool = False
    """True: a block is committed as one, for cheap rows; False: each row (or batch) as soon as it
    is done, so that a lost worker costs what is in its hands"""
    batch: int = 1
    """rows that a function for several takes at a time, at most"""
    max_workers: int | None = None
    """at most; None: as many as there are processors for"""


def run_stage(
    stage: Stage[In, Out],
    rows: Sequence[In] | View[Any],
    folder: Path,
    *,
    retry_failed: bool = False,
    max_attempts: int = 3,
    on_row: OnRow | None = None,
) -> None:
    """Bring every row of `rows` into the table at folder, which workers must be able to reach.

    rows: records, or another table's view, of which only the rows that have work are read. Rows in
    the table already are not done again, except, with retry_failed, failed ones that have had fewer
    than max_attempts. on_row(key, status) hears of each finished row; what it raises stops the run.
    Raises InputError for repeated keys and for a table with another fingerprint; an error from
    stage.build or from writing the table is raised as it is.
    """
    with table.one_writer(folder):
        table.create(folder, stage=stage.name, key=stage.key, fingerprint=stage.fingerprint)
        keys = _keys(stage, rows)
        _check_unique(stage, keys)
        todo, attempts = _todo(stage, keys, folder, max_attempts if retry_failed else 0)
        with logged(folder, stage.name, on_row) as note:
            for start in range(0, len(todo), _WINDOW):
                window = slice(start, start + _WINDOW)
                some = _take(rows, todo[window])
                given = zip(some, attempts[window], strict=True)
                _run_window(
                    stage, [_Job(row=row, attempt=int(n)) for row, n in given], folder, note
                )
        table.compact(folder)


def _keys(stage: Stage[In, Out], rows: Sequence[In] | View[Any]) -> pa.ChunkedArray:
    if isinstance(rows, View):
        return rows.keys if rows.key == stage.key else rows.column(stage.key)
    return pa.chunked_array([pa.array([_key(stage, row) for row in rows], pa.string())])


def _take(rows: Sequence[In] | View[Any], indices: Places) -> list[In]:
    return rows.rows(indices) if isinstance(rows, View) else [rows[i] for i in indices]


def _check_unique(stage: Stage[In, Out], keys: pa.ChunkedArray) -> None:
    if pc.count_distinct(keys).as_py() != len(keys):
        counts = pc.value_counts(keys)
        key = next(c["values"] for c in counts.to_pylist() if c["counts"] > 1)
        raise InputError(f"{stage.name}.{stage.key}", f"{key} twice", "a key for each row")


def _todo(
    stage: Stage[In, Out], keys: pa.ChunkedArray, folder: Path, max_attempts: int
) -> tuple[Places, Places]:
    """The places of the rows that have work, and which attempt each is."""
    known = table.view(folder, stage.record)
    place = pc.index_in(keys, value_set=known.keys.combine_chunks())
    new = pc.is_null(place).to_numpy()
    failed = pc.equal(known.index["status"], "failed").to_numpy() & (known.attempts < max_attempts)
    found = place.fill_null(0).to_numpy().astype(np.int64)
    again = ~new & failed[found] if len(known) else np.zeros(len(new), bool)
    attempts = np.ones(len(new), np.int64)
    attempts[again] = known.attempts[found[again]] + 1
    todo = np.flatnonzero(new | again)
    return todo, attempts[todo]


def _run_window(
    stage: Stage[In, Out], jobs: Sequence["_Job[In]"], folder: Path, note: OnRow
) -> None:
    """Do some jobs; whatever becomes of the workers, each ends in the table."""
    heard: set[str] = set()

    def hear(key: str, status: Status) -> None:
        heard.add(key)
        note(key, status)

    _execute(stage, jobs, folder, hear, alone=any(job.attempt > 1 for job in jobs))
    # A row that kills its worker takes along the rest of its block; and a machine may go by itself:
    # only what is lost three times, and alone the last two, is buried.
    lost = _lost(stage, jobs, folder, heard)
    for _ in range(2):
        _execute(stage, lost, folder, hear, alone=True)
        lost = _lost(stage, lost, folder, heard)
    if len(lost) == len(jobs) > 1:
        raise RuntimeError(f"{stage.name}: no row came back; see Ray's log for the cause")
    _bury(stage, lost, folder, hear)


@dataclass(frozen=True, kw_only=True)
class _Job(Generic[In]):
    row: In
    attempt: int


@dataclass(frozen=True, kw_only=True)
class _Done:
    """What comes back from a worker: verdicts by key, or the error that stops the run."""

    verdicts: tuple[tuple[str, Status], ...] = ()
    error: Exception | None = None


def _key(stage: Stage[In, Out], row: In | Out) -> str:
    return str(getattr(row, stage.key))


def _execute(
    stage: Stage[In, Out],
    jobs: Sequence[_Job[In]],
    folder: Path,
    hear: OnRow,
    *,
    alone: bool,
) -> None:
    """Run jobs, each alone in its block if asked, and pass on what is heard of them."""
    for key, status in _run(stage, jobs, folder, alone) if jobs else ():
        hear(key, status)


def _run(
    stage: Stage[In, Out], jobs: Sequence[_Job[In]], folder: Path, alone: bool
) -> Iterator[tuple[str, Status]]:
    """Execute on Ray Data; yields (key, status) as blocks are committed, in any order."""
    start_ray()
    import ray
    from ray.data import ActorPoolStrategy, TaskPoolStrategy

    workers = max(1, int(usable("CPU") / stage.num_cpus))
    if stage.num_gpus:
        workers = max(1, min(workers, int(usable("GPU") / stage.num_gpus)))
    workers = min(workers, stage.max_workers or workers)
    # Small enough that the last blocks end nearly together, and yet a batch if there are so many.
    batch = min(stage.batch, -(-len(jobs) // workers))
    rows_per_block = min(stage.rows_per_block, max(1, len(jobs) // (4 * workers), batch))
    if stage.commit_block:
        rows_per_block = stage.rows_per_block
    blocks = len(jobs) if alone else -(-len(jobs) // rows_per_block)
    dataset = ray.data.from_items(
        # Pickled: Arrow would have to guess the type of an empty list, and rows differ.
        [{"job": ray.cloudpickle.dumps(job)} for job in jobs],
        override_num_blocks=blocks,
    )
    # One task at a time on an actor: those that wait would die with the one that kills it.
    pool = (
        ActorPoolStrategy(size=min(workers, blocks), max_tasks_in_flight_per_actor=1)
        if stage.holds_model
        else TaskPoolStrategy()
    )
    with warnings.catch_warnings():
        # The notice that this argument will go names no other way to bound the retries.
        warnings.filterwarnings("ignore", message=".*ray_remote_args_fn.*")
        results = dataset.map_batches(
            _Worker if stage.holds_model else _work,
            fn_constructor_args=(stage, folder) if stage.holds_model else None,
            fn_args=None if stage.holds_model else (stage, folder),
            batch_size=None,
            compute=pool,
            num_cpus=stage.num_cpus,
            num_gpus=stage.num_gpus or None,
            ray_remote_args_fn=_actor_retries if stage.holds_model else _task_retries,
        )
    for batch in results.iter_batches(batch_size=None, prefetch_batches=0, batch_format="numpy"):
        for pickled in batch["done"]:
            done: _Done = pickle.loads(pickled)
            if done.error is not None:
                raise done.error
            yield from done.verdicts


# Ray Data's default is to try for ever a block that kills its worker. Here none is tried again by
# Ray, which does not know what of it has been committed.
def _task_retries() -> dict[str, int]:
    return {"max_retries": 0}


def _actor_retries() -> dict[str, int]:
    return {"max_restarts": -1, "max_task_retries": 0}


class _Worker:
    """A long-lived worker: builds the row function once. No error leaves it except as a _Done."""

    def __init__(self, stage: Stage[Any, Any], folder: Path) -> None:
        self.stage, self.folder = stage, folder
        self.error: Exception | None = None
        try:
            self.function = stage.build()
        except Exception as error:
            self.error = error

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[bytes]]:
        if self.error is not None:
            return _packed(_Done(error=self.error))
        try:
            jobs = [pickle.loads(job) for job in batch["job"]]
            rows = []
            for done in self._done(jobs):
                table.append(self.folder, done)
                rows += done
        except Exception as error:
            return _packed(_Done(error=error))
        return _packed(_Done(verdicts=tuple((_key(self.stage, r), r.status) for r in rows)))

    def _done(self, jobs: Sequence[_Job[Any]]) -> Iterator[list[Any]]:
        """The rows of the jobs, in the portions in which they are committed."""
        stage, function = self.stage, self.function
        portions: Iterator[list[Any]]
        if isinstance(function, Batched):
            found = in_batches(function, [job.row for job in jobs], stage.batch)
            portions = ([_settled(stage, jobs[i], out) for i, out in some] for some in found)
        else:
            portions = ([_row(stage, function, job)] for job in jobs)
        if stage.commit_block:
            portions = iter([[row for portion in portions for row in portion]])
        return portions


def _work(batch: Mapping[str, Any], stage: Stage[Any, Any], folder: Path) -> dict[str, list[bytes]]:
    return _Worker(stage, folder)(batch)


def _packed(done: _Done) -> dict[str, list[bytes]]:
    return {"done": [pickle.dumps(done)]}


def _row(stage: Stage[In, Out], function: Callable[[In], Out], job: _Job[In]) -> Out:
    """The row's output with its verdict filled in, whatever the row function does."""
    try:
        return _settled(stage, job, function(job.row))
    except Exception as error:
        return _settled(stage, job, error)


def _settled(stage: Stage[In, Out], job: _Job[In], found: Out | Exception) -> Out:
    """The row of an output, or of what was raised in its stead."""
    match found:
        case MediaError():
            return _tombstone(stage, job, "rejected", str(found))
        case Exception():
            return _tombstone(stage, job, "failed", f"{type(found).__name__}: {found}")
        case out:
            return dataclasses.replace(
                out, stage=stage.name, attempt=job.attempt, version=version()
            )


def _tombstone(stage: Stage[In, Out], job: _Job[In], status: Status, reason: str) -> Out:
    """A row for what did not work: its required fields are the input's, or else empty."""
    hints = typing.get_type_hints(stage.record)
    required: dict[str, Any] = {}
    for name, parameter in inspect.signature(stage.record).parameters.items():
        if parameter.default is parameter.empty:
            empty = typing.get_origin(hints[name]) or hints[name]
            required[name] = getattr(job.row, name) if hasattr(job.row, name) else empty()
    verdict = {"status": status, "stage": stage.name, "attempt": job.attempt}
    verdict |= {"version": version()}
    return stage.record(**{**required, **verdict, "reason": " ".join(reason.split())[:500]})


def _lost(
    stage: Stage[In, Out], jobs: Sequence[_Job[In]], folder: Path, heard: set[str]
) -> list[_Job[In]]:
    """Jobs of which neither the driver has heard nor the table knows.

    The table is asked, too: a worker may die between the commit and the news.
    """
    silent = [job for job in jobs if _key(stage, job.row) not in heard]
    if not silent:
        return []
    known = table.view(folder, stage.record)
    attempts = dict(zip(known.keys.to_pylist(), known.attempts, strict=True))
    return [job for job in silent if attempts.get(_key(stage, job.row), 0) < job.attempt]


def _bury(stage: Stage[In, Out], jobs: Sequence[_Job[In]], folder: Path, hear: OnRow) -> None:
    """Rows that killed their worker although alone in it: they end in the table all the same."""
    rows = [_tombstone(stage, job, "failed", WORKER_LOST) for job in jobs]
    if rows:
        table.append(folder, rows)
    for row in rows:
        hear(_key(stage, row), row.status)
