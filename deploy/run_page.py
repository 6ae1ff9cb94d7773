"""A training run as one HTML file that needs nothing beside it: what is learnt, how fast, samples.

RUN/metrics.jsonl, samples/, bad-steps.jsonl, recipe.json  ->  RUN/index.html
"""

import io
import json
import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from openreel.deploy.charts import Curve, curve_chart
from openreel.deploy.markup import (
    Markup,
    data_uri,
    document,
    duration,
    element,
    head,
    row,
    scroll,
    together,
)
from openreel.dit import bad_steps, metrics
from openreel.pipeline.commit import write_text
from openreel.pipeline.report import visible

PAGE = "index.html"
_MOST_POINTS = 1000
"""of a curve; more are averaged together"""
_SPANS = 5
"""columns of a table: equal parts of the run"""
_SHEETS = 6
"""contact sheets that are shown, evenly from first to last"""
_SHEET_WIDTH = 1600
_BAD = 20
"""bad steps that are listed, the newest"""

Line = dict[str, Any]
Lines = Sequence[Line]

_CURVES = (
    ("loss", "loss", "loss"),
    ("gradient_norm", "gradient norm", "norm"),
    ("learning_rate", "learning rate", "rate"),
    ("tokens_per_second", "speed of all ranks", "tokens a second"),
    ("tflops", "counted work of a device", "TFLOP/s"),
    ("mfu", "share of the device's peak", "MFU"),
    ("fill", "fill of the packs", "share"),
    ("rank_balance", "balance of the ranks", "mean / most"),
    ("seconds", "time of a step", "seconds"),
)
_CLASSES = (
    ("level", "noise level"),
    ("frames", "latent frames"),
    ("area", "patches of a frame"),
)


def write_run_page(run: Path) -> Path:
    """Write RUN/index.html whole or not at all; returns its path. Raises OSError."""
    path = run / PAGE
    write_text(path, render(run))
    return path


def render(run: Path) -> str:
    """The whole document, of a run that has ended or still goes on."""
    lines = metrics.read(run / "metrics.jsonl")
    good = [line for line in lines if math.isfinite(line["loss"])]
    sections: dict[str, tuple[str, Markup]] = {
        "curves": ("Curves", _curves(good)),
        "classes": ("Where the loss is", _classes(good)),
        "samples": ("Samples on the way", _samples(run / "samples")),
        "bad": ("Steps that were left out", _bad(metrics.read(run / bad_steps.NAME))),
        "settings": ("Made with", _settings(run / "recipe.json")),
    }
    title = visible(run.name)
    return document(
        title=f"{title}: training",
        top=(
            element("p", "openreel training run", class_="quiet"),
            element("h1", title),
            element("p", _lead(lines, good), class_="lead"),
        ),
        sections={name: section for name, section in sections.items() if section[1]},
        styles=("page",),
    )


def _lead(lines: Lines, good: Lines) -> str:
    if not good:
        return "No step has been recorded."
    first, last = _spans(good)[0], _spans(good)[-1]
    seconds = sum(line.get("seconds", 0.0) for line in good)
    before, now = _number(_mean(first, "loss")), _number(_mean(last, "loss"))
    words = [
        f"{lines[-1]['step']:,} steps, {duration(seconds)} of training.",
        f"Loss {before} in the first part of the run, {now} in the last.",
    ]
    if (speed := _mean(last, "tokens_per_second")) is not None:
        words.append(f"{speed:,.0f} tokens a second, packs {_mean(last, 'fill'):.2%} full.")
    if (reached := _mean(last, "mfu")) is not None:
        words.append(f"{reached:.1%} of the devices' peak.")
    return " ".join(words)


def _spans(lines: Lines) -> list[Lines]:
    """At most _SPANS equal parts, none of them empty."""
    count = min(_SPANS, len(lines))
    cuts = [round(i * len(lines) / count) for i in range(count + 1)]
    return [lines[a:b] for a, b in pairwise(cuts)]


