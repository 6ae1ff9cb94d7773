"""Clips that show the same: copies and excerpts by their frames, look-alikes by their embeddings.

    items -> by rank, on disk -> pairs with bits in common -> the best clip of each group is kept

In the order of rank each clip is held against the kept clips that it shares bits with, and is the
duplicate of the first that it is verified against. So every clip that goes names one that stays and
that shows what it shows; there are no chains, and the order of the input does not matter.

Memory holds one partition of rows and one of pairs, the duplicates that are returned, and four
bytes a clip; everything else lies in scratch. Work grows with the number of pairs that share bits,
and no hash is compared with more than max_bucket others of its bucket.
"""

import itertools
import math
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from openreel.pipeline.bands import ROW, Bands, Pairs, search
from openreel.pipeline.errors import InputError
from openreel.pipeline.keyed import generator
from openreel.pipeline.shelf import Item, Shelf, shelve
from openreel.pipeline.signature import BITS, distance

__all__ = ["Duplicate", "DuplicateConfig", "Item", "Search", "find_duplicates"]

_FINE, _COARSE = Bands(count=5, per_key=2), Bands(count=6, per_key=2)
"""keys of 25 and of 21 bits: certain to bring together hashes 3 and 4 bits apart"""
_FEW = 1 << 24
"""hashes that 21 bits still tell apart: 8 a bucket"""
_PROJECTIONS = 16
"""hashes of 63 random hyperplanes for each embedding"""
_MANY = 1000
"""embeddings whose mean tells what all pictures have in common"""


@dataclass(frozen=True, kw_only=True)
class DuplicateConfig:
    """What counts as the same."""

    perceptual: bool = True
    max_distance: float = 8.0
    """mean bits of 63 between a clip's frames and their place in the other clip; unrelated clips
    have 14 and more"""
    max_image_distance: float = 4.0
    """the same for images, which have but one hash; up to 4 bits none is missed, unless
    there are more than 16 million hashes: then 1 in 5 of those 4 bits apart is"""
    min_overlap: float = 0.8
    """share of the clip that goes which must be found in the clip that stays"""
    min_samples: int = 2
    """a clip with fewer frames that are not plain is no copy of anything"""
    semantic_threshold: float | None = None
    """least cosine of two embeddings; None: they are not looked at"""
    max_bucket: int = 64
    """rows of a bucket that each further one is compared with"""
    partition_rows: int = 1 << 19
    """hashes, or pairs, that are in memory at once"""

    def __post_init__(self) -> None:
        for name in ("max_distance", "max_image_distance"):
            if not 0 <= getattr(self, name) < BITS / 2:
                raise InputError(name, getattr(self, name), f"0 to {BITS // 2}")
        if not 0 < self.min_overlap <= 1:
            raise InputError("min_overlap", self.min_overlap, "a share above 0, at most 1")
        if self.semantic_threshold is not None and not 0 < self.semantic_threshold <= 1:
            raise InputError("semantic_threshold", self.semantic_threshold, "above 0, at most 1")
        for name in ("min_samples", "max_bucket", "partition_rows"):
            if getattr(self, name) < 1:
                raise InputError(name, getattr(self, name), "at least 1")


@dataclass(frozen=True, kw_only=True)
class Duplicate:
    """Why a clip goes."""

    kept: str
    """the clip that stays in its stead"""
    distance: float
    """from it: mean bits of 63, or 1 - cosine"""
    semantic: bool = False


@dataclass(frozen=True, kw_only=True)
class Search:
    """What a search has done."""

    clips: int
    compared: int
    """pairs of hashes"""
    verified: int
    """pairs of clips"""
    crowded: int
    """times that a hash was not compared with all of its bucket; more than 0 may mean misses"""


