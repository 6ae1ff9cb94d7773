"""Drawings as inline SVG: curves with axes, and packs as bars of coloured segments."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from openreel.deploy.markup import Markup, element, together

Grid = tuple[int, int, int]
Point = tuple[float, float]

_WIDTH, _HEIGHT = 400.0, 250.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 18.0, 10.0, 38.0
_SMOOTHING = 0.03
"""of the curve's length: the span that the smoothed line averages over"""

_PACK_WIDTH, _BAR, _GAP = 1080.0, 34.0, 9.0
_HUES = {"landscape": 214, "square": 160, "portrait": 22}


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One figure over the steps of a training run."""

    name: str
    points: tuple[Point, ...]
    """(step, value)"""
    unit: str = "loss"
    """what the values are"""


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One sample's part of a pack."""

    grid: Grid
    """(T, H, W) in tokens"""

    @property
    def num_tokens(self) -> int:
        return math.prod(self.grid)

    @property
    def orientation(self) -> str:
        _, rows, columns = self.grid
        return "square" if rows == columns else "landscape" if columns > rows else "portrait"

    @property
    def label(self) -> str:
        return "×".join(map(str, self.grid))


def smoothed(points: Sequence[Point]) -> list[Point]:
    """The mean around each point that has enough others before and after it."""
    reach, line = round(_SMOOTHING * len(points) / 2), []
    for i in range(reach, len(points) - reach):
        near = [value for _, value in points[i - reach : i + reach + 1]]
        line.append((points[i][0], sum(near) / len(near)))
    return line


@dataclass(frozen=True)
class Axis:
    """Values low to high on pixels start to end."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def place(self, value: float) -> float:
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self, count: int = 4) -> list[float]:
        """Round values inside: 1, 2, 5 of each decade, or every 1, 2, 5 times a power of ten, about
        count of them."""
        if self.logarithmic:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            found = [digit * 10.0**d for d in decades for digit in (1, 2, 5)]
            return [v for v in found if self.low <= v <= self.high]
        rough = (self.high - self.low) / count
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(digit * power for digit in (1, 2, 5, 10) if digit * power >= rough)
        first = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def _axes(points: Sequence[Point]) -> tuple[Axis, Axis]:
    """x from 0 to the last step; y logarithmic where a loss falls far and stays above 0."""
    values = [value for _, value in points]
    low, high = min(values), max(values)
    logarithmic = low > 0 and high > 4 * low
    if logarithmic:
        low, high = low / 1.1, high * 1.1
    else:
        margin = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
        low, high = low - margin, high + margin
    x = Axis(0.0, max(1.0, points[-1][0]), _LEFT, _WIDTH - _RIGHT)
    return x, Axis(low, high, _HEIGHT - _BOTTOM, _TOP, logarithmic)


def _short(value: float) -> str:
    """At most five characters, for which there is room: 20000 is 20k and 0.0005 is 5e-4."""
    if abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    if abs(value) >= 1e4:
        return f"{value / 1e3:g}k"
    if 0 < abs(value) < 1e-2:
        digits, power = f"{value:.1e}".split("e")
        return f"{float(digits):g}e{int(power)}"
    return f"{value:g}"


def _ticks(x: Axis, y: Axis, unit: str) -> list[Markup]:
    """Lines across, ticks below, and their labels."""
    parts = []
    for value in y.ticks():
        at = round(y.place(value), 1)
        parts.append(element("line", x1=x.start, x2=x.end, y1=at, y2=at))
        parts.append(element("text", _short(value), x=x.start - 6, y=at + 4, text_anchor="end"))
    for step in x.ticks():
        at = round(x.place(step), 1)
        parts.append(element("line", x1=at, x2=at, y1=y.start, y2=y.start + 4))
        parts.append(element("text", _short(step), x=at, y=y.start + 17, text_anchor="middle"))
    across, down = (x.start + x.end) / 2, (y.start + y.end) / 2
    scale = f"{unit}, logarithmic" if y.logarithmic else unit
    turned = f"translate(10 {down:.0f}) rotate(-90)"
    parts.append(element("text", "step", x=across, y=_HEIGHT - 4, text_anchor="middle"))
    parts.append(element("text", scale, transform=turned, text_anchor="middle"))
    return parts


def curve_chart(curve: Curve) -> Markup:
    """A smoothed line over its faint raw points, with labelled axes."""
    if not curve.points:
        return element("p", "no steps were recorded", class_="quiet")
    x, y = _axes(curve.points)
    raw = [
        element("circle", cx=round(x.place(step), 1), cy=round(y.place(value), 1), r=1.4)
        for step, value in curve.points
    ]
    line = [f"{x.place(s):.1f},{y.place(v):.1f}" for s, v in smoothed(curve.points)]
    drawn = [*_ticks(x, y, curve.unit), *raw, element("polyline", points=" ".join(line))]
    return svg(f"{curve.name}: {curve.unit} over steps", _WIDTH, _HEIGHT, "curve", *drawn)


def pack_chart(packs: Sequence[Sequence[Segment]], capacity: int) -> Markup:
    """One bar a pack, as long as its tokens; the rest of the bar is what stayed empty."""
    longest = max((s.grid[0] for pack in packs for s in pack), default=1)
    parts, top = [], 1.0
    for pack in packs:
        bar = {"y": top, "height": _BAR}
        parts.append(element("rect", x=1, width=_PACK_WIDTH - 2, class_="empty", **bar))
        left = 1.0
        for segment in pack:
            width = segment.num_tokens / capacity * (_PACK_WIDTH - 2)
            parts.append(_segment(segment, left, width, top, _colour(segment, longest)))
            left += width
        top += _BAR + _GAP
    return svg(f"{len(packs)} packs", _PACK_WIDTH, top - _GAP + 1, "packs", *parts)


def _colour(segment: Segment, longest: int) -> str:
    """Hue by orientation, darker with more frames."""
    share = (segment.grid[0] - 1) / max(1, longest - 1)
    return f"hsl({_HUES[segment.orientation]} 52% {84 - 22 * share:.0f}%)"


def _segment(segment: Segment, left: float, width: float, top: float, colour: str) -> Markup:
    title = element("title", f"{segment.label}: {segment.num_tokens} tokens")
    shown = [title, element("rect", x=f"{left:.2f}", y=top, width=f"{width:.2f}", height=_BAR)]
    if width > 6.2 * len(segment.label):
        place = {"x": f"{left + width / 2:.1f}", "y": top + _BAR / 2 + 4}
        shown.append(element("text", segment.label, text_anchor="middle", **place))
    return element("g", *shown, fill=colour)


def pack_legend() -> Markup:
    """What the colours of pack_chart say."""
    swatches = [
        element("span", element("i", style=f"background:hsl({hue} 52% 60%)"), name, class_="key")
        for name, hue in _HUES.items()
    ]
    return element("p", *swatches, "darker: more frames", class_="legend")


def svg(label: str, width: float, height: float, class_: str, *parts: Markup) -> Markup:
    """A drawing that scales with the page; label is what it shows, in words."""
    box = f"0 0 {width:g} {height:g}"
    return element(
        "svg", together(*parts), viewBox=box, class_=class_, role="img", aria_label=label
    )
