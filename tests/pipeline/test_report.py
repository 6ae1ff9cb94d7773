"""The report counts every row once, hides none, and prints whatever a file may be called."""

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from openreel.pipeline import table
from openreel.pipeline.clip import Clip, Shot, Source, Verdict, Video, digest
from openreel.pipeline.curate import CLIPS, OTHERS, SOURCES, VIDEOS
from openreel.pipeline.errors import InputError
from openreel.pipeline.report import rendered, report, visible
from openreel.pipeline.summary import load, score_of, summed_up

NUM_FILES = 12


def a_source(number: int, **changed: Any) -> Source:
    fields = {"key": digest("file", number), "uri": f"/data/film-{number}.mp4", "num_bytes": 10}
    return Source(**{**fields, "video_id": digest("video", number), **changed})


def a_video(number: int, **changed: Any) -> Video:
    shots = tuple(
        Shot(start_frame=i, end_frame=i + 1, start_pts=i, end_pts=i + 1) for i in range(3)
    )
    fields = {"video_id": digest("video", number), "uri": f"/data/film-{number}.mp4"}
    return Video(**{**fields, "shots": shots, **changed})


def a_clip(number: int, **changed: Any) -> Clip:
    fields: dict[str, Any] = {
        "clip_id": digest("clip", number),
        "video_id": digest("video", number // 3),
        "uri": f"/data/film-{number // 3}.mp4",
        "kind": "video",
        "start_frame": 0,
        "num_frames": 50,
        "start_pts": 0,
        "end_pts": 50,
        "time_base": "1/25",
        "fps": 25.0,
        "width": 64,
        "height": 32,
        "camera": "pan",
        "motion": 0.1 * number,
        "sharpness": 0.01 * number,
        "crop_width": 64,
        "crop_height": 32,
    }
    return Clip(**{**fields, **changed})


def write(folder: Path, key: str, *parts: Sequence[Verdict]) -> None:
    table.create(folder, stage=folder.name, key=key, fingerprint={"of": folder.name})
    for rows in parts:
        table.append(folder, rows)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Files of which one is another's copy and one is broken, and clips of which some are unfit."""
    sources = [a_source(i) for i in range(NUM_FILES)]
    copy = f"duplicate of {sources[0].uri}"
    sources[1] = a_source(1, video_id=sources[0].video_id, status="rejected", reason=copy)
    videos = [a_video(i) for i in range(NUM_FILES) if i != 1]
    videos[1] = a_video(2, status="rejected", reason="no frame decodes", shots=())
    clips = [a_clip(i) for i in range(36) if i // 3 not in (1, 2)]
    for place in range(5):
        reason = f"sharpness below 0.3: 0.{place}1"
        clips[place] = replace(clips[place], status="rejected", reason=reason)
    kept = clips[9].clip_id
    reason = f"duplicate of {kept} (distance 2.1)"
    clips[7] = replace(clips[7], status="rejected", reason=reason, duplicate_of=kept)
    clips[8] = replace(clips[8], status="failed", reason="KeyError: 'x'")
    write(tmp_path / SOURCES, "key", sources)
    write(tmp_path / VIDEOS, "video_id", videos[:4], videos[4:])
    write(tmp_path / CLIPS, "clip_id", clips[:20], clips[20:])
    (tmp_path / OTHERS).write_text(json.dumps({".txt": 2}))
    return tmp_path


def printed(dataset: Path) -> str:
    console = Console(width=200, file=io.StringIO(), force_terminal=False)
    console.print(rendered(report(dataset)))
    shown: str = console.file.getvalue()  # type: ignore[attr-defined]
    return shown


def test_every_row_is_counted_once(dataset: Path) -> None:
    found = report(dataset)
    for name, record in ((SOURCES, Source), (VIDEOS, Video), (CLIPS, Clip)):
        rows: list[Any] = table.read(dataset / name, record)
        assert sum(found.counts[name].values()) == len(rows)
        bad = sum(row.status != "ok" for row in rows)
        assert sum(found.reasons[name].values()) == bad > 0
    assert found.reasons[CLIPS]["sharpness below 0.3"] == 5
    assert found.duplicates == 1
    assert found.cameras == {"pan": (23, 7)}
    assert found.clip_seconds == pytest.approx(23 * 2)


def test_each_step_loses_what_it_says(dataset: Path) -> None:
    steps = {step.name: step for step in report(dataset).steps}
    for before, after in (
        ("files", "distinct contents"),
        ("distinct contents", "decodable"),
        ("clips", "usable clips"),
    ):
        lost = sum(number for _, _, number in steps[before].lost)
        assert steps[before].number - lost == steps[after].number
        assert lost > 0
    assert steps["shots"].number == 3 * steps["decodable"].number
    assert ("failed", "KeyError: 'x'", 1) in steps["clips"].lost


def test_a_dataset_in_the_making_says_what_is_waiting(tmp_path: Path) -> None:
    write(tmp_path / SOURCES, "key", [a_source(i) for i in range(5)])
    write(tmp_path / VIDEOS, "video_id", [a_video(0), a_video(1)])
    steps = {step.name: step for step in report(tmp_path).steps}
    assert steps["distinct contents"].lost == (("waiting", "not looked into yet", 3),)
    assert steps["clips"].number == 0
    assert "5" in printed(tmp_path)


def test_a_row_that_was_tried_again_is_one(dataset: Path) -> None:
    before = report(dataset)
    failed = next(row for row in table.read(dataset / CLIPS, Clip) if row.status == "failed")
    table.append(dataset / CLIPS, [replace(failed, status="ok", reason="", attempt=2)])
    after = report(dataset)
    assert before.counts[CLIPS]["failed"] == 1
    assert "failed" not in after.counts[CLIPS]
    assert after.counts[CLIPS]["ok"] == before.counts[CLIPS]["ok"] + 1


def test_the_scores_are_of_usable_clips_that_have_them(dataset: Path) -> None:
    image = a_clip(100, kind="image", fps=0.0, num_frames=1, motion=0.0, camera="")
    table.append(dataset / CLIPS, [image])
    usable = [row for row in table.read(dataset / CLIPS, Clip) if row.status == "ok"]
    found = {row.score: row for row in report(dataset).scores}
    motion = [row.motion for row in usable if row.kind == "video"]
    assert found["motion"].number == len(motion) == len(usable) - 1
    assert found["motion"].values == pytest.approx(np.quantile(motion, (0, 0.1, 0.5, 0.9, 1)))
    assert found["sharpness"].number == len(usable)
    assert "aesthetic" not in found
    clips = load(dataset).clips
    failed = clips["status"].to_numpy() == "failed"
    assert np.isnan(score_of(clips, "sharpness")[failed]).all()
    assert np.isfinite(score_of(clips, "sharpness")[~failed]).all()


def test_what_was_not_measured_is_no_zero(tmp_path: Path) -> None:
    write(tmp_path / SOURCES, "key", [a_source(0)])
    unseen = {"crop_width": 0, "crop_height": 0, "sharpness": 0.0}
    clips = [
        a_clip(0, motion=0.0, camera="unknown", **unseen),
        a_clip(1, motion=0.0, camera="still", sharpness=0.0),
        a_clip(2),
    ]
    write(tmp_path / CLIPS, "clip_id", clips)
    found = {row.score: row for row in report(tmp_path).scores}
    assert found["motion"].number == found["sharpness"].number == 2
    assert found["motion"].values[0] == found["sharpness"].values[0] == 0.0
    assert found["luma"].number == 3


def test_bars_are_the_share_outside_the_crop(tmp_path: Path) -> None:
    write(tmp_path / SOURCES, "key", [a_source(0)])
    clips = [a_clip(0, crop_height=24), a_clip(1, crop_width=0, crop_height=0)]
    write(tmp_path / CLIPS, "clip_id", clips)
    tables = load(tmp_path)
    found = dict(
        zip(tables.clips["clip_id"].to_pylist(), score_of(tables.clips, "bars"), strict=True)
    )
    assert found[clips[0].clip_id] == pytest.approx(0.25)
    assert np.isnan(found[clips[1].clip_id])  # no crop was measured


def test_reasons_that_differ_in_figures_are_one() -> None:
    one, other = digest("a"), digest("b")
    common = summed_up(
        [
            "sharpness below 0.3: 0.21",
            "sharpness below 0.3: 1e-05",
            "sharpness below 0.5: 0.4, and dark",
            f"duplicate of {one} (distance 3)",
            f"duplicate of {other} (distance 4)",
            "changes from 64x48 to 32x24 at frame 7",
            "changes from 80x48 to 32x24 at frame 9",
            "no video",
        ]
    )
    assert set(common.values()) == {
        "sharpness below 0.3",
        "sharpness below 0.5: 0.4, and dark",
        "duplicate of another",
        "changes from …x48 to 32x24 at frame …",
        "no video",
    }


def test_a_hostile_name_prints_as_it_is_and_does_nothing(dataset: Path) -> None:
    name = "[red][bold]\x1b[31m\u202etxt.mp4"
    broken = a_video(99, uri=f"/data/{name}", status="rejected", reason="[/] \x1b]0;title\x07")
    table.append(dataset / VIDEOS, [broken])
    shown = printed(dataset)
    assert "\\x1b[31m\\u202etxt.mp4" in shown
    assert "[red][bold]" in shown
    assert "[/] " in shown
    assert not set(shown) & set("\x1b\x07\u202e")
    assert visible("ünï 片 🎬.mp4") == "ünï 片 🎬.mp4"


def test_a_terminal_is_not_flooded(dataset: Path) -> None:
    broken = [a_video(i, status="rejected", reason="no video") for i in range(100, 300)]
    table.append(dataset / VIDEOS, broken)
    shown = printed(dataset)
    assert len(report(dataset).refused) == 202
    assert "162 more" in shown
    assert len(shown.splitlines()) < 120


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a folder that a station has written"):
        report(tmp_path)