def find_duplicates(
    clips: Iterable[Item],
    scratch: Path,
    config: DuplicateConfig,
    on_search: Callable[[Search], None] | None = None,
) -> dict[str, Duplicate]:
    """The clips that go, by id, each with the clip that stays in its stead.

    Ids must differ. scratch is an existing folder with room for about 200 bytes a hash, and 12 for
    each number of an embedding; it is left as it was found. on_search hears what was done. Warns
    where buckets were crowded. Raises InputError for vectors of several lengths.
    """
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(dir=scratch, prefix="duplicates-") as name:
        folder = Path(name)
        shelf = shelve(clips, folder, max(1, config.partition_rows // 8))
        pairs = _PairFiles(folder, len(shelf), max(len(shelf.hashes), len(shelf.embedded)), config)
        if config.perceptual:
            _nominate_copies(shelf, pairs, config, folder, counts)
        if config.semantic_threshold is not None and len(shelf.embedded):
            _nominate_lookalikes(shelf, pairs, config, folder, counts)
        duplicates = _settle(shelf, pairs, config, counts)
    done = Search(
        clips=len(shelf),
        compared=counts["compared"],
        verified=counts["verified"],
        crowded=counts["crowded"],
    )
    if done.crowded:
        warnings.warn(
            f"duplicates: {done.crowded} times a hash was compared with only the "
            f"{config.max_bucket} best of its bucket; raise max_bucket to find more",
            stacklevel=2,
        )
    if on_search is not None:
        on_search(done)
    return duplicates


class _PairFiles:
    """Pairs on disk, dealt out by their later clip: each file holds one stretch of the order."""

    def __init__(
        self, folder: Path, num_clips: int, num_rows: int, config: DuplicateConfig
    ) -> None:
        count = max(1, -(-num_rows // config.partition_rows))
        self._stretch = max(1, -(-num_clips // count))
        self._files = [folder / f"pairs-{i}" for i in range(count)]
        self._at_once = config.partition_rows

    def add(self, pairs: Pairs) -> None:
        """pairs must be sorted."""
        to = (pairs >> np.uint64(32)) // np.uint64(self._stretch)
        for i in np.unique(to).tolist():
            begin, end = np.searchsorted(to, [i, i + 1])
            with self._files[int(i)].open("ab") as out:
                pairs[begin:end].tofile(out)

    def in_order(self) -> Iterator[tuple[int, list[int]]]:
        """Each clip that is in a pair as the later one, with the earlier ones, all ascending."""
        for path in filter(Path.exists, self._files):
            pairs = np.empty(0, np.uint64)
            with path.open("rb") as file:
                while (more := np.fromfile(file, np.uint64, self._at_once)).size:
                    pairs = np.union1d(pairs, more)
            for later, group in itertools.groupby(pairs.tolist(), key=lambda pair: pair >> 32):
                yield later, [pair & 0xFFFFFFFF for pair in group]


def _nominate_copies(
    shelf: Shelf, pairs: _PairFiles, config: DuplicateConfig, folder: Path, counts: Counter[str]
) -> None:
    """Pairs of clips with a frame each that look alike."""
    bands = _COARSE if len(shelf.hashes) <= _FEW else _FINE
    rows = folder / "hash-rows"
    shelf.write_rows(rows, config.partition_rows)
    found = search(
        rows,
        bands.masks(),
        # Nearly every copy has one frame that is not much further away than all are on average.
        max_bits=int(max(config.max_distance + 2, config.max_image_distance)),
        seats=config.max_bucket,
        partition_rows=config.partition_rows,
        may_pair=shelf.may_pair,
    )
    for one in found:
        pairs.add(one.pairs)
        counts["compared"] += one.compared
        counts["crowded"] += one.crowded


def _nominate_lookalikes(
    shelf: Shelf, pairs: _PairFiles, config: DuplicateConfig, folder: Path, counts: Counter[str]
) -> None:
    """Pairs of clips whose embeddings lie on the same side of many random hyperplanes.

    The planes of a large set go through the mean of all embeddings, because those of natural
    pictures lie to one side of the origin, where most planes would part nothing. In a small set the
    mean is too close to single clips, and work does not matter.
    """
    assert config.semantic_threshold is not None
    count, width = shelf.vectors.shape
    at_once = max(1, config.partition_rows // max(_PROJECTIONS, width // 8))
    mean = np.zeros(width)
    for begin in range(0, count if count >= _MANY else 0, at_once):
        mean += shelf.vectors[begin : begin + at_once].sum(0, np.float64) / count
    planes = generator(0, "hyperplanes", width).standard_normal((width, _PROJECTIONS * BITS))
    planes = planes.astype(np.float32)

    rows = folder / "vector-rows"
    with rows.open("wb") as file:
        for begin in range(0, count, at_once):
            centred = shelf.vectors[begin : begin + at_once] - mean.astype(np.float32)
            sides = (centred @ planes > 0).reshape(len(centred), _PROJECTIONS, BITS)
            padded = np.pad(sides, ((0, 0), (0, 0), (0, 64 - BITS)))
            part = np.empty(len(centred) * _PROJECTIONS, ROW)
            part["hash"] = np.packbits(padded, axis=-1, bitorder="little").view("<u8").reshape(-1)
            part["clip"] = np.repeat(shelf.embedded[begin : begin + at_once], _PROJECTIONS)
            part.tofile(file)
    # About as many bits a key as it takes to number the clips: then a bucket holds few.
    bands = Bands(count=max(2, BITS // max(12, count.bit_length())), per_key=1)
    found = search(
        rows,
        bands.masks(),
        max_bits=_bits_at(config.semantic_threshold, float(mean @ mean)),
        seats=config.max_bucket,
        partition_rows=config.partition_rows,
        may_pair=shelf.may_pair,
    )
    for one in found:
        pairs.add(one.pairs)
        counts["compared"] += one.compared
        counts["crowded"] += one.crowded


def _bits_at(cosine: float, mean_squared: float) -> int:
    """How many of the bits of two such vectors differ at most, 39 times in 40."""
    centred = 1 - (1 - cosine) / max(1 - mean_squared, 1e-6)
    share = math.acos(max(-1.0, min(1.0, centred))) / math.pi
    return min(BITS, math.ceil(BITS * share + 2 * math.sqrt(BITS * share * (1 - share))))


def _settle(
    shelf: Shelf, pairs: _PairFiles, config: DuplicateConfig, counts: Counter[str]
) -> dict[str, Duplicate]:
    """Hold each clip, best first, against the kept ones that it was paired with, best first."""
    duplicates: dict[str, Duplicate] = {}
    stands_for = np.arange(len(shelf), dtype=np.uint32)
    for later, earlier in pairs.in_order():
        # A clip that goes speaks for the one in its stead: a worn copy shares more bits with it.
        others = np.unique(stands_for[earlier])
        others = others[shelf.may_pair(others, np.full_like(others, later))]
        for other in others.tolist():
            counts["verified"] += 1
            found = _verified(shelf, later, other, config)
            if found is not None:
                clip_id = shelf.clip_id(later)
                if clip_id in duplicates or clip_id == found.kept:
                    raise InputError("clip_id", clip_id, "an id for each clip")
                duplicates[clip_id] = found
                stands_for[later] = other
                break
    return duplicates


def _verified(shelf: Shelf, clip: int, other: int, config: DuplicateConfig) -> Duplicate | None:
    """What makes clip a duplicate of other, if anything does."""
    hashes, theirs = shelf.hashes_of(clip), shelf.hashes_of(other)
    image = bool(shelf.kinds[clip])
    if config.perceptual and np.count_nonzero(hashes) >= (1 if image else config.min_samples):
        bits = distance(hashes, theirs, min_overlap=config.min_overlap)
        if bits <= (config.max_image_distance if image else config.max_distance):
            return Duplicate(kept=shelf.clip_id(other), distance=bits)
    if config.semantic_threshold is not None:
        mine, its = shelf.vector_of(clip), shelf.vector_of(other)
        if mine is not None and its is not None:
            cosine = float(mine @ its)
            if cosine >= config.semantic_threshold:
                return Duplicate(kept=shelf.clip_id(other), distance=1 - cosine, semantic=True)
    return None
