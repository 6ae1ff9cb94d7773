"""The captions page shows what every captioner says and what the checks found, and stands alone."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from openreel.deploy.captions_data import captioned_clips, figures
from openreel.deploy.captions_page import PAGE, summary, write_captions_page
from openreel.pipeline import table
from openreel.pipeline.clip import Clip, TimedText, Verdict
from openreel.pipeline.media import write_image
from openreel.recaption.caption import Caption, ClipCaptions
from openreel.recaption.tables import CAPTIONS

EVIL = '<script>alert("x")</script> \u202etxt.exe'


class Reader(HTMLParser):
    """Texts, addresses and tags of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def image_clip(folder: Path, number: int) -> Clip:
    path = folder / f"{'toy' if number % 2 else 'real'}" / f"{number}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.full((18, 32, 3), 20 * (number % 12), np.uint8))
    return Clip(
        **{"clip_id": f"{number:032x}", "video_id": f"v{number}", "uri": str(path)},
        **{"kind": "image", "start_frame": 0, "num_frames": 1, "start_pts": 0, "end_pts": 1},
        **{"time_base": "1/1", "fps": 0.0, "width": 32, "height": 18},
        texts=(TimedText(kind="original", text=EVIL),),
    )


def captioned(folder: Path, source: str, rows: list[ClipCaptions]) -> None:
    table.create(folder, stage="recaption", key="clip_id", fingerprint={"captioner": f"{source}-x"})
    table.append(folder, rows)


def caption(number: int, text: str, flaw: str = "", **more: object) -> Caption:
    scores = {"logprob": -0.5, "agreement": 0.25}
    return Caption(kind="dense", text=text, source="vlm", flaw=flaw, **{**scores, **more})


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    clips = [image_clip(tmp_path / "media", i) for i in range(30)]
    table.create(tmp_path / "clips", stage="clips", key="clip_id", fingerprint={})
    table.append(tmp_path / "clips", clips)
    own = [Caption(kind="original", text=EVIL, source="manifest")]
    rows = [
        ClipCaptions(
            clip_id=c.clip_id, captions=(*own, caption(i, f"text {i}", "empty" if i < 10 else ""))
        )
        for i, c in enumerate(clips)
    ]
    captioned(tmp_path / CAPTIONS / "0001-vlm-00000000", "vlm", rows)
    windows = tuple(
        caption(0, f"window {i}", whole=False, start_s=8.0 * i, end_s=8.0 * i + 8) for i in range(2)
    )
    few = [
        ClipCaptions(clip_id=clips[0].clip_id, captions=(*own, *windows, caption(0, "merged"))),
        ClipCaptions(clip_id=clips[1].clip_id, status="failed", reason="HTTP 500"),
    ]
    captioned(tmp_path / CAPTIONS / "0002-endpoint-11111111", "endpoint", few)
    return tmp_path


def test_the_page_stands_alone_and_escapes_what_comes_from_outside(dataset: Path) -> None:
    path = write_captions_page(dataset)
    assert path == dataset / PAGE
    page = path.read_text("utf-8")
    found = Reader(page)
    assert "script" not in found.tags
    assert "\u202e" not in page
    assert any("alert" in text for text in found.texts), "the text itself is shown"
    assert all(s.startswith(("data:image/jpeg", "#")) for s in found.sources)
    assert found.tags.count("img") == found.tags.count("article") == 24
    # Every word that a chip or a cell says is of one of the two captioners.
    words = " ".join(found.texts)
    assert "0001-vlm-00000000" in words
    assert "0002-endpoint-11111111" in words
    assert "failed: HTTP 500" in words
    assert "window 1" in words
    assert "merged" in words


def test_clips_are_drawn_from_each_folder_in_turns_and_the_same_each_time(dataset: Path) -> None:
    clips = captioned_clips(dataset)
    assert [c.clip_id for c in clips] == [c.clip_id for c in captioned_clips(dataset)]
    folders = [int(clip.name.removesuffix(".png")) % 2 for clip in clips]
    assert folders.count(0) == folders.count(1) == 12
    assert all(len(clip.frames) == 1 for clip in clips)
    first = next(clip for clip in clips if int(clip.clip_id, 16) == 0)
    assert [name for name, _ in first.said] == ["0001-vlm-00000000", "0002-endpoint-11111111"]


def test_the_figures_are_those_of_the_table(dataset: Path) -> None:
    folder = dataset / CAPTIONS / "0001-vlm-00000000"
    found = figures(folder)
    kind = found.kinds["dense"]
    assert (kind.used, dict(kind.flaws)) == (20, {"empty": 10})
    assert found.rows == {"ok": 30}
    assert summary(folder).splitlines() == [
        "0001-vlm-00000000: 30 ok",
        "  dense: 20 used, 10 not (empty 10)",
    ]
    other = figures(dataset / CAPTIONS / "0002-endpoint-11111111")
    assert other.rows == {"ok": 1, "failed": 1}
    assert other.kinds["dense"].used == 1, "windows are not counted"
    assert other.reasons == {"HTTP 500": 1}


def test_a_file_that_is_gone_is_a_clip_without_a_picture(dataset: Path) -> None:
    clips = table.read(dataset / "clips", Clip)
    Path(clips[0].uri).unlink()
    shown = {clip.clip_id: clip for clip in captioned_clips(dataset)}
    assert shown[clips[0].clip_id].frames == ()
    assert shown[clips[0].clip_id].unreadable
    assert re.search("no picture", write_captions_page(dataset).read_text("utf-8"))
    assert isinstance(clips[0], Verdict)
