"""How low an agreement speaks against a caption: from the texts that came with clips.

A captioner's agreement of each clip with its own texts, beside that with texts of other clips.

    B clips, N texts, E width
"""

import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from openreel.pipeline.clip import Clip
from openreel.pipeline.errors import InputError, MediaError
from openreel.pipeline.media import stream_clip
from openreel.pipeline.progress import progress
from openreel.pipeline.sandbox import ChildError
from openreel.recaption.coca_writer import CocaWriter
from openreel.recaption.windows import WindowConfig, read_windows, windows_of
from openreel.recaption.writer import Frames, Window

MOST = 500
"""clips that are looked at: each is compared with the texts of all"""
_BATCH = 16
_LEVELS = np.arange(-1000, 1001) / 1000

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Agreements:
    """What a captioner's contrastive head says of clips and texts. Thresholds are in thousandths,
    as a person types them."""

    own: tuple[float, ...]
    """of each clip with each text that came with it"""
    others: tuple[float, ...]
    """with those that came with other clips and not with it"""

    def refused(self, least: float) -> float:
        """Share of own texts below a threshold."""
        return float(_below(self.own, least))

    def passed(self, least: float) -> float:
        """Share of other clips' texts that are not below it."""
        return 1 - float(_below(self.others, least))

    def refusing(self, share: float) -> float:
        """The highest threshold that refuses no more than this share of own texts."""
        return math.floor(1000 * float(np.quantile(self.own, share, method="lower"))) / 1000

    def balanced(self) -> float:
        """The threshold at which both kinds of error are as equal as can be; of several the middle
        one."""
        gaps = np.abs(_below(self.own, _LEVELS) + _below(self.others, _LEVELS) - 1)
        best = _LEVELS[gaps == gaps.min()]
        return float(best[len(best) // 2])


def _below(values: Sequence[float], least: float | Floats) -> Floats:
    """The share of values below one threshold, or below each of some."""
    return np.searchsorted(np.sort(values), least) / len(values)


def agreements(
    writer: CocaWriter,
    clips: Sequence[Clip],
    *,
    read: Callable[..., Iterable[Frames]] = stream_clip,
) -> Agreements:
    """Of clips that came with texts, at most MOST of them, evenly taken. Left out are those that
    cannot be read, and long ones, whose texts are about more than a captioner sees at once.

    read: as stream_clip. Raises InputError if no clip is left, or none with another's text.
    """
    usable = [clip for clip in clips if clip.texts and len(windows_of(clip, WindowConfig())) == 1]
    chosen = usable[:: -(-len(usable) // MOST) or 1]
    shown = partial(_shown, writer=writer, read=read)
    seen, features = [], []
    with progress("agreement", total=len(chosen)) as report, ThreadPoolExecutor(2) as pool:
        for start in range(0, len(chosen), _BATCH):
            some = chosen[start : start + _BATCH]
            found = list(zip(some, pool.map(shown, some), strict=True))
            report(len(some))
            if windows := [window for _, window in found if window is not None]:
                features.append(writer.encoded(windows)[0])
                seen += [clip for clip, window in found if window is not None]
    texts = sorted({(text.kind, text.text) for clip in seen for text in clip.texts})
    if len({text for _, text in texts}) < 2:
        got = f"{len(texts)} texts of {len(seen)} clips that can be read"
        raise InputError("dataset", got, "clips of at most 8 s that came with different texts")
    text_NE = torch.cat([writer.read([text], kind) for kind, text in texts])
    likeness_BN = (torch.cat(features) @ text_NE.T).tolist()
    own, others = [], []
    for clip, likeness_N in zip(seen, likeness_BN, strict=True):
        mine = {(text.kind, text.text) for text in clip.texts}
        words = {text for _, text in mine}
        for pair, likeness in zip(texts, likeness_N, strict=True):
            if pair in mine:
                own.append(likeness)
            elif pair[1] not in words:
                others.append(likeness)
    return Agreements(own=tuple(own), others=tuple(others))


def _shown(
    clip: Clip, *, writer: CocaWriter, read: Callable[..., Iterable[Frames]]
) -> Window | None:
    """What the captioner sees of a clip of one window; None if it cannot be read."""
    try:
        ((_, window),) = read_windows(clip, writer.sight, WindowConfig(), read=read)
    except (MediaError, ChildError, OSError):
        return None
    return window
