"""Rows of different lengths, computed together in batches that waste little on padding. No torch.

B rows of a batch, K its longest, L one row's length, D width of a state
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

MAX_TOKENS = 8192
"""of a batch, padding included; a longer row is a batch of its own"""

Ids = npt.NDArray[np.int64]
States = npt.NDArray[np.float32]


def by_length(lengths: Sequence[int], max_tokens: int = MAX_TOKENS) -> Iterator[list[int]]:
    """Indices of rows in batches, longest first, each index once.

    The longest come first so that too little memory shows at once. The rows of a batch times its
    longest row are at most max_tokens.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if batch and (len(batch) + 1) * lengths[batch[0]] > max_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def read_together(
    texts: Sequence[Sequence[Sequence[int]]],
    run: Callable[[Ids, Ids], States],
    *,
    pad: int,
    skip: int = 0,
) -> list[States]:
    """(L, D) states of each text, whose windows of ids are run together with those of all others.

    run: ids (B, K) and mask (B, K), 1 where an id is no padding -> states (B, K, D). skip: ids at
    the start of each window whose states are left out. A text has one window or more.
    """
    windows = [window for text in texts for window in text]
    found = [np.empty(0, np.float32)] * len(windows)
    for batch in by_length([len(window) for window in windows]):
        ids_BK = np.full((len(batch), max(len(windows[i]) for i in batch)), pad, np.int64)
        mask_BK = np.zeros_like(ids_BK)
        for row, i in enumerate(batch):
            ids_BK[row, : len(windows[i])] = windows[i]
            mask_BK[row, : len(windows[i])] = 1
        for states_KD, i in zip(run(ids_BK, mask_BK), batch, strict=True):
            found[i] = states_KD[skip : len(windows[i])]
    states = iter(found)
    return [np.concatenate([next(states) for _ in text]) for text in texts]
