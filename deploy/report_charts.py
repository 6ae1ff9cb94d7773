"""Drawings of how clips are spread, kept and rejected in two tones: histograms, a chart of sizes.

Logarithmic axes are for what people compare by ratios: lengths, sizes, shapes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from openreel.deploy.charts import Axis, svg
from openreel.deploy.markup import Markup, element

Floats = npt.NDArray[np.float64]

_WIDTH, _HEIGHT = 340.0, 176.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 40.0, 10.0, 8.0, 24.0
_BINS = 32
_RATIO = 4.0
"""of the largest to the smallest value, below which no axis is logarithmic"""
_TAIL = 0.005
"""the share of the values at each end that may lie beyond the axis, in the end bars"""
_SIDE, _MAX_BUBBLE, _MIN_BUBBLE = 400.0, 17.0, 3.0
_SHAPES = (("16:9", 16 / 9), ("1:1", 1.0), ("9:16", 9 / 16))


@dataclass(frozen=True, kw_only=True)
class Spread:
    """One score of the clips: those that are used, and those that are not."""

    label: str
    kept: Floats
    rejected: Floats
    by_ratio: bool = False
    """on a logarithmic axis, if all values are above 0 and far enough apart"""

    @property
    def values(self) -> Floats:
        return np.concatenate([self.kept, self.rejected])


@dataclass(frozen=True, kw_only=True)
class Size:
    """How many clips have one size."""

    width: int
    height: int
    kept: int
    rejected: int


def histogram(spread: Spread) -> Markup:
    """Bars of kept clips with the rejected ones on top. The values must not all be equal."""
    low, high = _ends(spread.values)
    ratio = spread.by_ratio and low > 0 and high > _RATIO * low
    x = Axis(low, high, _LEFT, _WIDTH - _RIGHT, logarithmic=ratio)
    edges = (
        np.geomspace(low, high, _BINS + 1) if x.logarithmic else np.linspace(low, high, _BINS + 1)
    )
    kept, _ = np.histogram(np.clip(spread.kept, low, high), edges)
    rejected, _ = np.histogram(np.clip(spread.rejected, low, high), edges)
    y = Axis(0.0, float(max(1, (kept + rejected).max())), _HEIGHT - _BOTTOM, _TOP)
    parts = _grid(x, y)
    for i, (good, bad) in enumerate(zip(kept.tolist(), rejected.tolist(), strict=True)):
        left, right = x.place(edges[i]) + 0.5, x.place(edges[i + 1]) - 0.5
        title = f"{edges[i]:.3g} to {edges[i + 1]:.3g}: {good:,} kept, {bad:,} rejected"
        bars = [_bar(left, right, y, 0, good, "kept"), _bar(left, right, y, good, bad, "rejected")]
        if good + bad:
            parts.append(element("g", element("title", title), *bars))
    return svg(f"histogram: {spread.label}", _WIDTH, _HEIGHT, "histogram", *parts)


def _ends(values: Floats) -> tuple[float, float]:
    """The axis: everything, or all but a thin tail where that makes it much shorter."""
    low, high = float(values.min()), float(values.max())
    first, last = np.quantile(values, (_TAIL, 1 - _TAIL)).tolist()
    if last > first and high - low > 3 * (last - first):
        return first, last
    return low, high


def _bar(left: float, right: float, y: Axis, start: int, number: int, kind: str) -> Markup:
    top, foot = y.place(start + number), y.place(start)
    if not number:
        return Markup("")
    place = {"x": f"{left:.1f}", "width": f"{max(right - left, 1):.1f}"}
    return element(
        "rect", y=f"{top:.1f}", height=f"{max(foot - top, 0.6):.1f}", class_=kind, **place
    )


def _grid(x: Axis, y: Axis) -> list[Markup]:
    parts = []
    for value in y.ticks():
        if value == int(value):
            at = round(y.place(value), 1)
            parts.append(element("line", x1=x.start, x2=x.end, y1=at, y2=at))
            label = f"{value:,.0f}" if value < 10_000 else f"{value / 1000:g}k"
            parts.append(element("text", label, x=x.start - 6, y=at + 4, text_anchor="end"))
    return parts + _ticks_below(x, y.start)


def _ticks_below(x: Axis, foot: float) -> list[Markup]:
    parts, last = [], float("-inf")
    for value in x.ticks(8):
        at = round(x.place(value), 1)
        parts.append(element("line", x1=at, x2=at, y1=foot, y2=foot + 4))
        label = f"{value:g}"
        half = 3.4 * len(label)
        # Labels of a logarithmic axis would run into each other.
        if at - half > last + 6:
            parts.append(element("text", label, x=at, y=foot + 17, text_anchor="middle"))
            last = at + half
    return parts


def size_chart(sizes: Sequence[Size]) -> Markup:
    """Width and height of clips, a bubble a size; on equal scales a shape is a diagonal."""
    sides = [side for size in sizes for side in (size.width, size.height)]
    low, high = min(sides) / 1.3, max(sides) * 1.3
    x = Axis(low, high, _LEFT, _SIDE - _RIGHT, logarithmic=True)
    y = Axis(low, high, _SIDE - _BOTTOM - 16, _SIDE - _BOTTOM - 16 - (x.end - x.start), True)
    parts = _square_grid(x, y) + [_shape(name, aspect, x, y) for name, aspect in _SHAPES]
    most = max(size.kept + size.rejected for size in sizes)
    for size in sorted(sizes, key=lambda s: -(s.kept + s.rejected)):
        place = {"cx": f"{x.place(size.width):.1f}", "cy": f"{y.place(size.height):.1f}"}
        number = size.kept + size.rejected
        radius = max(_MIN_BUBBLE, _MAX_BUBBLE * (number / most) ** 0.5)
        title = element(
            "title",
            f"{size.width}×{size.height}: {size.kept:,} kept, {size.rejected:,} rejected",
        )
        ring = element("circle", r=f"{radius:.1f}", class_="rejected", **place)
        inner = f"{radius * (size.kept / number) ** 0.5:.1f}"
        disc = element("circle", r=inner, class_="kept", **place)
        parts.append(element("g", title, ring, disc))
    return svg("width and height of the clips", _SIDE, _SIDE, "sizes", *parts)


def _square_grid(x: Axis, y: Axis) -> list[Markup]:
    parts = []
    for value in x.ticks():
        across, up = round(x.place(value), 1), round(y.place(value), 1)
        parts.append(element("line", x1=across, x2=across, y1=y.start, y2=y.end))
        parts.append(element("line", x1=x.start, x2=x.end, y1=up, y2=up))
        label = f"{value:g}"
        parts.append(element("text", label, x=across, y=y.start + 15, text_anchor="middle"))
        parts.append(element("text", label, x=x.start - 5, y=up + 4, text_anchor="end"))
    middle = (x.start + x.end) / 2
    parts.append(element("text", "width", x=middle, y=_SIDE - 6, text_anchor="middle"))
    turned = f"translate(9 {(y.start + y.end) / 2:.0f}) rotate(-90)"
    parts.append(element("text", "height", transform=turned, text_anchor="middle"))
    return parts


def _shape(name: str, aspect: float, x: Axis, y: Axis) -> Markup:
    """The diagonal on which all clips of one shape lie."""
    low, high = max(x.low, x.low * aspect), min(x.high, x.high * aspect)
    ends = {"x1": x.place(low), "x2": x.place(high)}
    ends |= {"y1": y.place(low / aspect), "y2": y.place(high / aspect)}
    line = element("line", class_="shape", **{k: f"{v:.1f}" for k, v in ends.items()})
    at = {"x": f"{ends['x2'] - 4:.1f}", "y": f"{ends['y2'] + 12:.1f}"}
    return element("g", line, element("text", name, text_anchor="end", **at))
