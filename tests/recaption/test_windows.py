"""Windows hold every frame of a clip once, and show each as its captioner asked."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from openreel.pipeline.clip import Clip
from openreel.pipeline.errors import InputError
from openreel.recaption.windows import (
    WindowConfig,
    duration_s,
    reading_size,
    shown,
    windows_of,
)
from openreel.recaption.writer import Frames, Sight


def clip(num_frames: int, fps: Fraction = Fraction(10), kind: str = "video", **more: str) -> Clip:
    ticks = round(num_frames / fps * 90_000)
    return Clip(
        **{"clip_id": "c", "video_id": "v", "uri": "nowhere.mp4", "kind": kind, **more},
        **{"start_frame": 7, "num_frames": num_frames, "start_pts": 500, "end_pts": 500 + ticks},
        **{"time_base": "1/90000", "fps": float(fps), "width": 20, "height": 12},
    )


@pytest.mark.parametrize(
    ("seconds", "ends"),
    [
        (0.1, [0.1]),
        (8.0, [8.0]),
        (11.9, [11.9]),  # what is left is shorter than half a window
        (12.0, [8.0, 12.0]),
        (16.0, [8.0, 16.0]),
        (27.0, [8.0, 16.0, 27.0]),
    ],
)
def test_a_clip_is_divided_by_time_and_a_short_rest_belongs_to_the_last_window(
    seconds: float, ends: list[float]
) -> None:
    spans = windows_of(clip(round(seconds * 10)), WindowConfig())
    assert [span.end_s for span in spans] == pytest.approx(ends)
    assert [span.start_s for span in spans] == pytest.approx([0.0, *ends[:-1]])


@pytest.mark.parametrize("fps", [Fraction(1, 10), Fraction(1), Fraction(24000, 1001), Fraction(60)])
@pytest.mark.parametrize("window_s", [0.4, 3.0, 8.0])
def test_every_frame_lies_in_one_window(fps: Fraction, window_s: float) -> None:
    counts = set()
    for num_frames in (1, 2, 3, 50, 901):
        spans = windows_of(clip(num_frames, fps), WindowConfig(seconds=window_s))
        held = [i for span in spans for i in range(span.start_frame, span.end_frame)]
        assert held == list(range(num_frames))
        assert all(span.num_frames > 0 for span in spans)
        counts.add(len(spans))
    assert max(counts) > 1, "some clip must have been divided"


def test_an_image_is_one_window_without_time() -> None:
    image = clip(1, kind="image", camera="still")
    (span,) = windows_of(image, WindowConfig())
    (window,) = shown(image, numbered(1), [span], Sight(num_frames=4, max_area=240))
    assert duration_s(image) == 0
    assert (window.times, window.hint) == ((0.0,), "")


def numbered(count: int, height: int = 12, width: int = 20) -> list[Frames]:
    return [np.full((height, width, 3), i, np.uint8) for i in range(count)]


def test_each_window_shows_its_own_frames_from_first_to_last_with_their_times() -> None:
    long = clip(160, camera="pan")
    spans = windows_of(long, WindowConfig())
    sight = Sight(num_frames=3, max_area=240)
    first, second = shown(long, iter(numbered(160)), spans, sight)
    assert [int(f.mean()) for f in first.frames] == [0, 40, 79]
    assert [int(f.mean()) for f in second.frames] == [80, 120, 159]
    assert second.times == pytest.approx((8.0, 12.0, 15.9))
    assert first.frames.shape == (3, 12, 20, 3)
    assert first.key != second.key
    assert first.hint == second.hint == "the camera pans"


@pytest.mark.parametrize("size", [(1080, 1920), (90, 10), (33, 64), (5, 5)])
def test_frames_are_as_the_sight_asks(size: tuple[int, int]) -> None:
    sight = Sight(num_frames=2, max_area=64 * 64, multiple=8)
    (window,) = shown(clip(3), numbered(3, *size), windows_of(clip(3), WindowConfig()), sight)
    frames, height, width, _ = window.frames.shape
    assert frames == 2
    assert height * width <= sight.max_area
    assert height % 8 == width % 8 == 0
    assert (height > width) == (size[0] > size[1])


def test_large_frames_are_scaled_where_they_are_decoded_and_small_ones_are_not() -> None:
    sight = Sight(num_frames=2, max_area=64 * 64)
    assert reading_size(replace(clip(2), width=256, height=144), sight) is None
    width, height = reading_size(replace(clip(2), width=3840, height=2160), sight) or (0, 0)
    assert width / height == pytest.approx(16 / 9, rel=0.01)
    assert width * height == pytest.approx(4 * sight.max_area, rel=0.02)
    assert reading_size(replace(clip(2), width=9000, height=10), sight) == (3840, 4)


def test_another_take_is_another_key() -> None:
    short = clip(3)
    spans, sight = windows_of(short, WindowConfig()), Sight(num_frames=2, max_area=240)
    keys = [shown(short, numbered(3), spans, sight, take)[0].key for take in (1, 1, 2, 3)]
    assert keys[0] == keys[1] == "c"
    assert len(set(keys)) == 3


@pytest.mark.parametrize("found", [2, 4])
def test_another_number_of_frames_than_the_row_says_is_an_error(found: int) -> None:
    short = clip(3)
    spans = windows_of(short, WindowConfig())
    with pytest.raises(ValueError, match=f"frames: got {found}; accepted: 3"):
        shown(short, numbered(found), spans, Sight(num_frames=2, max_area=240))


def test_mistakes_are_named() -> None:
    with pytest.raises(InputError, match="seconds: got 0"):
        WindowConfig(seconds=0)
