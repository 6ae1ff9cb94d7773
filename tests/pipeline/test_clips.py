"""Cutting loses no frame, repeats none, and tells each clip where it comes from."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from openreel.pipeline.clip import Shot, TimedText, Video
from openreel.pipeline.clips import ClipConfig, clips_of
from openreel.pipeline.errors import InputError


def video(cuts: tuple[int, ...], pts: tuple[int, ...], end: int, **fields: object) -> Video:
    ticks = (*pts, end)
    edges = (0, *cuts, len(pts))
    shots = tuple(
        Shot(start_frame=a, end_frame=b, start_pts=ticks[a], end_pts=ticks[b])
        for a, b in pairwise(edges)
    )
    rng = np.random.default_rng(0)
    known = {
        "video_id": "v",
        "uri": "/v.mp4",
        "kind": "video",
        "width": 72,
        "height": 64,
        "num_frames": len(pts),
        "time_base": "1/1000",
        "pts": pts,
        "shots": shots,
        "luma": tuple(rng.uniform(size=len(pts))),
        "change": tuple(rng.uniform(size=len(pts))),
    }
    return Video(**{**known, **fields})  # type: ignore[arg-type]


def variable(num_frames: int, seed: int) -> tuple[tuple[int, ...], int]:
    steps = np.random.default_rng(seed).integers(20, 200, num_frames + 1)
    ticks = tuple(int(t) for t in np.cumsum(steps))
    return ticks[:-1], ticks[-1]


@pytest.mark.parametrize("seed", range(20))
def test_each_frame_is_in_exactly_one_clip_of_legal_length(seed: int) -> None:
    pts, end = variable(200, seed)
    cuts = (17, 18, 90)
    clips = clips_of(video(cuts, pts, end), ClipConfig(max_s=2.0))
    frames = [f for c in clips for f in range(c.start_frame, c.start_frame + c.num_frames)]
    assert frames == list(range(200))
    assert len(clips) > len(cuts) + 1  # some shot was split
    for clip, following in pairwise([*clips, None]):
        assert (clip.end_pts - clip.start_pts) / 1000 <= 2.0
        assert clip.start_pts == pts[clip.start_frame]
        assert clip.end_pts == (following.start_pts if following else end)
    assert len({clip.clip_id for clip in clips}) == len(clips)


def test_a_split_is_even_and_no_finer_than_needed() -> None:
    pts = tuple(range(0, 9000, 100))
    clips = clips_of(video((), pts, 9000), ClipConfig(max_s=4.0))
    assert [clip.num_frames for clip in clips] == [30, 30, 30]


def test_scores_are_those_of_the_clips_own_frames() -> None:
    pts = tuple(range(0, 4000, 100))
    whole = video((10,), pts, 4000)
    first, second = clips_of(whole, ClipConfig())
    assert first.luma == pytest.approx(np.mean(whole.luma[:10]), abs=1e-5)
    assert second.luma == pytest.approx(np.mean(whole.luma[10:]), abs=1e-5)
    # The change across the cut belongs to neither.
    assert first.change == pytest.approx(np.mean(whole.change[1:10]), abs=1e-5)
    assert second.change == pytest.approx(np.mean(whole.change[11:]), abs=1e-5)


def test_clips_say_where_they_come_from_and_what_opened_them() -> None:
    pts = tuple(range(0, 9000, 100))
    whole = video((), pts, 9000, licence="CC0", origin="a film")
    shots = (
        Shot(start_frame=0, end_frame=60, start_pts=0, end_pts=6000),
        Shot(start_frame=60, end_frame=90, start_pts=6000, end_pts=9000, opened_by="dissolve"),
    )
    clips = clips_of(replace(whole, shots=shots), ClipConfig(max_s=2.0))
    opened_by = [clip.opened_by for clip in clips]
    assert opened_by == ["start", "stride", "stride", "dissolve", "stride"]
    assert {(clip.licence, clip.origin) for clip in clips} == {("CC0", "a film")}


def test_texts_go_to_the_clips_that_they_cover() -> None:
    texts = (
        TimedText(kind="original", text="everything"),
        TimedText(kind="short", text="first", start_s=0.0, end_s=1.0),
        TimedText(kind="short", text="second", start_s=1.0, end_s=4.0),
        TimedText(kind="short", text="half of the first", start_s=0.5, end_s=1.0),
    )
    # Text spans count from the first frame, whatever its timestamp is.
    pts = tuple(range(7000, 11000, 100))
    first, second = clips_of(video((10,), pts, 11000, texts=texts), ClipConfig())
    assert [text.text for text in first.texts] == ["everything", "first"]
    assert [text.text for text in second.texts] == ["everything", "second"]


def test_an_id_is_of_content_and_span_not_of_the_path() -> None:
    pts = tuple(range(0, 2000, 100))
    (here,) = clips_of(video((), pts, 2000), ClipConfig())
    (there,) = clips_of(video((), pts, 2000, uri="/moved.mp4"), ClipConfig())
    (other,) = clips_of(video((), pts, 2000, video_id="w"), ClipConfig())
    assert here.clip_id == there.clip_id != other.clip_id


def test_an_image_is_one_clip_of_one_frame() -> None:
    still = video((), (0,), 1, kind="image", time_base="1/1")
    (clip,) = clips_of(still, ClipConfig(max_s=0.5))
    assert (clip.num_frames, clip.fps, clip.kind) == (1, 0.0, "image")


@pytest.mark.parametrize("max_s", [0.0, -1.0, float("nan")])
def test_the_config_is_validated(max_s: float) -> None:
    with pytest.raises(InputError, match=r"clips.max_s: got .*; accepted: a number above 0"):
        ClipConfig(max_s=max_s)
