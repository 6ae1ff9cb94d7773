"""HTML and SVG by construction: what is not Markup already is escaped when it becomes a child."""

import base64
import html
import io

from openreel.pipeline.media import Frames

Child = object
"""Markup, or anything whose text is shown as it is"""

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
