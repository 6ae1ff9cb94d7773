"""A clip's scores come from its own frames and samples, and one odd one decides nothing."""

from dataclasses import replace
from typing import Any

import pytest

from openreel.pipeline.clip import Clip, Sample, Shot, Video
from openreel.pipeline.clips import ClipConfig, clips_of
from openreel.pipeline.motion import camera_of

NUM_FRAMES, CUT = 40, 20
GOOD = {"sharpness": 0.6, "blockiness": 0.1, "text_area": 0.02, "dark": 0.1, "bright": 0.05}


def sample(frame: int, **fields: Any) -> Sample:
    return Sample(**{"frame": frame, "towards": frame + 2, "phash": frame + 1, **GOOD, **fields})


def clips(*samples: Sample, max_s: float = 10.0, **fields: Any) -> list[Clip]:
    """Of a video at 10 frames a second with a cut in its middle."""
    known = {
        "video_id": "v",
        "uri": "/v.mp4",
        "kind": "video",
        "width": 640,
        "height": 360,
        "num_frames": NUM_FRAMES,
        "time_base": "1/10",
        "pts": tuple(range(NUM_FRAMES)),
        "shots": (
            Shot(start_frame=0, end_frame=CUT, start_pts=0, end_pts=CUT),
            Shot(start_frame=CUT, end_frame=40, start_pts=CUT, end_pts=40, opened_by="cut"),
        ),
        "luma": (0.5,) * NUM_FRAMES,
        "change": (0.0, *(0.1,) * (NUM_FRAMES - 1)),
        "samples": samples,
    }
    video = Video(**{**known, **fields})  # type: ignore[arg-type]
    return clips_of(video, ClipConfig(max_s=max_s))


def test_a_clip_is_scored_by_its_own_samples() -> None:
    first, second = clips(*(sample(f, sharpness=f / 100, flow=f / 10) for f in (0, 5, 10, 25, 30)))
    assert first.phashes == (1, 6, 11)
    assert second.phashes == (26, 31)
    assert first.sharpness == pytest.approx(0.05)
    assert second.sharpness == pytest.approx(0.275)
    assert first.motion == pytest.approx(0.5)
    assert second.motion == pytest.approx(2.75)


def test_motion_across_a_cut_or_out_of_the_clip_counts_for_nothing() -> None:
    across = sample(CUT - 1, towards=CUT, flow=9.0, pan=9.0)
    nowhere = sample(10, towards=10, flow=9.0)
    first, second = clips(sample(0, flow=0.1, pan=0.1), nowhere, across)
    assert first.motion == pytest.approx(0.1)
    assert first.camera == "pan"
    assert len(first.phashes) == 3  # what they show is the clip's all the same
    (alone, _) = clips(across)
    assert (alone.motion, alone.camera) == (0.0, "unknown")
    assert second.motion == 0.0


def test_a_piece_without_a_sample_takes_the_nearest_of_its_shot() -> None:
    pieces = clips(
        sample(0, sharpness=0.2), sample(12, sharpness=0.4), sample(21, sharpness=0.9), max_s=0.5
    )
    assert len(pieces) == 8
    empty = [clip for clip in pieces if not clip.phashes]
    assert [clip.start_frame for clip in empty] == [5, 15, 25, 30, 35]
    assert [clip.sharpness for clip in empty] == [0.4, 0.4, 0.9, 0.9, 0.9]
    assert all(clip.camera == "unknown" for clip in empty)
    # A shot without any has no scores, and the whole picture.
    (_, second) = clips(sample(0))
    assert (second.sharpness, second.crop_width, second.crop_height) == (0.0, 640, 360)


def test_one_odd_frame_decides_nothing() -> None:
    usual = [sample(f, flow=0.1) for f in (0, 4, 8, 12)]
    odd = sample(16, flow=5.0, sharpness=0.0, blockiness=4.0, text_area=0.9, dark=1.0)
    (expected, _), (found, _) = clips(*usual), clips(*usual, odd)
    for name in ("motion", "sharpness", "blockiness", "text_area", "dark", "crop_width"):
        assert getattr(found, name) == getattr(expected, name)


