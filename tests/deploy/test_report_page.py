"""The report page stands alone, shows some of everything and says of how many, and stays small."""

import base64
import io
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from openreel.deploy import inspection
from openreel.deploy.report_charts import Size, Spread, histogram, size_chart
from openreel.deploy.report_clips import NUM_KEPT, NUM_PAIRS, NUM_REJECTED, sampled
from openreel.deploy.report_data import NUM_REFUSED, gather
from openreel.deploy.report_page import PAGE, render, write_report
from openreel.pipeline import table
from openreel.pipeline.clip import Clip, Shot, Source, Verdict, Video, digest
from openreel.pipeline.curate import CLIPS, OTHERS, SOURCES, VIDEOS
from openreel.pipeline.errors import InputError
from openreel.pipeline.media import write_video
from openreel.pipeline.summary import load, summarise

from .test_page import Outline

HOSTILE = "<script>alert('x')</script>\" onload=\"x & 'y'\x1b[31m.mp4"
NUM_FRAMES, FPS = 21, 10.0
LEVELS = np.linspace(0, 250, NUM_FRAMES)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film that gets brighter frame by frame."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    write_video(path, (np.full((36, 64, 3), level, np.uint8) for level in LEVELS), fps=FPS)
    return path


def a_clip(number: int, uri: str, **changed: Any) -> Clip:
    fields: dict[str, Any] = {
        "clip_id": digest("clip", number),
        "video_id": digest("video", number % 50),
        "uri": uri,
        "kind": "video",
        "start_frame": 0,
        "num_frames": NUM_FRAMES,
        "start_pts": 0,
        "end_pts": round(NUM_FRAMES / FPS * 10240),
        "time_base": "1/10240",
        "fps": FPS,
        "width": 64,
        "height": 36,
        "camera": ("still", "pan")[number % 2],
        "motion": 0.001 * (number + 1),
        "sharpness": number % 7 / 10,
        "crop_width": 64,
        "crop_height": 36,
    }
    return Clip(**{**fields, **changed})


def write(folder: Path, key: str, *parts: Sequence[Verdict]) -> None:
    settings = {"lengths": {"min_s": 0.5}, "policy": "span-1"}
    table.create(folder, stage=folder.name, key=key, fingerprint=settings)
    for rows in parts:
        table.append(folder, rows)


def write_dataset(folder: Path, clips: Sequence[Clip], bad_files: Sequence[str] = ()) -> Path:
    """A dataset of one good file, some bad ones, and clips."""
    names = [f"/data/{i}.mp4" for i in range(len(bad_files) + 1)]
    sources = [Source(key=digest(n), uri=n, num_bytes=1, video_id=digest("v", n)) for n in names]
    shot = Shot(start_frame=0, end_frame=1, start_pts=0, end_pts=1)
    videos = [Video(video_id=sources[0].video_id, uri=names[0], shots=(shot,))] + [
        Video(video_id=source.video_id, uri=source.uri, status="rejected", reason=reason)
        for source, reason in zip(sources[1:], bad_files, strict=True)
    ]
    write(folder / SOURCES, "key", sources)
    write(folder / VIDEOS, "video_id", videos)
    write(folder / CLIPS, "clip_id", clips)
    (folder / OTHERS).write_text(json.dumps({".txt": 2}))
    run = {"stage": "videos", "started": "2026-01-02T03:04:05+00:00", "seconds": 20.0}
    counts = {"rows": 50, "ok": 49, "rejected": 1, "failed": 0}
    line = {**run, **counts, "version": "1.2.3", "tools": {"ray": "2.60.0"}}
    (folder / VIDEOS / "_runs.jsonl").write_text(f"{json.dumps(line)}\n" * 2)
    return folder


def page_of(dataset: Path) -> str:
    tables = load(dataset)
    found = summarise(tables)
    return write_report(dataset, tables, found).read_text("utf-8")


def some_clips(uri: str) -> list[Clip]:
    """Kept, rejected for two reasons, failed, and a duplicate."""
    clips = [a_clip(i, uri) for i in range(10)]
    for i in (3, 4):
        clips[i] = replace(clips[i], status="rejected", reason=f"sharpness below 0.5: 0.{i}")
    clips[5] = replace(clips[5], status="failed", reason="OSError: disk")
    reason = f"duplicate of {clips[0].clip_id} (distance 1)"
    same = {"duplicate_of": clips[0].clip_id, "reason": reason}
    clips[6] = replace(clips[6], status="rejected", **same)
    return clips


