"""A contact sheet: strips of frames under their labels, as one PNG."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from openreel.pipeline.commit import committed_file
from openreel.pipeline.errors import InputError
from openreel.pipeline.media import Frames

MARGIN, GAP, LINE = 28, 6, 34
"""pixels around the sheet, between frames, and a label's height"""
LONG_SIDE = 240
"""pixels that the longest side of all frames is enlarged to, at least"""
FONT_SIZE = 20
PAPER, INK = (250, 249, 246), (32, 33, 36)


def contact_sheet(path: Path, rows: Sequence[tuple[str, Frames]]) -> None:
    """Write rows of (label, frames (T, H, W, 3)) as a PNG, committed.

    All frames are enlarged by one whole factor, so that sizes compare and aspects stay true.
    Raises InputError when there is no row.
    """
    from PIL import Image, ImageDraw, ImageFont

    if not rows:
        raise InputError("contact sheet", "no rows", "at least one")
    font = ImageFont.load_default(FONT_SIZE)
    zoom = max(1, -(-LONG_SIDE // max(max(frames.shape[1:3]) for _, frames in rows)))
    strips = [_strip(frames, zoom) for _, frames in rows]
    widest = max(
        max(strip.shape[1], round(font.getlength(label)))
        for (label, _), strip in zip(rows, strips, strict=True)
    )
    tall = sum(LINE + strip.shape[0] + MARGIN for strip in strips)
    sheet = Image.new("RGB", (widest + 2 * MARGIN, tall + MARGIN), PAPER)
    draw, top = ImageDraw.Draw(sheet), MARGIN
    for (label, _), strip in zip(rows, strips, strict=True):
        draw.text((MARGIN, top), label, fill=INK, font=font)
        sheet.paste(Image.fromarray(strip), (MARGIN, top + LINE))
        top += LINE + strip.shape[0] + MARGIN
    with committed_file(path) as scratch:
        sheet.save(scratch, "PNG")


def _strip(frames: Frames, zoom: int) -> Frames:
    """Frames side by side, each `zoom` times as large."""
    from PIL import Image

    num_frames, height, width = frames.shape[:3]
    step = width * zoom + GAP
    strip = np.full((height * zoom, num_frames * step - GAP, 3), PAPER, np.uint8)
    for i, frame in enumerate(frames):
        large = Image.fromarray(frame).resize(
            (width * zoom, height * zoom), Image.Resampling.LANCZOS
        )
        strip[:, i * step : i * step + width * zoom] = large
    return strip
