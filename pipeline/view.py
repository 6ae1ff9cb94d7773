"""The rows that stand in some Parquet parts, known by key and verdict, read when asked for.

A million rows are known in a second and some 60 bytes each; what a row holds is read from its row
group alone.
"""

import copy
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from openreel.pipeline.clip import Verdict

R = TypeVar("R", bound=Verdict)
Places = npt.NDArray[np.int64]

_INDEX = pa.schema(
    [
        ("key", pa.string()),
        ("status", pa.string()),
        ("attempt", pa.int64()),
        ("file", pa.int32()),
        ("row", pa.int32()),
    ]
)


class View(Generic[R]):
    """Each key once: of several rows the newest attempt, and of one attempt the better verdict.

    Of two equally good rows of one attempt either is right: all readers take the same one, in
    whatever order the parts come.
    """

    def __init__(self, files: Sequence[Path], key: str, record: type[R]) -> None:
        self.files, self.key, self.record = list(files), key, record
        found = [_index(number, path, key) for number, path in enumerate(self.files)]
        self.index = pa.concat_tables(found) if found else _INDEX.empty_table()
        self.index = self.index.take(pa.array(self._standing()))

    def __len__(self) -> int:
        return int(self.index.num_rows)

    @property
    def keys(self) -> pa.ChunkedArray:
        return self.index["key"]

    @property
    def attempts(self) -> npt.NDArray[np.int64]:
        found: npt.NDArray[np.int64] = self.index["attempt"].to_numpy()
        return found

    def where(self, mask: Any) -> Self:
        """Some of the rows, by a boolean array."""
        some = copy.copy(self)
        some.index = self.index.filter(mask)
        return some

    def having(self, status: str) -> Self:
        return self.where(pc.equal(self.index["status"], status))

    def largest_first(self, *columns: str) -> Self:
        """Ordered by the product of some columns: long work that begins last would end alone."""
        size = functools.reduce(pc.multiply, (self.column(name) for name in columns))
        some = copy.copy(self)
        some.index = self.index.take(pc.sort_indices(size, [("", "descending")]))
        return some

    def column(self, name: str) -> pa.ChunkedArray:
        """One column, in the view's order."""
        chunks = [
            c for path in self.files for c in pq.read_table(path, columns=[name])[name].chunks
        ]
        whole = pa.chunked_array(chunks, type=self.record.schema().field(name).type)
        return whole.take(pa.array(self.places()))

    def places(self) -> Places:
        """Where each row lies when all parts are one behind the other."""
        sizes = [pq.read_metadata(path).num_rows for path in self.files]
        starts = np.cumsum([0, *sizes])
        found: Places = starts[self.index["file"].to_numpy()] + self.index["row"].to_numpy()
        return found

    def rows(self, indices: Places | Sequence[int] | None = None) -> list[R]:
        """The records at some places of the view, in that order; all of them by default."""
        return [self.record.from_row(values) for values in self._values(indices)]

    def _values(self, indices: Places | Sequence[int] | None) -> list[dict[str, Any]]:
        index = self.index if indices is None else self.index.take(pa.array(indices, pa.int64()))
        files, rows = index["file"].to_numpy(), index["row"].to_numpy()
        found: list[dict[str, Any]] = [{}] * len(rows)
        for number in np.unique(files):
            places = np.flatnonzero(files == number)
            for place, values in zip(places, _read(self.files[number], rows[places]), strict=True):
                found[place] = values
        return found

    def _standing(self) -> Places:
        """The places in the index of the rows that stand."""
        keys = self.index["key"].combine_chunks()
        places = np.arange(len(keys))
        if pc.count_distinct(keys).as_py() == len(keys):
            return places
        codes = keys.dictionary_encode().indices.to_numpy()
        repeated = np.bincount(codes)[codes] > 1
        contested = places[repeated]
        claims: dict[int, list[tuple[int, dict[str, Any]]]] = {}
        for place, values in zip(contested, self._values(contested), strict=True):
            claims.setdefault(int(codes[place]), []).append((int(place), values))
        winners = [min(claim, key=lambda one: rank(one[1]))[0] for claim in claims.values()]
        return np.sort(np.concatenate([places[~repeated], np.array(winners, np.int64)]))


def rank(row: Mapping[str, Any]) -> tuple[int, int, str]:
    """Smaller is newer, then better; the rest only makes the order total."""
    return (-row["attempt"], ("ok", "rejected", "failed").index(row["status"]), repr(row))


def _index(number: int, path: Path, key: str) -> pa.Table:
    """Key and verdict of a part's rows, with the place of each."""
    found = pq.read_table(path, columns=[key, "status", "attempt"])
    verdict = [found[key], found["status"], found["attempt"]]
    place = [np.full(found.num_rows, number), np.arange(found.num_rows)]
    return pa.table([*verdict, *map(pa.array, place)], names=_INDEX.names).cast(_INDEX)


def _read(path: Path, rows: npt.NDArray[np.int32]) -> list[dict[str, Any]]:
    """Some rows of one part, as plain values, in the order asked; a row group at a time."""
    file = pq.ParquetFile(path)
    sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    ends = np.cumsum(sizes)
    groups = np.searchsorted(ends, rows, side="right")
    found: list[dict[str, Any]] = [{}] * len(rows)
    for group in np.unique(groups):
        places = np.flatnonzero(groups == group)
        local = rows[places] - (ends[group] - sizes[group])
        some = file.read_row_group(int(group)).take(pa.array(local))
        for place, values in zip(places, some.to_pylist(), strict=True):
            found[place] = values
    return found