def test_every_part_is_shown_and_nothing_is_fetched(film: Path, tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path, some_clips(str(film)), ["no video stream"])
    document = page_of(dataset)
    page = Outline(document)
    assert not page.open
    assert page.tags.count("section") == 8
    assert page.tags.count("svg") >= 3
    assert {address[:5] for address in page.addresses} - {"data:"} <= {
        address[:5] for address in page.addresses if address.startswith("#")
    }
    # Seven cards in all: six that are used, three that are not, the duplicate and its twin again.
    assert page.tags.count("img") == 3 * (6 + 3 + 2)
    for shown in (
        "2 files",
        "6 usable clips",
        "6 of 6",
        "3 of 3",
        "1 of 1 clips that are not used because",
        "sharpness below 0.5: 0.3",
        "failed: OSError: disk",
        "no video stream",
        "2 .txt",
        "2.5",  # rows a second: twice 50 in twice 20 s
        "2026-01-02 03:04:05 UTC",
        "lengths.min_s",
        "2.60.0",
    ):
        assert shown in page.text, shown
    assert "prefers-color-scheme: dark" in document
    assert "default-src 'none'" in document.replace("&#x27;", "'")


def test_thumbnails_are_the_first_the_middle_and_the_last_frame(film: Path, tmp_path: Path) -> None:
    document = page_of(write_dataset(tmp_path, [a_clip(0, str(film))]))
    found = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', document)
    frames = [Image.open(io.BytesIO(base64.b64decode(uri))) for uri in found]
    assert [frame.size for frame in frames] == [(64, 36)] * 3
    levels = [float(np.asarray(frame).mean()) for frame in frames]
    assert levels == pytest.approx([LEVELS[0], LEVELS[NUM_FRAMES // 2], LEVELS[-1]], abs=4)


def test_a_file_that_vanished_leaves_words_in_its_place(film: Path, tmp_path: Path) -> None:
    clips = [a_clip(0, str(film)), a_clip(1, "/nowhere/gone.mp4"), a_clip(2, str(film))]
    page = Outline(page_of(write_dataset(tmp_path, clips)))
    assert page.tags.count("img") == 6
    assert "gone.mp4" in page.text
    assert page.text.count("no picture:") == 1


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    def dataset(name: str, text: str) -> Path:
        clips = some_clips(f"/data/{text}")
        clips[3] = replace(clips[3], reason=text, camera=text)
        folder = write_dataset(tmp_path / name, clips, [text])
        (folder / OTHERS).write_text(json.dumps({text: 1}))
        return folder

    page = Outline(page_of(dataset("hostile", HOSTILE)))
    assert page.tags == Outline(page_of(dataset("plain", "plain.mp4"))).tags
    assert "script" not in page.tags
    assert HOSTILE.replace("\x1b", "\\x1b") in page.text
    assert "\x1b" not in page.text


def test_a_large_dataset_has_a_small_page_that_says_so(tmp_path: Path) -> None:
    number, reasons = 5000, 30
    clips = [a_clip(i, "/nowhere/film.mp4", width=64 + i % 500) for i in range(number)]
    for i in range(0, number, 5):
        word = chr(97 + i // 5 % reasons // 2) * (1 + i // 5 % 2)
        clips[i] = replace(clips[i], status="rejected", reason=f"too {word}: 0.{i}")
    for i in range(1, number, 50):
        same = {"duplicate_of": clips[2].clip_id, "reason": f"duplicate of {clips[2].clip_id}"}
        clips[i] = replace(clips[i], status="rejected", **same)
    bad = [f"breaks after {i} frames" if i % 3 else "no video" for i in range(1, 1000)]
    dataset = write_dataset(tmp_path, clips, bad)
    tables = load(dataset)
    page = gather(dataset, tables, summarise(tables))
    document = render(page)
    assert len(document) < 400_000
    assert len(page.clips.kept) == NUM_KEPT
    assert len(page.clips.pairs) == NUM_PAIRS
    assert len({card.reason.split(":")[0] for card in page.clips.rejected}) == NUM_REJECTED
    assert len(page.refused) == NUM_REFUSED
    assert {row.reason.split()[0] for row in page.refused} == {"breaks", "no"}
    text = Outline(document).text
    assert f"{NUM_KEPT} of 3,900" in text
    assert f"{NUM_REJECTED} of 1,000" in text
    assert f"{NUM_REFUSED} of 999" in text
    assert f"{NUM_PAIRS} of 100 clips" in text
    assert "500 sizes, of which the 120 commonest are drawn" in text
    assert "for 21 other reasons" in text


def test_the_page_does_not_depend_on_the_order_of_rows(tmp_path: Path) -> None:
    clips = some_clips("/nowhere/film.mp4") + [a_clip(i, "/nowhere/b.mp4") for i in range(20, 60)]
    one, other = tmp_path / "one" / "data", tmp_path / "other" / "data"
    write_dataset(one, clips)
    write_dataset(other, clips[::-1])
    table.append(other / CLIPS, clips[:7])  # a part that is there twice, as before compaction
    assert page_of(one) == page_of(other)


def test_samples_are_even_over_groups() -> None:
    groups = {"few": [1], "some": [2, 3, 4], "many": list(range(10, 90))}
    chosen = sampled(groups, 9)
    assert [sum(i in group for i in chosen) for group in groups.values()] == [1, 3, 5]
    assert sampled(groups, 2) == [10, 2]  # of more groups than there is room for, the largest
    assert sorted(sampled(groups, 1000)) == sorted(i for group in groups.values() for i in group)
    assert sampled({}, 5) == []


@pytest.mark.parametrize("by_ratio", [False, True])
def test_a_histogram_holds_every_value(by_ratio: bool) -> None:
    values = np.random.default_rng(0).lognormal(0, 2, 5000)
    kept, rejected = values[:4000], values[4000:]
    drawn = histogram(Spread(label="a", kept=kept, rejected=rejected, by_ratio=by_ratio))
    counts = re.findall(r"([\d,]+) kept, ([\d,]+) rejected", drawn)
    assert sum(int(good.replace(",", "")) for good, _ in counts) == len(kept)
    assert sum(int(bad.replace(",", "")) for _, bad in counts) == len(rejected)
    assert len(counts) > (5 if not by_ratio else 25)
    assert Outline(drawn).open == []


def test_a_bubble_is_as_large_as_its_share() -> None:
    sizes = [
        Size(width=1280, height=720, kept=300, rejected=100),
        Size(width=720, height=1280, kept=100, rejected=0),
    ]
    drawn = size_chart(sizes)
    assert "1280×720: 300 kept, 100 rejected" in drawn
    radii = [float(r) for r in re.findall(r'<circle r="([\d.]+)"', drawn)]
    ring, disc, small, full = radii
    assert (disc / ring) ** 2 == pytest.approx(0.75, abs=0.02)
    assert (small / ring) ** 2 == pytest.approx(0.25, abs=0.02)
    assert small == full
    places = re.findall(r'class="rejected" cx="([\d.]+)" cy="([\d.]+)"', drawn)
    (x1, y1), (x2, y2) = [(float(x), float(y)) for x, y in places]
    assert x1 > x2
    assert y1 > y2  # the tall one is higher up
    assert x1 - x2 == pytest.approx(y1 - y2, abs=0.2)  # on equal scales


def test_an_unfinished_dataset_has_a_page(tmp_path: Path) -> None:
    sources = [Source(key="a", uri="/data/a.mp4", num_bytes=1, video_id="b")]
    write(tmp_path / SOURCES, "key", sources)
    text = Outline(page_of(tmp_path)).text
    assert "waiting: not looked into yet" in text
    assert "0 usable clips" in text


def shown(content: Any) -> str:
    console = Console(width=200, file=io.StringIO(), force_terminal=False)
    console.print(content)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def test_inspecting_a_dataset_writes_the_page(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = some_clips(str(film))
    dataset = write_dataset(tmp_path, clips)
    text = shown(inspection.inspect(dataset))
    assert f"{dataset / PAGE}: pictures" in text
    assert (dataset / PAGE).is_file()
    assert "sharpness below 0.5" in text

    def full(*arguments: object) -> Path:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(inspection, "write_report", full)
    text = shown(inspection.inspect(dataset))
    assert "no page is written: Read-only file system" in text
    assert "sharpness below 0.5" in text


def test_inspecting_a_row_shows_its_way_back(film: Path, tmp_path: Path) -> None:
    clip = a_clip(0, str(film), video_id=digest("v", "/data/0.mp4"))
    dataset = write_dataset(tmp_path, [clip])
    text = shown(inspection.inspect(dataset, clip.clip_id))
    places = [text.index(name) for name in (CLIPS, VIDEOS, SOURCES)]
    assert places == sorted(places)
    assert "cannot be read" in text  # the file that the table names is not there
    assert not (dataset / PAGE).exists()
    with pytest.raises(InputError, match="row: got 'none'"):
        inspection.inspect(dataset, "none")
    with pytest.raises(InputError, match="a row of a dataset"):
        inspection.inspect(film, clip.clip_id)
