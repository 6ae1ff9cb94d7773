"""Work that is cheaper done on several rows together: read ahead in threads, then in batches.

    a block's rows, longest first -> read, in threads -> batches -> one result a row

While one batch is worked on, the next is being read. What goes wrong with a row stays with it: a
batch that fails is done again row by row.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from openreel.pipeline.clip import Row, Verdict

In = TypeVar("In", bound=Row)
Out = TypeVar("Out", bound=Verdict)


@dataclass(frozen=True, kw_only=True)
class Batched(Generic[In, Out]):
    """A row function in two parts."""

    read: Callable[[In], Any]
    """of one row, in a thread; may raise as a row function may"""
    work: Callable[[Sequence[tuple[In, Any]]], Sequence[Out]]
    """of rows with what was read of them; one output each, in order. An output never depends on
    which rows share a call"""
    length: Callable[[In], float]
    """rows of like length share a batch"""
    num_readers: int = 2
    """threads; at most two batches' worth of what they read is in memory"""


def in_batches(
    function: Batched[In, Out], rows: Sequence[In], batch: int
) -> Iterator[list[tuple[int, Out | Exception]]]:
    """Yield for one batch after another (index of the row, its output or what it raised).

    batch: rows that are worked on together, at most; the batches of a block are evenly full.
    """
    order = sorted(range(len(rows)), key=lambda i: (-function.length(rows[i]), i))
    count = -(-len(order) // batch)
    size = -(-len(order) // max(count, 1))
    batches = [order[i : i + size] for i in range(0, len(order), size)] if order else []
    pool = ThreadPoolExecutor(function.num_readers)
    try:
        read: list[list[Future[Any]]] = []
        for number, members in enumerate(batches):
            ahead = batches[len(read) : number + 2]
            read.extend([pool.submit(function.read, rows[i]) for i in one] for one in ahead)
            yield _done(function, rows, members, read[number])
            read[number] = []  # let go of what was read
    finally:
        pool.shutdown(cancel_futures=True)


def _done(
    function: Batched[In, Out],
    rows: Sequence[In],
    members: Sequence[int],
    read: Sequence["Future[Any]"],
) -> list[tuple[int, Out | Exception]]:
    bad: list[tuple[int, Out | Exception]] = []
    good: list[tuple[int, Any]] = []
    for i, future in zip(members, read, strict=True):
        try:
            good.append((i, future.result()))
        except Exception as error:
            bad.append((i, error))
    found = _worked(function, [(rows[i], content) for i, content in good])
    return [*bad, *zip((i for i, _ in good), found, strict=True)]


def _worked(function: Batched[In, Out], some: Sequence[tuple[In, Any]]) -> list[Out | Exception]:
    """Outputs of rows that were read; a batch that fails is tried again one by one."""
    if not some:
        return []
    try:
        found = list(function.work(some))
        if len(found) != len(some):
            raise RuntimeError(f"{len(found)} outputs for {len(some)} rows")
    except Exception as error:
        if len(some) == 1:
            return [error]
        return [one for row in some for one in _worked(function, [row])]
    return [*found]
