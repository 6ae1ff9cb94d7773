"""Transitions over several frames: fades through one colour, and dissolves.

A fade empties the picture of contrast and fills it again. In a dissolve each frame is a mixture of
the one before it began and the one after it ended, and these two show different places.

    T   frames
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from openreel.pipeline.transitions import Between, Floats, Picture

# ---- fades ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Gradual:
    """A transition over several frames."""

    first: int
    middle: int
    """where the one shot ends and the next begins"""
    last: int


def fades(
    contrast: Sequence[float], likeness: Sequence[float], cuts: Sequence[int]
) -> list[Gradual]:
    """Fades through one colour; they meet where the picture is plainest.

    contrast: (T,) deviation of each frame's middle, 0 to 255. likeness: (T,) its correlation to the
    frame before. On both sides of the plain frames the same picture fades over several frames.
    """
    found, sudden = [], set(cuts)
    i, end = 0, len(contrast)
    while i < end:
        if contrast[i] >= 3:
            i += 1
            continue
        start = i
        while i < end and contrast[i] < 3:
            i += 1
        first = _ramp(contrast, likeness, start, -1, sudden)
        last = _ramp(contrast, likeness, i - 1, 1, sudden)
        if first is None or last is None or any(start < cut < i for cut in sudden):
            continue
        plainest = min(contrast[start:i])
        if plainest > 0.2 * min(contrast[first], contrast[last]):
            continue  # a picture of little contrast, not of none
        flat = [j for j in range(start, i) if contrast[j] <= plainest + 0.5]
        found.append(Gradual(first=first, middle=flat[len(flat) // 2], last=last))
    return found


def _ramp(
    contrast: Sequence[float],
    likeness: Sequence[float],
    edge: int,
    way: int,
    cuts: Collection[int],
) -> int | None:
    """The frame up to which one picture's contrast grows from a plain frame on; None: it doesn't.

    way: 1 or -1, the direction in time. It may waver, as what is filmed moves.
    """
    top, j = edge, edge + way
    while 0 <= j < len(contrast) and abs(j - top) <= 6 and contrast[j] > 0.8 * contrast[top]:
        if max(j, j - way) in cuts:
            break
        top = j if contrast[j] > 1.03 * contrast[top] else top
        j += way
    ramp = contrast[edge : top + way : way] if top + way >= 0 else contrast[edge::way]
    steps = [abs(b - a) for a, b in pairwise(ramp)]
    if len(steps) < 3 or contrast[top] < 5 or max(steps) > 0.5 * contrast[top]:
        return None
    alike = likeness[min(edge, top) + 1 : max(edge, top) + 1]
    return top if float(np.median(alike)) > 0.7 else None


def likeness(a: Floats, b: Floats) -> float:
    """The correlation of two equal-sized pictures; 1 where one is plain."""
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / scale if scale > 1 else 1.0


# ---- dissolves --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Dissolve:
    """At a frame, those around it are a mixture of the first and the last of a window."""

    frame: int
    reach: int
    """half the window"""
    share: float
    """of the last in the frame at hand"""


def dissolve_at(
    i: int, pictures: Sequence[Picture], offset: int, between: Between
) -> Dissolve | None:
    """What the widest window around frame i that looks like a dissolve says; None: none does.

    pictures: of the frames from offset on.
    """
    for reach in (24, 12, 6):
        start, end = i - reach - offset, i + reach + 1 - offset
        if start < 0 or end > len(pictures):
            continue
        share = _mixture(pictures[start:end])
        if share is not None and between(i - reach, i + reach)[1] > 0.35:
            return Dissolve(frame=i, reach=reach, share=share)
    return None


def _mixture(pictures: Sequence[Picture]) -> float | None:
    """The last one's share in the middle one, if all are mixtures of the first and last."""
    first, middle, last = (pictures[j].thumb for j in (0, len(pictures) // 2, -1))
    whole = last - first
    size = float(whole @ whole)
    if size < 12**2 * len(whole) / 3:
        return None
    part = middle - first
    share = float(part @ whole) / size
    if abs(share - 0.5) > 0.2 or float(part @ part) / size - share**2 > 0.1:
        return None
    way = np.stack([picture.thumb for picture in pictures]) - first
    shares = way @ whole / size
    rest = (way * way).sum(1) / size - shares**2
    steps = np.diff(shares)
    if rest.max() > 0.1 or steps.min() < -0.05 or steps.max() > 0.2:
        return None
    old, new = pictures[0].middle, pictures[-1].middle
    if min(old.std(), new.std()) < 4 or likeness(old, new) > 0.55:
        return None
    # A title that appears is mixed in as well, but not everywhere.
    if float((np.abs(new - old) > 6).mean()) < 0.7:
        return None
    return share


def meeting(
    seen: Sequence[Dissolve], cuts: Sequence[int], faded: Sequence[Gradual]
) -> list[Gradual]:
    """The dissolves that were seen, frame by frame; not where there is a cut or a fade."""
    groups: list[list[Dissolve]] = []
    for one in seen:
        if groups and one.frame - groups[-1][-1].frame <= 6:
            groups[-1].append(one)
        else:
            groups.append([one])
    found = []
    for group in groups:
        first, last = group[0].frame, group[-1].frame
        taken = any(first - 3 <= cut <= last + 3 for cut in cuts) or any(
            fade.first <= last and first <= fade.last for fade in faded
        )
        if taken or len(group) < 2:
            continue
        reach = max(one.reach for one in group)
        wide = [one for one in group if one.reach == reach]
        weights = [0.21 - abs(one.share - 0.5) for one in wide]
        middle = sum(w * one.frame for w, one in zip(weights, wide, strict=True)) / sum(weights)
        found.append(Gradual(first=first, middle=round(middle), last=last))
    return found