def test_subtitles_that_come_and_go_count() -> None:
    spoken = [sample(f, text_area=0.1 if f % 8 else 0.0) for f in range(0, 20, 4)]
    (found, _) = clips(*spoken)
    assert found.text_area == pytest.approx(0.1)
    assert sum(s.text_area > 0 for s in spoken) < len(spoken) / 2


def test_repeated_and_black_frames_are_shares() -> None:
    change = [0.1] * NUM_FRAMES
    luma = [0.5] * NUM_FRAMES
    change[1:11] = [0.0] * 10
    luma[15:20] = [0.0] * 5
    change[CUT] = 0.9
    first, second = clips(change=tuple(change), luma=tuple(luma))
    assert first.static == pytest.approx(10 / 19, abs=1e-4)  # of the steps from frame to frame
    assert first.black == pytest.approx(0.25)
    assert second.static == second.black == 0
    assert second.change == pytest.approx(0.1)  # without the cut


def test_a_bar_is_one_that_is_there_all_the_time() -> None:
    boxed = {"top": 45, "bottom": 45, "left": 80, "right": 79}
    shrunk = replace(sample(8, **boxed), bottom=10)  # a subtitle in the lower bar
    frayed = replace(sample(12, **boxed), left=78, right=80)
    black = sample(16, dark=1.0)
    (clip, _) = clips(sample(0, **boxed), sample(4, **boxed), shrunk, frayed, black)
    assert (clip.crop_x, clip.crop_y) == (80, 45)
    assert (clip.crop_width, clip.crop_height) == (640 - 80 - 79, 360 - 45 - 10)
    (whole, _) = clips(sample(0), sample(4, **boxed))
    assert (whole.crop_x, whole.crop_y, whole.crop_width, whole.crop_height) == (0, 0, 640, 360)


@pytest.mark.parametrize(
    ("speeds", "camera"),
    [
        ([{"pan": 0.2, "tilt": 0.05}, {"pan": 0.3}, {"pan": 0.25, "tilt": -0.05}], "pan"),
        ([{"tilt": -0.2}, {"tilt": -0.1}], "tilt"),
        ([{"zoom": 0.3}, {"zoom": 0.4, "pan": 0.02}], "zoom"),
        ([{"roll": -0.4}], "roll"),
        ([{"pan": 0.2}, {"pan": -0.2}, {"tilt": 0.2}, {"tilt": -0.2}], "handheld"),
        ([{"pan": 0.2}, {"pan": -0.2, "tilt": 0.1}, {"pan": 0.01, "tilt": -0.2}], "handheld"),
        ([{"pan": 0.001}, {"pan": -0.002}, {"pan": 0.5}], "still"),
        ([{"residual": 0.5}, {"residual": 0.4}, {"pan": 0.2}], "unknown"),
        ([], "unknown"),
    ],
)
def test_the_camera_is_called_by_what_it_keeps_doing(
    speeds: list[dict[str, float]], camera: str
) -> None:
    assert camera_of([sample(4 * i, **speed) for i, speed in enumerate(speeds)]) == camera


def test_an_image_has_stills_and_no_motion() -> None:
    shot = Shot(start_frame=0, end_frame=1, start_pts=0, end_pts=1)
    still = {"kind": "image", "num_frames": 1, "pts": (0,), "shots": (shot,), "luma": (0.3,)}
    (clip,) = clips(sample(0, towards=0), **still, change=(0.0,))
    assert (clip.luma, clip.sharpness, clip.phashes) == (0.3, 0.6, (1,))
    assert (clip.motion, clip.static, clip.camera) == (0.0, 0.0, "unknown")


def test_a_video_without_measures_is_scored_too() -> None:
    first, _ = clips(luma=(), change=())
    assert (first.luma, first.change, first.black, first.static) == (0.0, 0.0, 0.0, 0.0)
