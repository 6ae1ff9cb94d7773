"""A dataset's captions as one HTML file that needs nothing beside it and runs no script.

Texts from outside (file names, captions, reasons) are spelt out where they do not print, and
escaped.
"""

from collections.abc import Sequence
from pathlib import Path

from openreel.deploy.captions_data import (
    CaptionedClip,
    CaptionerFigures,
    captioned_clips,
    figures,
    listed,
    told,
)
from openreel.deploy.markup import (
    Child,
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
from openreel.pipeline.commit import write_text
from openreel.pipeline.report import visible
from openreel.recaption.caption import Caption, mean
from openreel.recaption.tables import caption_tables

PAGE = "captions.html"


def write_captions_page(dataset: Path) -> Path:
    """Write DATASET/captions.html whole or not at all; returns its path. Raises OSError."""
    path = dataset / PAGE
    captioners = [figures(folder) for folder in caption_tables(dataset)]
    name = dataset.resolve().name
    write_text(path, render(name, captioners, captioned_clips(dataset)))
    return path


def summary(folder: Path) -> str:
    """A captioner's table in a few lines for a terminal."""
    return visible_lines(told(figures(folder)))


def visible_lines(text: str) -> str:
    return "\n".join(visible(line) for line in text.splitlines())


def render(
    name: str, captioners: Sequence[CaptionerFigures], clips: Sequence[CaptionedClip]
) -> str:
    """The whole document."""
    sections = {
        "captioners": ("Who captioned", _captioners(captioners)),
        "clips": ("What is said of some clips", _clips(clips)),
    }
    title = visible(name)
    kind = element("p", "openreel captions", class_="quiet")
    return document(
        title=f"{title}: captions",
        top=(kind, element("h1", title), element("p", _lead(captioners), class_="lead")),
        sections=sections,
        styles=("page", "report", "captions"),
    )


def _lead(captioners: Sequence[CaptionerFigures]) -> Markup:
    used = sum(found.used for one in captioners for found in one.kinds.values())
    unused = sum(found.flaws.total() for one in captioners for found in one.kinds.values())
    return together(
        element("b", f"{used + unused:,} captions"),
        f" by {len(captioners):,} captioner{'s' if len(captioners) != 1 else ''}, of which ",
        element("b", f"{used:,} passed the checks"),
        ". Those that did not are kept with the reason and never trained on; texts that came with "
        "a file are kept too.",
    )


# ---- captioners -------------------------------------------------------------------------------


def _captioners(captioners: Sequence[CaptionerFigures]) -> Markup:
    rows = [line for one in captioners for line in _captioner(one)]
    names = ("captioner", "kind", "used", "not used", "log-probability", "agreement", "clips")
    note = (
        "The log-probability is a token's, in the mean, under the captioner itself; the agreement "
        "is the contrastive likeness of clip and caption, where the captioner can tell it."
    )
    shown = element("table", head(*names), *rows, class_="captioners")
    return together(element("p", note, class_="note"), scroll(shown))


def _captioner(one: CaptionerFigures) -> list[Markup]:
    name = together(
        element("b", visible(one.name)), element("br"), element("code", visible(one.captioner))
    )
    clips: list[Child] = [
        f"{listed(one.rows)} in {duration(one.seconds)}" if one.rows else "no rows"
    ]
    for reason, number in one.reasons.most_common(3):
        clips += [element("br"), element("span", f"{number:,}: {visible(reason)}", class_="bad")]
    if one.spent:
        spent = ", ".join(f"{key} {value:,.6g}" for key, value in one.spent.items())
        clips += [element("br"), element("span", spent.replace("_", " "), class_="quiet")]
    lines: list[Markup] = []
    for kind, found in one.kinds.items() or [("", None)]:
        first = not lines
        if found is None:
            lines.append(row(name, "", "", "", "", "", together(*clips)))
            continue
        unused = f"{found.flaws.total():,} ({visible(listed(found.flaws))})" if found.flaws else "0"
        lines.append(
            row(
                name if first else "",
                kind,
                f"{found.used:,}",
                unused,
                _number(mean(found.logprobs)),
                _number(mean(found.agreements)),
                together(*clips) if first else "",
            )
        )
    return lines


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}".replace("-", "−")


# ---- clips ------------------------------------------------------------------------------------


def _clips(clips: Sequence[CaptionedClip]) -> Markup:
    note = (
        f"{len(clips):,} clips, drawn evenly over the folders that they come from. A long clip's "
        "windows are captioned one by one and merged."
    )
    shown = element("div", *map(_clip, clips), class_="talk")
    return together(element("p", note, class_="note"), shown)


def _clip(clip: CaptionedClip) -> Markup:
    caption = element(
        "figcaption",
        element("span", visible(clip.name), class_="name"),
        element("span", visible(clip.facts), class_="quiet"),
        element("code", clip.clip_id),
    )
    blocks = []
    if clip.originals:
        lines = [_line(c.kind, element("span", visible(c.text))) for c in clip.originals]
        blocks.append(_block("came with the file", lines))
    blocks += [_block(visible(name), _said(captions)) for name, captions in clip.said]
    if not clip.said:
        blocks.append(element("p", "Nobody has captioned this clip yet.", class_="quiet"))
    return element("article", element("figure", _strip(clip), caption), element("div", *blocks))


def _strip(clip: CaptionedClip) -> Markup:
    if not clip.frames:
        words = element("span", f"no picture: {visible(clip.unreadable)[:120]}")
        return element("div", words, class_="strip lost")
    frames = []
    for i, frame in enumerate(clip.frames):
        shown = picture(frame, f"{visible(clip.name)}, frame {i + 1}", small=True)
        # Frames share the strip's width by their shapes, so that all are of one height.
        frames.append(element("span", shown, style=f"flex:{frame.shape[1] / frame.shape[0]:.3f}"))
    return element("div", *frames, class_="strip")


def _block(title: str, lines: Sequence[Child]) -> Markup:
    return element("div", element("h3", title), *lines, class_="says")


def _said(captions: Sequence[Caption]) -> list[Child]:
    lines: list[Child] = [_verdict(c.kind, c) for c in captions if c.whole]
    parts = [c for c in captions if not c.whole]
    if parts:
        windows = [_verdict(f"{c.start_s:.1f}–{c.end_s or 0:.1f} s, {c.kind}", c) for c in parts]
        lines.append(element("details", element("summary", f"{len(parts)} of windows"), *windows))
    return lines


def _verdict(kind: str, caption: Caption) -> Markup:
    scores = [
        f"{name} {_number(value)}"
        for name, value in (("log-p", caption.logprob), ("agreement", caption.agreement))
        if value is not None
    ]
    chip = (
        element("span", visible(caption.flaw), class_="chip bad")
        if caption.flaw
        else element("span", "passed", class_="chip good")
    )
    below = element("span", chip, " ", " · ".join(scores), class_="scores")
    text = element("span", visible(caption.text) or "–")
    return _line(kind, together(text, below), "line unused" if caption.flaw else "line")


def _line(kind: str, content: Markup, class_: str = "line") -> Markup:
    shown = element("span", content, class_="text")
    return element("div", element("span", kind, class_="kind"), shown, class_=class_)
