"""What latents are made of: real numbers, or codes of a finite book. No torch here.

A code has one digit a channel. Read as a number of mixed radix, the first channel's digit lowest,
the digits are the code's index; read in k groups of channels they are its k sub-tokens, small
vocabularies that a language model can predict one by one.

    C   channels; ... any shape
"""

import abc
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from openreel.pipeline.errors import InputError

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

_MOST_BITS = 62
"""an index is a signed 64-bit number"""


@dataclass(frozen=True, kw_only=True)
class Continuous:
    """Real numbers, drawn in training from a Gaussian that is held near the unit one (KL)."""

    channels: int = 16

    def __post_init__(self) -> None:
        if self.channels < 1:
            raise InputError("channels", self.channels, "1 or more")

    @property
    def features(self) -> int:
        """numbers a position that the encoder gives: mean and log variance"""
        return 2 * self.channels


class Codebook(abc.ABC):
    """What both discrete heads share: everything follows from the radices, edges and halves."""

    @property
    @abc.abstractmethod
    def radices(self) -> tuple[int, ...]:
        """how many digits each channel knows"""

    @property
    @abc.abstractmethod
    def halves_C(self) -> Floats:
        """A digit d stands for the value (d - half) / half."""

    @property
    @abc.abstractmethod
    def edges_CL(self) -> Floats:
        """A channel's digit is the number of its edges below the encoder's number.

        Rows are filled up with infinities.
        """

    @property
    def channels(self) -> int:
        return len(self.radices)

    @property
    def features(self) -> int:
        """numbers a position that the encoder gives"""
        return self.channels

    @property
    def size(self) -> int:
        """codes in the book"""
        return math.prod(self.radices)

    def index(self, digits: Integers) -> Integers:
        """Digits (..., C) -> indices (...) below size. Raises InputError for a digit too large."""
        return _joined(digits, self.radices)

    def digits(self, index: Integers) -> Integers:
        """Indices (...) -> digits (..., C): the inverse. Raises InputError beyond the book."""
        return _split(index, self.radices)

    def vocabularies(self, k: int) -> tuple[int, ...]:
        """Sizes of k sub-tokens' vocabularies; channels are shared out evenly, in order."""
        if not 1 <= k <= self.channels:
            raise InputError("k", k, f"1 to {self.channels}, the channels")
        groups = np.array_split(np.array(self.radices, np.int64), k)
        return tuple(math.prod(map(int, group)) for group in groups)

    def subtokens(self, index: Integers, k: int) -> Integers:
        """Indices (...) -> sub-tokens (..., k), each below its vocabulary's size."""
        return _split(index, self.vocabularies(k))

    def from_subtokens(self, subtokens: Integers) -> Integers:
        """Sub-tokens (..., k) -> indices (...): the inverse."""
        return _joined(subtokens, self.vocabularies(subtokens.shape[-1]))


@dataclass(frozen=True, kw_only=True)
class FSQ(Codebook):
    """Finite scalar quantisation (Mentzer et al. 2023): each channel is rounded to a few levels."""

    levels: tuple[int, ...] = (8, 8, 8, 5, 5, 5)
    """of each channel; the default is a book of 64,000 codes"""

    def __post_init__(self) -> None:
        if not self.levels or min(self.levels) < 3 or self.size.bit_length() > _MOST_BITS:
            accepted = f"3 or more a channel (for 2, LFQ), a book below 2^{_MOST_BITS}"
            raise InputError("levels", self.levels, accepted)

    @property
    def radices(self) -> tuple[int, ...]:
        return self.levels

    @property
    def halves_C(self) -> Floats:
        return (np.array(self.levels) // 2).astype(np.float32)

    @property
    def bound_3C(self) -> npt.NDArray[np.float64]:
        """The paper's height h, offset o and shift s: rounded is tanh(z + s) h - o.

        An even number of levels has one more below zero than above it.
        """
        levels = np.array(self.levels)
        height = (levels - 1) * 1.001 / 2
        offset = np.where(levels % 2 == 0, 0.5, 0.0)
        return np.stack([height, offset, np.arctanh(offset / height)])

    @property
    def edges_CL(self) -> Floats:
        # Rounding tanh means comparing z with where tanh crosses a half. Comparisons give a number
        # the same digit wherever it lies in a tensor; tanh's last bits depend on that.
        edges = np.full((self.channels, max(self.levels) - 1), np.inf)
        for c, (height, offset, shift) in enumerate(self.bound_3C.T):
            level = np.arange(self.levels[c] - 1) - self.levels[c] // 2
            edges[c, : len(level)] = np.arctanh((level + 0.5 + offset) / height) - shift
        return edges.astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class LFQ(Codebook):
    """Lookup-free quantisation (Yu et al. 2023): each channel is one bit, its sign."""

    bits: int = 18

    def __post_init__(self) -> None:
        if not 1 <= self.bits < _MOST_BITS:
            raise InputError("bits", self.bits, f"1 to {_MOST_BITS - 1}")

    @property
    def radices(self) -> tuple[int, ...]:
        return (2,) * self.bits

    @property
    def halves_C(self) -> Floats:
        return np.full(self.bits, 0.5, np.float32)

    @property
    def edges_CL(self) -> Floats:
        return np.zeros((self.bits, 1), np.float32)


Head = Continuous | FSQ | LFQ


def _joined(digits: Integers, radices: tuple[int, ...]) -> Integers:
    if digits.shape[-1:] != (len(radices),) or ((digits < 0) | (digits >= radices)).any():
        raise InputError("digits", digits.shape, f"(..., {len(radices)}), each below {radices}")
    places = np.cumprod([1, *radices[:-1]], dtype=np.int64)
    joined: Integers = (digits.astype(np.int64) * places).sum(-1)
    return joined


def _split(index: Integers, radices: tuple[int, ...]) -> Integers:
    size = math.prod(radices)
    if index.size and not 0 <= index.min() <= index.max() < size:
        span = f"{index.min()} to {index.max()}"
        raise InputError("indices", span, f"0 to {size - 1}")
    places = np.cumprod([1, *radices[:-1]], dtype=np.int64)
    split: Integers = index.astype(np.int64)[..., None] // places % np.array(radices)
    return split