def _mean(lines: Lines, name: str) -> float | None:
    """Of the steps that have the figure."""
    found = [line[name] for line in lines if name in line]
    return sum(found) / len(found) if found else None


def _curves(lines: Lines) -> Markup:
    drawn = []
    for name, title, unit in _CURVES:
        points = [(float(line["step"]), float(line[name])) for line in lines if name in line]
        if points:
            curve = Curve(name=title, points=tuple(_thinned(points)), unit=unit)
            drawn.append(element("figure", element("figcaption", title), curve_chart(curve)))
    return element("div", *drawn, class_="curves") if drawn else together()


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Means of as many neighbours as leaves few enough points."""
    size = -(-len(points) // _MOST_POINTS)
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [(group[-1][0], sum(value for _, value in group) / len(group)) for group in groups]


# ---- by level and by shape --------------------------------------------------------------------


def _classes(lines: Lines) -> Markup:
    tables = [_table(lines, kind, title) for kind, title in _CLASSES]
    shown = [table for table in tables if table]
    if not shown:
        return together()
    note = (
        "The mean loss of the samples of each class, in equal parts of the run. Losses of "
        "different classes do not compare: compare a row's numbers with one another."
    )
    return together(element("p", note, class_="note"), *map(scroll, shown))


def _table(lines: Lines, kind: str, title: str) -> Markup:
    names = dict.fromkeys(k for line in lines for k in line if k.startswith(f"loss_by_{kind}/"))
    if not names:
        return together()
    spans = _spans(lines)
    columns = [f"steps {span[0]['step']:,}–{span[-1]['step']:,}" for span in spans]
    ordered = sorted(names, key=lambda name: float(_class(name).rstrip("+").split("-")[0]))
    rows = [row(_class(name), *[_number(_mean(span, name)) for span in spans]) for name in ordered]
    return element("table", head(title, *columns), *rows, class_="funnel")


def _class(name: str) -> str:
    return name.rpartition("/")[2]


def _number(value: float | None) -> str:
    """A part of the run without such a sample has no loss."""
    return "–" if value is None else f"{value:.4g}"


# ---- samples, bad steps, settings -------------------------------------------------------------


def _samples(folder: Path) -> Markup:
    sheets = sorted(folder.glob("step-????????.png"))
    if not sheets:
        return together()
    last = len(sheets) - 1
    count = min(_SHEETS, len(sheets))
    chosen = sorted({round(i * last / max(1, count - 1)) for i in range(count)}, reverse=True)
    figures = []
    for i in chosen:
        step = f"step {int(sheets[i].stem.removeprefix('step-')):,}"
        shown = element("img", src=_picture(sheets[i]), alt=f"samples at {step}")
        figures.append(element("figure", element("h3", step), shown))
    note = "The averaged weights, always with the same prompts and the same noise; newest first."
    return together(element("p", note, class_="note"), *figures)


def _picture(path: Path) -> str:
    """A sheet with fewer bytes."""
    from PIL import Image

    content = io.BytesIO()
    with Image.open(path) as opened:
        small = opened.convert("RGB")
        small.thumbnail((_SHEET_WIDTH, 10 * _SHEET_WIDTH))
        small.save(content, "JPEG", quality=85)
    return data_uri(content.getvalue(), "image/jpeg")


def _bad(lines: Lines) -> Markup:
    if not lines:
        return together()
    rows = []
    for line in lines[-_BAD:]:
        held = visible(json.dumps(line["held"]))
        rows.append(row(line["step"], line["rank"], line["micro_batch"], line["loss"], held))
    names = head("step", "rank", "micro-batch", "loss", "what it held")
    return scroll(element("table", names, *rows, class_="wide"))


def _settings(path: Path) -> Markup:
    if not path.exists():
        return together()
    text = json.dumps(json.loads(path.read_text(encoding="utf-8")), indent=1)
    told = element("summary", "the recipe and what it was given")
    return element("details", told, element("pre", text))
