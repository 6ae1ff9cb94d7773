"""The record of packing: samples of every shape, one after another in one sequence. No torch.

Arrays are numpy on the host; map() turns all of them into a device's tensors at once.

    Two samples, patch grids (2, 1, 2) and (1, 1, 2), captions of 3 and 2 text tokens:

        tokens            a0 a1 a2 a3 | b0 b1       cu_seqlens       0 4 6
        positions (t)      0  0  1  1 |  0  0       text             a a a | b b
        positions (w)      0  1  0  1 |  0  1       text_cu_seqlens  0 3 5

    L   packed tokens     D   values of a token     S   samples (segments)
    M   packed text tokens                          E   width of a text feature
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np

from openreel.packing.plan import Grid, Kept, cumulative, length

Array = Any
"""a numpy array on the host, or a tensor after map()"""


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One sample of a pack, cut out again."""

    sample_id: str
    grid: Grid
    tokens: slice
    """its places in the pack"""
    text: slice
    kept: Kept | None = None
    """places in its grid of the tokens that it has; None: all of them"""

    def cut(self, whole: Array) -> Array:
        """The rows of its tokens, from an array with one for each token of its grid."""
        return whole if self.kept is None else whole[self.kept]


@dataclass(frozen=True, kw_only=True, eq=False)
class PackedBatch:
    """Variable-length sequences in one; checks itself on construction."""

    tokens: Array
    """(L, D) float32: clean latent patches"""
    valid: Array
    """(L, D) bool: False where a value is padding inside a patch"""
    known: Array
    """(L,) bool: True where a token is given, not generated"""
    positions: Array
    """(L, 3) int32: place (t, h, w) in the token's own sample"""
    cu_seqlens: Array
    """(S + 1,) int32"""
    text: Array
    """(M, E) float32: text features"""
    text_cu_seqlens: Array
    """(S + 1,) int32"""
    fps: Array
    """(S,) float32: latent frames' source rate; 0 for an image"""
    weights: Array
    """(S,) float32: a sample's weight in the loss; 0 for a dummy"""
    grids: tuple[Grid, ...]
    """(S,) patch grids, on the host"""
    kept: tuple[Kept | None, ...]
    """(S,) places in its grid of the tokens that a sample has, on the host; None: all of them"""
    text_lengths: tuple[int, ...]
    """(S,) text tokens, on the host"""
    sample_ids: tuple[str, ...]
    epochs: tuple[int, ...]
    """(S,) the pass over the data that each sample belongs to: part of its randomness' key"""

    def __post_init__(self) -> None:
        for grid, kept in zip(self.grids, self.kept, strict=True):
            _check_kept(grid, kept)
        lengths = self.lengths
        num_samples, num_tokens, num_text = len(lengths), sum(lengths), sum(self.text_lengths)
        expected = {
            "tokens": (num_tokens, self.tokens.shape[-1]),
            "valid": (num_tokens, self.tokens.shape[-1]),
            "known": (num_tokens,),
            "positions": (num_tokens, 3),
            "cu_seqlens": (num_samples + 1,),
            "text": (num_text, self.text.shape[-1]),
            "text_cu_seqlens": (num_samples + 1,),
            "fps": (num_samples,),
            "weights": (num_samples,),
        }
        for name, shape in expected.items():
            got = tuple(getattr(self, name).shape)
            if got != shape:
                raise ValueError(f"{name}: got shape {got}; accepted: {shape}")
        hosted = (self.sample_ids, self.text_lengths, self.epochs)
        if any(len(values) != num_samples for values in hosted):
            raise ValueError(f"sample_ids, text_lengths, epochs: accepted: {num_samples} of each")
        if isinstance(self.cu_seqlens, np.ndarray):
            for name, own in (("cu_seqlens", lengths), ("text_cu_seqlens", self.text_lengths)):
                offsets = getattr(self, name)
                if offsets.dtype != np.int32 or not np.array_equal(offsets, cumulative(own)):
                    raise ValueError(f"{name}: got {offsets}; accepted: int32 {cumulative(own)}")

    @property
    def lengths(self) -> tuple[int, ...]:
        """(S,) tokens of each sample, on the host."""
        return tuple(length(grid, kept) for grid, kept in zip(self.grids, self.kept, strict=True))

    @property
    def weight(self) -> float:
        """The sum of the samples' weights."""
        return float(self.weights.sum())

    def segments(self) -> Iterator[Segment]:
        """The samples, in order."""
        ends, text_ends = cumulative(self.lengths), cumulative(self.text_lengths)
        for i, sample_id in enumerate(self.sample_ids):
            yield Segment(
                sample_id=sample_id,
                grid=self.grids[i],
                tokens=slice(int(ends[i]), int(ends[i + 1])),
                text=slice(int(text_ends[i]), int(text_ends[i + 1])),
                kept=self.kept[i],
            )

    def map(self, convert: Callable[[Array], Array]) -> Self:
        """Apply a function, such as a copy to a device, to every array."""
        names = (f.name for f in fields(self))
        arrays = {n: getattr(self, n) for n in names if hasattr(getattr(self, n), "shape")}
        return replace(self, **{name: convert(array) for name, array in arrays.items()})

    def __repr__(self) -> str:
        grids = " ".join("x".join(map(str, g)) for g in self.grids)
        return f"PackedBatch({len(self.grids)} samples, {sum(self.lengths)} tokens: {grids})"


def _check_kept(grid: Grid, kept: Kept | None) -> None:
    if kept is None:
        return
    inside = len(kept) > 0 and kept[0] >= 0 and kept[-1] < length(grid, None)
    if not inside or bool((np.diff(kept) <= 0).any()):
        raise ValueError(f"kept: got {kept}; accepted: ascending places in a grid {grid}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """One sample on its way into a pack."""

    sample_id: str
    tokens: Array
    """(L, D)"""
    valid: Array
    """(L, D)"""
    positions: Array
    """(L, 3)"""
    grid: Grid
    text: Array
    """(M, E)"""
    fps: float
    known: Array | None = None
    """(L,); None knows nothing"""
    kept: Kept | None = None
    """(L,) places in the grid, where tokens are dropped; None: all are there"""
    weight: float = 1.0
    epoch: int = 0


def collate(samples: list[Sample]) -> PackedBatch:
    """Lay samples one after another. Raises ValueError when there is none."""
    if not samples:
        raise ValueError("samples: got none; accepted: at least one")
    known = [np.zeros(len(s.tokens), bool) if s.known is None else s.known for s in samples]
    return PackedBatch(
        tokens=np.concatenate([s.tokens for s in samples]).astype(np.float32),
        valid=np.concatenate([s.valid for s in samples]),
        known=np.concatenate(known),
        positions=np.concatenate([s.positions for s in samples]),
        cu_seqlens=cumulative([len(s.tokens) for s in samples]),
        text=np.concatenate([s.text for s in samples]).astype(np.float32),
        text_cu_seqlens=cumulative([len(s.text) for s in samples]),
        fps=np.array([s.fps for s in samples], np.float32),
        weights=np.array([s.weight for s in samples], np.float32),
        grids=tuple(s.grid for s in samples),
        kept=tuple(s.kept for s in samples),
        text_lengths=tuple(len(s.text) for s in samples),
        sample_ids=tuple(s.sample_id for s in samples),
        epochs=tuple(s.epoch for s in samples),
    )
