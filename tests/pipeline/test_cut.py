"""Every video ends in the clips table, with all of its clips or with the reason for none."""

import itertools
from pathlib import Path

import pytest

from openreel.pipeline import table
from openreel.pipeline.clip import Clip, Shot, Video
from openreel.pipeline.clips import ClipConfig, clips_of
from openreel.pipeline.cut import cut
from openreel.pipeline.judge import FilterConfig


def video(name: str, cuts: tuple[int, ...] = (20,)) -> Video:
    edges = (0, *cuts, 60)
    return Video(
        video_id=name,
        uri=f"/{name}.mp4",
        kind="video",
        width=64,
        height=64,
        time_base="1/20",
        pts=tuple(range(60)),
        shots=tuple(
            Shot(start_frame=a, end_frame=b, start_pts=a, end_pts=b)
            for a, b in itertools.pairwise(edges)
        ),
    )


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    table.create(tmp_path / "videos", stage="videos", key="video_id", fingerprint={})
    table.append(tmp_path / "videos", [video("a"), video("b", ()), video("c", (20, 40))])
    return tmp_path / "videos"


def run(videos: Path, clips: Path, *, retry_failed: bool = False) -> dict[str, list[Clip]]:
    cut(videos, clips, ClipConfig(), FilterConfig(), retry_failed=retry_failed)
    found: dict[str, list[Clip]] = {}
    for row in table.read(clips, Clip):
        found.setdefault(row.video_id, []).append(row)
    return found


def test_a_second_call_cuts_only_what_is_new(videos: Path, tmp_path: Path) -> None:
    first = run(videos, tmp_path / "clips")
    assert {name: len(rows) for name, rows in first.items()} == {"a": 2, "b": 1, "c": 3}
    parts = table.parts(tmp_path / "clips")
    assert run(videos, tmp_path / "clips", retry_failed=True) == first
    assert table.parts(tmp_path / "clips") == parts
    table.append(videos, [video("d")])
    assert run(videos, tmp_path / "clips") == first | {"d": run(videos, tmp_path / "clips")["d"]}


def test_a_fault_of_ours_costs_one_video_and_is_tried_again_when_asked(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def faulty(video: Video, config: ClipConfig) -> list[Clip]:
        if video.video_id == "b":
            raise ZeroDivisionError("bad luck")
        return clips_of(video, config)

    with monkeypatch.context() as patched:
        patched.setattr("openreel.pipeline.cut.clips_of", faulty)
        found = run(videos, tmp_path / "clips")
        assert {row.status for name in "ac" for row in found[name]} == {"ok"}
        (row,) = found["b"]
        assert (row.status, row.reason) == ("failed", "ZeroDivisionError: bad luck")
        assert run(videos, tmp_path / "clips")["b"] == [row]
        assert run(videos, tmp_path / "clips", retry_failed=True)["b"][0].attempt == 2
    assert len(run(videos, tmp_path / "clips")["b"]) == 1
    mended = run(videos, tmp_path / "clips", retry_failed=True)["b"]
    assert sorted((row.status, row.reason) for row in mended) == [
        ("ok", ""),
        ("rejected", "cut again"),
    ]
