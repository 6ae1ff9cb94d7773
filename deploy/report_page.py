"""A dataset's report as one HTML file that needs nothing beside it and runs no script.

Texts from outside (file names, reasons) are spelt out where they do not print, and escaped.
"""

from collections.abc import Sequence
from pathlib import Path

from openreel.deploy.markup import (
    Markup,
    document,
    duration,
    element,
    head,
    picture,
    row,
    scroll,
    together,
)
from openreel.deploy.report_charts import histogram, size_chart
from openreel.deploy.report_clips import Card, Pair
from openreel.deploy.report_data import ReportPage, Settings, StageRuns, gather
from openreel.pipeline.commit import write_text
from openreel.pipeline.report import visible
from openreel.pipeline.summary import Report, Step, Tables

PAGE = "report.html"
_MOST_REASONS = 10
"""lines below a step of the way; the rest is summed up in one"""


def write_report(dataset: Path, tables: Tables, found: Report) -> Path:
    """Write DATASET/report.html whole or not at all; returns its path. Raises OSError."""
    path = dataset / PAGE
    write_text(path, render(gather(dataset, tables, found)))
    return path


def render(page: ReportPage) -> str:
    """The whole document."""
    sections = {
        "funnel": ("From files to clips", _funnel(page.found)),
        "spread": ("How the clips are spread", _spreads(page)),
        "kept": ("Clips that are used", _cards(page.clips.kept, _used(page))),
        "rejected": ("Clips that are not used", _cards(page.clips.rejected, _unused(page))),
        "duplicates": ("Nearly the same", _pairs(page.clips.pairs, page.found.duplicates)),
        "files": ("Files of which nothing is used", _files(page)),
        "speed": ("How fast it went", _runs(page.runs)),
        "settings": ("Made with", _settings(page.settings)),
    }
    sections = {name: section for name, section in sections.items() if section[1]}
    title = visible(page.dataset)
    kind = element("p", "openreel curation report", class_="quiet")
    return document(
        title=f"{title}: curation report",
        top=(kind, element("h1", title), element("p", _lead(page), class_="lead")),
        sections=sections,
        styles=("page", "report"),
    )


def _lead(page: ReportPage) -> Markup:
    numbers = {step.name: step.number for step in page.found.steps}
    return together(
        element("b", f"{numbers['files']:,} files"),
        " became ",
        element("b", f"{numbers['usable clips']:,} usable clips"),
        f", {duration(page.found.clip_seconds)} in all. Every file and every clip has a row with "
        "a verdict and a reason; this page is read from those rows.",
    )


# ---- the way ----------------------------------------------------------------------------------


def _funnel(found: Report) -> Markup:
    files, cut = found.steps[:3], found.steps[3:]
    note = element(
        "p", "Each decodable file is cut into shots, and each shot into clips.", class_="note"
    )
    parts = [_steps(files), note, _steps(cut)]
    if found.others:
        names = ", ".join(f"{n:,} {suffix}" for suffix, n in sorted(found.others.items()))
        text = f"Passed over, since by their names they are no media: {visible(names)}."
        parts.append(element("p", text, class_="quiet"))
    if found.cameras:
        parts += [element("h3", "Clips by the camera's motion"), _cameras(found)]
    return together(*parts)


def _steps(steps: Sequence[Step]) -> Markup:
    most = max(1, *(step.number for step in steps))
    return element("ol", *[_step(step, most) for step in steps], class_="steps")


def _step(step: Step, most: int) -> Markup:
    lost = sum(number for _, _, number in step.lost)
    kept = max(0, step.number - lost)
    track = element("span", _part(kept, most, "kept"), _part(lost, most, "rejected"), class_="bar")
    reasons = [
        element("li", element("b", f"−{number:,}"), f" {_words(status)}{visible(reason)}")
        for status, reason, number in step.lost[:_MOST_REASONS]
    ]
    if rest := step.lost[_MOST_REASONS:]:
        number = sum(count for _, _, count in rest)
        reasons.append(
            element("li", element("b", f"−{number:,}"), f" for {len(rest):,} other reasons")
        )
    big = element("b", f"{step.number:,}", class_="big")
    body = [element("span", step.name, class_="what"), track]
    if reasons:
        body.append(element("ul", *reasons))
    return element("li", big, element("div", *body))


def _words(status: str) -> str:
    """A verdict is named where it is not the usual one."""
    return "" if status == "rejected" else f"{status}: "


def _part(number: int, most: int, kind: str) -> Markup:
    return element("i", style=f"width:{100 * number / most:.2f}%", class_=kind)


def _cameras(found: Report) -> Markup:
    most = max(used + unused for used, unused in found.cameras.values())
    rows = []
    for name, (used, unused) in found.cameras.items():
        parts = [_part(used, most, "kept"), _part(unused, most, "rejected")]
        number = element("span", f"{used:,} of {used + unused:,} used", class_="number")
        rows.append(row(visible(name), element("span", *parts, class_="bar"), number))
    return element("table", *rows, class_="cameras")


# ---- how they are spread ----------------------------------------------------------------------


