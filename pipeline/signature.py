"""A perceptual hash of a frame, and how far one clip's hashes are from being found in another's.

h w    rows and columns of a frame
n m    hashes of the clip that is looked for, and of the clip that it is looked for in
"""

import math

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]

BITS = 63
_SIDE = 32
_FEATURELESS = 4.0
"""mean size of the low frequencies below which they are mostly a codec's noise"""
_OTHER = 20
"""bits from which two frames do not show the same"""
_BLOCK = 1 << 20
"""comparisons that are laid out in memory at once"""


def phash(grey: npt.NDArray[np.uint8]) -> int:
    """The hash of a frame's brightness (h, w), 63 bits; 0 for one too plain to tell.

    One bit a low frequency of the picture squeezed to a square, without the mean: which of them are
    above their median. So size, aspect, brightness and contrast do not matter, and unrelated
    pictures differ in 31.5 bits, give or take 4. Raises ValueError unless grey is uint8 (h, w).
    """
    import cv2

    if grey.ndim != 2 or grey.dtype != np.uint8:
        raise ValueError(f"grey: got {grey.dtype} {grey.shape}; accepted: uint8 (h, w)")
    small = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[:8, :8].reshape(-1)[1:]
    if float(np.abs(low).mean()) < _FEATURELESS:
        return 0
    bits = low > np.median(low)
    return int(sum(1 << i for i, bit in enumerate(bits) if bit))


def distance(clip: Hashes, other: Hashes, *, min_overlap: float) -> float:
    """Mean bits of 63 in which a clip's hashes (n,) differ from their best place in other's (m,).

    Only the share min_overlap that fits best counts, and each hash of it must have its like in the
    other clip; inf where that is not so. Hashes of 0 say nothing and are left out of the count.
    Not symmetric: an excerpt is found in the whole, the whole is not found in the excerpt.
    """
    informative = int(np.count_nonzero(clip))
    needed = max(1, math.ceil(min_overlap * informative - 1e-9))
    if not informative or needed > np.count_nonzero(other) + 1:
        return math.inf
    margin = np.zeros(len(clip) - needed + 1, np.uint64)
    padded = np.concatenate([margin, other, margin])
    windows = np.lib.stride_tricks.sliding_window_view(padded, len(clip))
    rows = max(1, _BLOCK // len(clip))
    starts = range(0, len(windows) - 1, rows)
    return min(
        _fit(clip, windows[:-1][s : s + rows], windows[1:][s : s + rows], needed) for s in starts
    )


def _fit(clip: Hashes, before: Hashes, after: Hashes, needed: int) -> float:
    """The best of several places; before, after (places, n): the other's hashes around each one's.

    The two clips were sampled at different moments, so a frame lies between two of the other's
    samples. What changes between those may have either value in it: only bits in which both agree
    can speak against it. This is what makes a trimmed copy as close as an untrimmed one.
    """
    left, right = np.where(before == 0, after, before), np.where(after == 0, before, after)
    stable = BITS - np.bitwise_count(left ^ right).astype(np.float32)
    wrong_left, wrong_right = clip ^ left, clip ^ right
    wrong = np.bitwise_count(wrong_left & wrong_right).astype(np.float32)
    nearest = np.minimum(np.bitwise_count(wrong_left), np.bitwise_count(wrong_right))
    # Where most bits change, hardly any is left to speak.
    bits = np.where(stable > BITS / 2, BITS * wrong / np.maximum(stable, 1), nearest)
    bits[(clip == 0) | (left == 0) | (bits > _OTHER)] = np.inf
    best = np.partition(bits, needed - 1, axis=1)[:, :needed]
    return float(best.mean(axis=1).min())
