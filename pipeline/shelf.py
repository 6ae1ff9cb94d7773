"""Clips laid out on disk in the order of their rank, so that a number is all that memory needs.

N    clips; a clip's number is its place in the order, the best is 0
M    their hashes, all in one row
V D  those that have an embedding, and its length
"""

import contextlib
import hashlib
import heapq
import itertools
import pickle
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from openreel.pipeline.bands import ROW
from openreel.pipeline.errors import InputError
from openreel.pipeline.signature import BITS

KINDS = ("video", "image")


@dataclass(frozen=True, kw_only=True)
class Item:
    """What is compared of one clip."""

    clip_id: str
    kind: str
    """video or image; only clips of one kind are compared"""
    phashes: tuple[int, ...]
    """63 bits each, in order of time"""
    rank: tuple[Any, ...]
    """of several that are the same, the one with the smallest rank is kept"""
    source: str = ""
    """clips of one source are not compared: two seconds before a still camera look alike and are
    no copies; empty: not known"""
    vector: tuple[float, ...] | None = None
    """an embedding of length 1"""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError("kind", self.kind, " or ".join(KINDS))
        if not all(0 <= value < 1 << BITS for value in self.phashes):
            raise InputError("phashes", self.clip_id, f"numbers of {BITS} bits")
        if self.vector is not None and abs(np.linalg.norm(self.vector) - 1) > 1e-3:
            raise InputError("vector", self.clip_id, "one of length 1")


def _order(item: Item) -> tuple[Any, ...]:
    return (item.rank, item.clip_id)


@dataclass(frozen=True, kw_only=True, eq=False)
class Shelf:
    """The clips of one search. The arrays lie in files; only what is looked at is in memory."""

    hashes: npt.NDArray[np.uint64]
    """(M,)"""
    starts: npt.NDArray[np.int64]
    """(N + 1,) where each clip's hashes begin"""
    kinds: npt.NDArray[np.uint8]
    """(N,)"""
    sources: npt.NDArray[np.uint64]
    """(N,) 0: not known"""
    names: npt.NDArray[np.uint8]
    """the ids, one after the other"""
    name_starts: npt.NDArray[np.int64]
    """(N + 1,)"""
    embedded: npt.NDArray[np.uint32]
    """(V,) which clips have an embedding, in order"""
    vectors: npt.NDArray[np.float32]
    """(V, D)"""

    def __len__(self) -> int:
        return len(self.kinds)

    def hashes_of(self, clip: int) -> npt.NDArray[np.uint64]:
        return np.asarray(self.hashes[self.starts[clip] : self.starts[clip + 1]])

    def vector_of(self, clip: int) -> npt.NDArray[np.float32] | None:
        at = int(np.searchsorted(self.embedded, clip))
        found = at < len(self.embedded) and self.embedded[at] == clip
        return np.asarray(self.vectors[at]) if found else None

    def clip_id(self, clip: int) -> str:
        return bytes(self.names[self.name_starts[clip] : self.name_starts[clip + 1]]).decode()

    def may_pair(
        self, a: npt.NDArray[np.uint32], b: npt.NDArray[np.uint32]
    ) -> npt.NDArray[np.bool_]:
        """Which of some pairs of clips are of one kind and not known to be of one source."""
        source = np.asarray(self.sources[a])
        apart = (source == 0) | (source != self.sources[b])
        fit: npt.NDArray[np.bool_] = apart & (self.kinds[a] == self.kinds[b])
        return fit

    def write_rows(self, path: Path, at_once: int) -> None:
        """Write every hash but 0 with its clip's number, equal ones of a clip mostly once."""
        with path.open("wb") as file:
            for begin in range(0, len(self.hashes), at_once):
                rows = np.empty(min(at_once, len(self.hashes) - begin), ROW)
                rows["hash"] = self.hashes[begin : begin + at_once]
                index = np.arange(begin, begin + len(rows))
                rows["clip"] = np.searchsorted(self.starts, index, side="right") - 1
                rows = rows[np.lexsort((rows["hash"], rows["clip"]))]
                first = np.concatenate([[True], rows[1:] != rows[:-1]])
                rows[first & (rows["hash"] != 0)].tofile(file)


def shelve(items: Iterable[Item], folder: Path, at_once: int) -> Shelf:
    """Sort items by rank and lay them out in an existing folder, at_once of them in memory.

    Raises InputError for vectors of several lengths.
    """
    numbers, remaining = itertools.count(), iter(items)
    runs: list[Path] = []
    while run := sorted(itertools.islice(remaining, at_once), key=_order):
        runs.append(_spill(run, folder / f"run-{next(numbers)}"))
        run.clear()  # not two of them in memory, while the next is read
    while len(runs) > _OPEN_FILES:
        some, runs = runs[:_OPEN_FILES], runs[_OPEN_FILES:]
        runs.append(_spill(_merged(some), folder / f"run-{next(numbers)}"))
    width = _write(_merged(runs), folder)

    def column(name: str) -> npt.NDArray[Any]:
        path, dtype = folder / name, _COLUMNS[name]
        return np.memmap(path, dtype, mode="r") if path.stat().st_size else np.empty(0, dtype)

    columns = {name: column(name) for name in _COLUMNS}
    return Shelf(**{**columns, "vectors": columns["vectors"].reshape(-1, max(1, width))})


_COLUMNS: dict[str, Any] = {
    "hashes": np.uint64,
    "starts": np.int64,
    "kinds": np.uint8,
    "sources": np.uint64,
    "names": np.uint8,
    "name_starts": np.int64,
    "embedded": np.uint32,
    "vectors": np.float32,
}


_OPEN_FILES = 200
"""sorted files that are merged at once"""


def _spill(items: Iterable[Item], path: Path) -> Path:
    """Keep items in a file, in their order."""
    with path.open("wb") as file:
        for item in items:
            pickle.dump(item, file, protocol=pickle.HIGHEST_PROTOCOL)
    return path


def _merged(runs: list[Path]) -> Iterator[Item]:
    """The items of sorted files, sorted; the files are gone at the end."""
    yield from heapq.merge(*map(_read, runs), key=_order)
    for path in runs:
        path.unlink()


def _read(path: Path) -> Iterator[Item]:
    with path.open("rb") as file:
        while True:
            try:
                yield pickle.load(file)
            except EOFError:
                return


def _write(items: Iterable[Item], folder: Path) -> int:
    """Append items to the columns' files; the length of the vectors, 0 if there are none."""
    width = num_hashes = num_bytes = 0
    with contextlib.ExitStack() as stack:
        files = {name: stack.enter_context((folder / name).open("wb")) for name in _COLUMNS}

        def add(name: str, *values: Any) -> None:
            files[name].write(np.array(values, _COLUMNS[name]).tobytes())

        add("starts", 0)
        add("name_starts", 0)
        for number, item in enumerate(items):
            name = item.clip_id.encode()
            num_hashes, num_bytes = num_hashes + len(item.phashes), num_bytes + len(name)
            files["names"].write(name)
            add("hashes", *item.phashes)
            add("starts", num_hashes)
            add("name_starts", num_bytes)
            add("kinds", KINDS.index(item.kind))
            source = hashlib.blake2b(item.source.encode(), digest_size=8).digest()
            files["sources"].write(source if item.source else bytes(8))
            if item.vector is not None:
                if len(item.vector) != (width or len(item.vector)):
                    raise InputError("vector", item.clip_id, f"one of {width} numbers, as others")
                width = len(item.vector)
                add("embedded", number)
                add("vectors", *item.vector)
    return width
