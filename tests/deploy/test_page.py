"""The page stands alone, shows every station, and lets no text out of its place."""

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from openreel.deploy.charts import Curve, Segment, smoothed
from openreel.deploy.checker import PROMPTS, Score, summarise
from openreel.deploy.contact_sheet import GAP, MARGIN, contact_sheet
from openreel.deploy.demo_page import compare, evenly, mixed, psnr, written
from openreel.deploy.page import render
from openreel.deploy.page_data import (
    Captioned,
    Captioning,
    Checks,
    ClipCard,
    Curation,
    Packing,
    Page,
    Reconstruction,
    RefusedFile,
    Run,
    Video,
)
from openreel.pipeline.errors import InputError
from openreel.recaption.caption import Caption, ClipCaptions

HOSTILE = "<script>alert('x')</script>\" onload=\"x & 'y'"
STRIP = np.random.default_rng(0).integers(0, 256, (4, 18, 32, 3)).astype(np.uint8)


def a_page(text: str) -> Page:
    """A page whose every text is the same."""
    score = Score(text, True, False, True, text, text, text)
    said = compare(f"{text} ball", f"{text} bar")
    checks = Checks(
        trained=(score,),
        untrained=(score,),
        trained_summary=summarise([score]),
        untrained_summary=summarise([]),
    )
    video = Video(
        prompt=text,
        expanded=text,
        size_in_words=text,
        facts=text,
        width=32,
        height=18,
        content=b"mp4",
        link="videos/a.mp4",
        sidecar="videos/a.json",
    )
    return Page(
        run=Run(command=text, versions=((text, text),), seconds=((text, 3.0),)),
        curation=Curation(
            funnel=((text, 3, 2, 1),),
            seconds_used=9.5,
            cards=(ClipCard(name=text, frame=None, facts=text, status="rejected", reason=text),),
            refused=(RefusedFile(name=text, status="rejected", reason=text),),
        ),
        captioning=Captioning(
            exact_short=0.5,
            exact_dense=None,
            num_compared=2,
            num_flawed=1,
            examples=(Captioned(frames=STRIP, truth=text, short=said, dense=said),),
        ),
        reconstructions=(Reconstruction(facts=text, original=STRIP, decoded=STRIP, psnr=30.0),),
        packing=Packing(
            packs=((Segment(grid=(3, 5, 4)), Segment(grid=(1, 4, 4))),),
            capacity=80,
            mean_fill=0.95,
            num_packs=1,
        ),
        curves=(Curve(name=text, points=((1.0, 9.0), (2.0, 3.0), (3.0, 1.0))),),
        videos=(video,),
        checks=checks,
    )


class Outline(HTMLParser):
    """Tags, addresses and text of a document; every tag but HTML's void ones must be closed.

    In an SVG within HTML, an unclosed <rect> swallows what follows, and that is not drawn.
    """

    VOID = frozenset(["br", "img", "meta"])

    def __init__(self, document: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(document)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            assert not self.open or self.open[-1] not in ("rect", "line", "circle", "polyline")
            self.open.append(tag)
        assert not any(name.startswith("on") for name, _ in attrs)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_every_station_is_shown_and_nothing_is_fetched() -> None:
    page = Outline(render(a_page("plain words")))
    assert not page.open
    assert page.tags.count("section") == 8
    assert page.tags.count("svg") >= 2
    assert "video" in page.tags
    kinds = {address.split(":")[0] for address in page.addresses if ":" in address}
    assert kinds == {"data"}
    for shown in ("plain words", "95", "30.0", "rejected"):
        assert shown in page.text


def test_hostile_text_stays_text() -> None:
    page = Outline(render(a_page(HOSTILE)))
    assert "script" not in page.tags
    assert page.tags == Outline(render(a_page("plain words"))).tags
    assert HOSTILE in page.text


def test_a_contact_sheet_keeps_aspects_and_order(tmp_path: Path) -> None:
    tall, wide = np.full((2, 128, 72, 3), 200, np.uint8), np.full((3, 72, 128, 3), 90, np.uint8)
    contact_sheet(tmp_path / "sheet.png", [("tall", tall), ("wide", wide)])
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    for value, count, width, height in ((200, 2, 72, 128), (90, 3, 128, 72)):
        rows, columns = np.nonzero((sheet == value).all(-1))
        assert len(set(rows.tolist())) / height == len(set(columns.tolist())) / (count * width)
        zoom = len(set(rows.tolist())) // height
        assert zoom >= 1
        assert columns.max() - columns.min() + 1 == count * width * zoom + (count - 1) * GAP
        assert columns.min() == MARGIN
    with pytest.raises(InputError, match="at least one"):
        contact_sheet(tmp_path / "none.png", [])


def test_the_truth_is_never_compared_with_itself() -> None:
    given = Caption(kind="short", text="a red ball", source="manifest")
    flawed = Caption(kind="short", text="ball ball ball", source="videococa", flaw="repeats")
    row = ClipCaptions(clip_id="a", captions=(given, flawed))
    assert row.of_kind("short") == given  # what training uses, and what a figure must not
    assert written(row, "short") == flawed
    assert written(ClipCaptions(clip_id="a", captions=(given,)), "short") is None


def test_what_the_page_measures_is_right() -> None:
    assert psnr(STRIP, STRIP) == 100.0
    assert psnr(STRIP * 0, STRIP * 0 + 255) == 0.0
    assert [agreed for _, agreed in compare("a red ball", "a blue ball").words] == [
        True,
        False,
        True,
    ]
    assert mixed("abc", "d", "ef", count=4) == ["a", "b", "d", "e"]
    assert len(evenly(np.zeros((9, 2, 2, 3), np.uint8), 4)) == 4
    slope = [(float(i), 2.0 * i) for i in range(100)]
    zigzag = [(x, y + (-1) ** int(x)) for x, y in slope]
    assert smoothed(slope) == slope[2:-2]  # a mean of the past alone would lag
    pairs = zip(smoothed(zigzag), slope[2:-2], strict=True)
    assert all(abs(a - b) < 0.5 for (_, a), (_, b) in pairs)
    assert len(PROMPTS) == 24
