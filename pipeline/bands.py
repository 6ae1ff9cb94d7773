"""Which pairs are worth comparing: those that have a hash whose bits agree in whole bands.

    rows      a hash, 63 bits, and the number of the clip that it belongs to
    key       a hash of which only some bands are left
    bucket    the rows with one key

For one choice of bands after the other, the rows are dealt out to files by their key, and each file
is searched alone. So memory holds the rows of one file, never all: some 300 bytes x partition_rows,
and should a key fill more than a file, it is read piece by piece.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from openreel.pipeline.signature import BITS

ROW = np.dtype([("hash", "<u8"), ("clip", "<u4")])
Rows = np.ndarray[tuple[int], np.dtype[np.void]]
Pairs = npt.NDArray[np.uint64]
"""(P,) each later_clip << 32 | earlier_clip"""
MayPair = Callable[[npt.NDArray[np.uint32], npt.NDArray[np.uint32]], npt.NDArray[np.bool_]]

_SPREAD = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, kw_only=True)
class Bands:
    """Hashes are cut into `count` bands, and a key is what `per_key` of them hold.

    Two hashes that differ in at most `certain` bits have a key in common, whichever bits they are:
    that many errors cannot touch more bands.
    """

    count: int
    per_key: int

    @property
    def certain(self) -> int:
        return self.count - self.per_key

    def masks(self) -> list[np.uint64]:
        """One for each choice of bands: the bits that make up the key."""
        bands = [sum(1 << int(b) for b in bits) for bits in np.array_split(range(BITS), self.count)]
        return [np.uint64(sum(some)) for some in itertools.combinations(bands, self.per_key)]


@dataclass(frozen=True, kw_only=True)
class Found:
    """What one file of rows gave."""

    pairs: Pairs
    """without repetition within one file"""
    compared: int
    """pairs of rows that were looked at"""
    crowded: int
    """rows that were not compared with all that came before them in their bucket"""


def search(
    rows: Path,
    masks: Iterable[np.uint64],
    *,
    max_bits: int,
    seats: int,
    partition_rows: int,
    may_pair: MayPair,
) -> Iterator[Found]:
    """The pairs of clips with hashes that share a key and differ in at most max_bits.

    rows is a file of ROW, in order of their clips; others are made beside it and removed again. In
    a bucket each row is compared with the first `seats` of those before it, which are the best
    clips' if smaller numbers are better. may_pair(earlier, later) says which clips may be paired at
    all. What is found does not depend on partition_rows.
    """
    count = max(1, -(-rows.stat().st_size // (ROW.itemsize * partition_rows)))
    files = [rows.with_name(f"{rows.name}-{i}") for i in range(count)]
    for mask in masks:
        for chunk in _read(rows, partition_rows):
            _deal(chunk, mask, files)
        for file in filter(Path.exists, files):
            held = np.empty(0, ROW)
            for fresh in _read(file, partition_rows):
                found, held = _bucketed(held, fresh, mask, max_bits, seats, may_pair)
                yield found
            file.unlink()


def _deal(rows: Rows, mask: np.uint64, files: list[Path]) -> None:
    """Append each row to the file of its key."""
    spread = ((rows["hash"] & mask) * _SPREAD) >> np.uint64(32)
    to = (spread % np.uint64(len(files))).astype(np.int64)
    order = np.argsort(to, kind="stable")
    ends = np.cumsum(np.bincount(to, minlength=len(files)))
    for file, part in zip(files, np.split(order, ends[:-1]), strict=True):
        if part.size:
            with file.open("ab") as out:
                rows[part].tofile(out)


def _read(file: Path, at_once: int) -> Iterator[Rows]:
    with file.open("rb") as rows:
        while (chunk := np.fromfile(rows, ROW, at_once)).size:
            yield chunk


def _bucketed(
    held: Rows,
    fresh: Rows,
    mask: np.uint64,
    max_bits: int,
    seats: int,
    may_pair: MayPair,
) -> tuple[Found, Rows]:
    """The pairs of the fresh rows with those before them, and the rows that later ones will need.

    held: the first rows of each bucket so far, all of clips before the fresh ones'.
    """
    rows = np.concatenate([held, fresh])
    keys = rows["hash"] & mask
    order = np.argsort(keys, kind="stable")
    keys, hashes, clips = keys[order], rows["hash"][order], rows["clip"][order]
    index = np.arange(len(rows))
    opens = np.concatenate([[True], keys[1:] != keys[:-1]])
    place = index - np.maximum.accumulate(np.where(opens, index, 0))
    new = order >= len(held)
    pairs, compared = [np.empty(0, np.uint64)], 0
    later = index[new & (place > 0)]
    for seat in range(seats):
        later = later[place[later] > seat]
        if not later.size:
            break
        earlier = later - place[later] + seat
        compared += later.size
        near = np.bitwise_count(hashes[later] ^ hashes[earlier]) <= max_bits
        a, b = clips[earlier[near]], clips[later[near]]
        fit = (a != b) & may_pair(a, b)
        pairs.append(np.unique(b[fit].astype(np.uint64) << np.uint64(32) | a[fit]))
    crowded = int(np.count_nonzero(place[new] > seats))
    found = Found(pairs=np.unique(np.concatenate(pairs)), compared=compared, crowded=crowded)
    return found, rows[order[place <= seats]]