def _spreads(page: ReportPage) -> Markup:
    if not page.sizes:
        return Markup("")
    legend = element(
        "p",
        element("span", element("i", class_="kept"), "used", class_="key"),
        element("span", element("i", class_="rejected"), "not used", class_="key"),
        "point at a bar for its figures",
        class_="legend",
    )
    sizes = f"{page.num_sizes:,} sizes"
    if page.num_sizes > len(page.sizes):
        sizes += f", of which the {len(page.sizes)} commonest are drawn"
    caption = element("figcaption", "width and height", element("span", sizes, class_="quiet"))
    charts = [element("figure", caption, size_chart(page.sizes), class_="square")]
    for spread in page.spreads:
        number = element("span", f"{len(spread.values):,} clips", class_="quiet")
        caption = element("figcaption", spread.label, number)
        charts.append(element("figure", caption, histogram(spread)))
    parts = [legend, element("div", *charts, class_="spreads")]
    if page.constant:
        same = "; ".join(f"{label} {value:.3g}" for label, value in page.constant)
        parts.append(element("p", f"The same for all clips: {same}.", class_="quiet"))
    return together(*parts)


# ---- clips ------------------------------------------------------------------------------------


def _used(page: ReportPage) -> str:
    number = page.found.counts["clips"].get("ok", 0)
    return (
        f"{len(page.clips.kept):,} of {number:,}, drawn evenly over the kinds of camera motion. "
        "Where a clip comes from, back to the bytes of its file: openreel inspect DATASET --row ID."
    )


def _unused(page: ReportPage) -> str:
    counts = page.found.counts["clips"]
    number = counts.get("rejected", 0) + counts.get("failed", 0) - page.found.duplicates
    aside = "; those that are nearly the same as another follow" if page.found.duplicates else ""
    return f"{len(page.clips.rejected):,} of {number:,}, drawn evenly over the reasons{aside}."


def _cards(cards: Sequence[Card], note: str) -> Markup:
    if not cards:
        return Markup("")
    shown = element("div", *map(_card, cards), class_="strips")
    return together(element("p", note, class_="note"), shown)


def _card(card: Card) -> Markup:
    caption = [
        element("span", visible(card.name), class_="name"),
        element("span", visible(card.facts), class_="quiet"),
    ]
    if card.status != "ok":
        verdict = f"{_words(card.status)}{visible(card.reason)}"
        caption.append(element("span", verdict, class_="verdict bad"))
    caption.append(element("code", card.clip_id))
    return element("figure", _strip(card), element("figcaption", *caption))


def _strip(card: Card) -> Markup:
    if not card.frames:
        why = visible(card.unreadable) or "no frame"
        words = element("span", "no picture:", element("br"), f"{why[:120]}")
        return element("div", words, class_="strip lost")
    name = visible(card.name)
    frames = []
    for i, frame in enumerate(card.frames):
        height, width = frame.shape[:2]
        shown = picture(frame, f"{name}, frame {i + 1}", small=True)
        # Frames share the strip's width by their shapes, so that all are of one height.
        frames.append(element("span", shown, style=f"flex:{width / height:.3f}"))
    aspect = sum(f.shape[1] / f.shape[0] for f in card.frames)
    return element("div", *frames, class_="strip", style=f"--aspect:{aspect:.3f}")


def _pairs(pairs: Sequence[Pair], number: int) -> Markup:
    if not pairs:
        return Markup("")
    note = (
        f"{len(pairs):,} of {number:,} clips that are not used because another one shows nearly "
        "the same; that one is on the left."
    )
    shown = [
        element(
            "article",
            element("p", "is not in the table", class_="quiet")
            if pair.kept is None
            else _card(pair.kept),
            _card(pair.duplicate),
        )
        for pair in pairs
    ]
    return together(element("p", note, class_="note"), element("div", *shown, class_="twins"))


# ---- files, runs, settings --------------------------------------------------------------------


def _files(page: ReportPage) -> Markup:
    if not page.refused:
        return Markup("")
    number = len(page.found.refused)
    note = f"{len(page.refused):,} of {number:,}"
    note += "." if len(page.refused) == number else ", drawn evenly over the reasons."
    rows = [
        row(
            element("span", visible(file.uri.rsplit("/", 1)[-1]), title=visible(file.uri)),
            file.status,
            visible(file.reason),
        )
        for file in page.refused
    ]
    listed = element("table", head("file", "status", "reason"), *rows, class_="wide")
    return together(element("p", note, class_="note"), scroll(listed))


def _runs(stages: Sequence[StageRuns]) -> Markup:
    if not stages:
        return Markup("")
    longest = max(stage.seconds for stage in stages) or 1.0
    rows = []
    for stage in stages:
        rate = stage.rows / stage.seconds if stage.seconds else 0.0
        share = element("span", _part(round(stage.seconds), round(longest) or 1, "kept"))
        rows.append(
            row(
                visible(stage.stage),
                f"{stage.rows:,}",
                f"{stage.failed:,}",
                duration(stage.seconds),
                f"{rate:,.3g}",
                f"{stage.num_runs:,}",
                visible(stage.last.replace("T", " ").replace("+00:00", " UTC")),
                element("span", share, class_="bar"),
            )
        )
    names = ("stage", "rows", "failed", "time", "rows a second", "runs", "last begun", "")
    return scroll(element("table", head(*names), *rows, class_="speed"))


def _settings(tables: Sequence[Settings]) -> Markup:
    parts = []
    for made in tables:
        summary = element(
            "summary", element("b", visible(made.table)), " ", element("code", made.fingerprint)
        )
        values = [*made.values, *((f"{name} (version)", value) for name, value in made.tools)]
        facts = [
            together(element("dt", visible(name)), element("dd", visible(value)))
            for name, value in values
        ]
        shown = element("dl", *facts) if facts else element("p", "nothing to set", class_="quiet")
        parts.append(element("details", summary, shown))
    note = (
        "A table holds rows of one set of settings only; its digest stands beside its name. A run "
        "with others is refused."
    )
    return together(element("p", note, class_="note"), *parts)
