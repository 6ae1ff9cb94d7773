"""From a folder of anything to tables that account for every file and every frame."""

import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from openreel.pipeline import table
from openreel.pipeline.clip import Clip, Source, Video
from openreel.pipeline.clips import ClipConfig
from openreel.pipeline.curate import CurateConfig, curate
from openreel.pipeline.errors import InputError
from openreel.pipeline.judge import FilterConfig
from openreel.pipeline.media import read_clip, write_image, write_video
from openreel.pipeline.report import rendered, report

from .painted import encode, scene

pytestmark = pytest.mark.usefixtures("ray_local")
LENGTHS = (12, 9, 3)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film of three shots, its copy, an image, a broken file, a text, captions."""
    folder = tmp_path_factory.mktemp("raw")
    shots = [scene(i, n, (72, 48)) for i, n in enumerate(LENGTHS)]
    write_video(folder / "film.mp4", np.concatenate(shots), fps=12)
    shutil.copy(folder / "film.mp4", folder / "zcopy.mp4")
    write_image(folder / "still.png", scene(3, 1, (60, 90))[0])
    encode(folder / "broken.mp4", 20)
    (folder / "broken.mp4").write_bytes((folder / "broken.mp4").read_bytes()[:700])
    (folder / "notes.txt").write_text("hello")
    caption = {"file": "film.mp4", "kind": "short", "text": "first", "end_s": 1.0}
    (folder / "captions.jsonl").write_text(json.dumps(caption))
    return folder


@pytest.fixture(scope="module")
def dataset(raw: Path, ray_local: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("curated") / "dataset"
    curate([raw], folder)
    return folder


def test_every_file_has_a_verdict(raw: Path, dataset: Path) -> None:
    sources = {Path(row.uri).name: row for row in table.read(dataset / "sources", Source)}
    assert set(sources) == {"film.mp4", "zcopy.mp4", "still.png", "broken.mp4"}
    assert sources["zcopy.mp4"].reason == f"duplicate of {raw / 'film.mp4'}"
    assert sources["zcopy.mp4"].video_id == sources["film.mp4"].video_id
    videos = {Path(row.uri).name: row for row in table.read(dataset / "videos", Video)}
    assert {name: row.status for name, row in videos.items()} == {
        "film.mp4": "ok",
        "still.png": "ok",
        "broken.mp4": "rejected",
    }
    assert "cannot be opened" in videos["broken.mp4"].reason


def test_clips_are_the_shots_and_carry_their_captions(dataset: Path) -> None:
    clips = [row for row in table.read(dataset / "clips", Clip) if row.kind == "video"]
    clips.sort(key=lambda clip: clip.start_frame)
    assert [(clip.start_frame, clip.num_frames) for clip in clips] == [(0, 12), (12, 9), (21, 3)]
    assert [clip.status for clip in clips] == ["ok", "ok", "rejected"]
    assert clips[2].reason == "seconds below 0.5: 0.25"
    assert [text.text for text in clips[0].texts] == ["first"]
    assert clips[1].texts == ()
    assert all(clip.fps == pytest.approx(12.0) for clip in clips)


def test_a_clip_row_reads_back_as_its_shot(dataset: Path) -> None:
    clips = [row for row in table.usable(dataset / "clips", Clip) if row.kind == "video"]
    clips.sort(key=lambda clip: clip.start_frame)
    for clip, seed in zip(clips, (0, 1), strict=True):
        drawn = scene(seed, LENGTHS[seed], (72, 48))
        read = read_clip(clip).astype(int)
        assert read.shape == drawn.shape
        assert np.abs(read - drawn).mean() < 4
        assert clip.luma == pytest.approx(drawn.mean() / 255, abs=0.01)
        assert clip.motion > 0


def test_an_image_is_a_clip(dataset: Path) -> None:
    (clip,) = [row for row in table.usable(dataset / "clips", Clip) if row.kind == "image"]
    assert (clip.width, clip.height, clip.num_frames, clip.fps) == (60, 90, 1, 0.0)
    assert clip.luma > 0.1
    assert read_clip(clip).shape == (1, 90, 60, 3)


def test_the_report_counts_everything(dataset: Path) -> None:
    found = report(dataset)
    assert found.counts == {
        "sources": {"ok": 3, "rejected": 1},
        "videos": {"ok": 2, "rejected": 1},
        "clips": {"ok": 3, "rejected": 1},
    }
    assert found.others == {".txt": 1}
    assert found.reasons["clips"] == {"seconds below 0.5: 0.25": 1}
    assert [Path(row.uri).name for row in found.refused] == ["broken.mp4", "zcopy.mp4"]
    assert found.clip_seconds == pytest.approx(21 / 12)
    console = Console(width=200, file=io.StringIO())
    console.print(rendered(found))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "zcopy.mp4" in shown
    assert "1 x .txt" in shown


def test_the_same_call_again_changes_nothing(raw: Path, dataset: Path) -> None:
    def state() -> dict[str, bytes]:
        parts = sorted(dataset.rglob("part-*.parquet"))
        return {str(part.relative_to(dataset)): part.read_bytes() for part in parts}

    before = state()
    curate([raw], dataset)
    assert state() == before
    assert len(before) == 3


def test_another_config_is_refused(raw: Path, dataset: Path) -> None:
    with pytest.raises(InputError, match=r"'fingerprint.filters.min_side': 99"):
        curate([raw], dataset, CurateConfig(filters=FilterConfig(min_side=99)))
    with pytest.raises(InputError, match=r"'fingerprint.lengths.max_s': 1.0"):
        curate([raw], dataset, CurateConfig(clips=ClipConfig(max_s=1.0)))


def test_a_source_that_changed_is_refused(raw: Path, dataset: Path, tmp_path: Path) -> None:
    mine = tmp_path / "dataset"
    shutil.copytree(dataset, mine)
    image = raw / "still.png"
    stat = image.stat()
    try:
        os.utime(image, (1, 1))
        with pytest.raises(InputError, match=r"still.png'; accepted: the file and captions"):
            curate([raw], mine)
    finally:
        os.utime(image, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    curate([raw], mine)


def test_no_media_is_a_mistake_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="input: got"):
        curate([tmp_path / "empty"], tmp_path / "dataset")
    assert not (tmp_path / "dataset").exists()
