"""HTML and SVG by construction: what is not Markup already is escaped when it becomes a child."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from openreel.pipeline.media import Frames

Child = object
"""Markup, or anything whose text is shown as it is"""

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""what the browser may load: nothing from outside the page"""
_VOID = frozenset(["br", "img", "meta"])
"""HTML's own elements without an end; one of SVG that is left open swallows what follows"""


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def element(name: str, /, *children: Child, **attributes: object) -> Markup:
    """<name attributes>children</name>.

    class_ is class and stroke_width is stroke-width; True is a bare attribute, False and None are
    left out.
    """
    words = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        words.append(key if value is True else f'{key}="{html.escape(str(value))}"')
    opened = f"<{' '.join(words)}>"
    return Markup(opened if name in _VOID else f"{opened}{together(*children)}</{name}>")


def together(*children: Child) -> Markup:
    """Children side by side, escaped unless they are Markup."""
    return Markup("".join(c if isinstance(c, Markup) else html.escape(str(c)) for c in children))


def document(
    *,
    title: str,
    top: Sequence[Child],
    sections: Mapping[str, tuple[str, Child]],
    styles: Sequence[str],
    policy: str = POLICY,
    scheme: bool = True,
) -> str:
    """A whole page that needs nothing beside it and runs no script.

    Args:
        title: the browser's.
        top: what stands in its header.
        sections: id -> heading and content, in their order; the page begins with links to them.
        styles: names of style sheets of this folder, without ".css".
        policy: what the browser may load.
        scheme: True: the browser's own parts may be light or dark before the styles are read.
    """
    sheets = [Path(__file__).with_name(f"{name}.css").read_text("utf-8") for name in styles]
    metadata = [
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
    ]
    if scheme:
        metadata.append(element("meta", name="color-scheme", content="light dark"))
    metadata += [element("title", title), element("style", Markup("\n".join(sheets)))]
    links = [element("a", heading, href=f"#{key}") for key, (heading, _) in sections.items()]
    bodies = [
        element("section", element("h2", heading), content, id=key)
        for key, (heading, content) in sections.items()
    ]
    body = element(
        "body", element("header", *top), element("nav", *links), element("main", *bodies)
    )
    return "<!doctype html>" + element("html", element("head", *metadata), body, lang="en")


def data_uri(content: bytes, kind: str) -> str:
    """The bytes themselves as an address, so that a page needs no file beside it."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def head(*names: str) -> Markup:
    """The row of a table with the names of its columns."""
    return element("tr", *[element("th", name, scope="col") for name in names])


def row(*cells: Child) -> Markup:
    """One row of a table."""
    return element("tr", *[element("td", cell) for cell in cells])


def scroll(wide: Markup) -> Markup:
    """What may be wider than a phone, in a box of its own that scrolls."""
    return element("div", wide, class_="scroll")


def duration(seconds: float) -> str:
    """A time for people."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def picture(frame: Frames, description: str, *, small: bool = False) -> Markup:
    """A frame, uint8 (H, W, 3), as an image inside the page; small: with fewer bytes."""
    from PIL import Image

    content = io.BytesIO()
    # Full chroma: at 72 pixels, halved colour resolution is seen.
    quality, subsampling = (72, 2) if small else (90, 0)
    Image.fromarray(frame).save(content, "JPEG", quality=quality, subsampling=subsampling)
    height, width = frame.shape[:2]
    uri = data_uri(content.getvalue(), "image/jpeg")
    return element("img", src=uri, alt=description, width=width, height=height)
