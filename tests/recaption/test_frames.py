"""Frames keep their aspect: the grid that shows each largest, and padding of less than a patch."""

from collections.abc import Iterator

import numpy as np
import pytest

from openreel.recaption.frames import (
    MEAN_COLOUR,
    Frames,
    canvas,
    collate,
    fitted,
    prepare,
    sampled,
)
from openreel.recaption.writer import Sight

SIZES = [(40, 40), (18, 42), (96, 54), (54, 96), (110, 48), (7, 300), (1080, 1920), (719, 405)]
SIGHT = Sight(num_frames=5, max_area=48 * 48, multiple=6)


def test_frames_are_spread_from_first_to_last_and_distinct() -> None:
    assert sampled(17, 5) == [0, 4, 8, 12, 16]
    assert sampled(1, 5) == [0]
    for length in range(1, 20):
        indices = sampled(length, 6)
        assert len(set(indices)) == min(length, 6)
        assert (indices[0], indices[-1]) == (0, length - 1)


@pytest.mark.parametrize("multiple", [1, 6, 14])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_no_other_grid_shows_a_frame_larger(height: int, width: int, multiple: int) -> None:
    """Against a search of all grids that the area allows."""
    sight = Sight(num_frames=1, max_area=84 * 84, multiple=multiple)
    rows, columns = (side // multiple for side in canvas(height, width, sight))
    room = 84 * 84 // multiple**2
    assert rows * columns <= room
    best = max(min(r / height, (room // r) / width) for r in range(1, room + 1))
    assert min(rows / height, columns / width) == pytest.approx(best)
    # And no edge has a patch that the frame does not reach.
    assert (rows - 1) / height < best + 1e-6
    assert (columns - 1) / width < best + 1e-6


def test_a_square_frame_gets_the_square() -> None:
    for side in (1, 36, 48, 1000):
        assert canvas(side, side, SIGHT) == (48, 48)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_a_fitted_frame_keeps_its_aspect_and_its_content(height: int, width: int) -> None:
    frame = np.full((height, width, 3), 255, np.uint8)
    shown = fitted(frame, SIGHT)
    assert shown.shape[0] % 6 == shown.shape[1] % 6 == 0
    inside = (shown == 255).all(-1)
    rows, columns = inside.any(1).sum(), inside.any(0).sum()
    assert (shown[~inside] == MEAN_COLOUR).all()
    scale = min(shown.shape[0] / height, shown.shape[1] / width)
    assert rows == pytest.approx(max(1, height * scale), abs=0.51)
    assert columns == pytest.approx(max(1, width * scale), abs=0.51)
    assert shown.shape[0] - rows < 6
    assert shown.shape[1] - columns < 6


def test_a_stream_of_another_length_than_the_clips_is_an_error() -> None:
    frames: Iterator[Frames] = (np.zeros((8, 8, 3), np.uint8) for _ in range(3))
    with pytest.raises(ValueError, match="frames: got 3; accepted: 4"):
        prepare(frames, 4, SIGHT)


def test_a_collated_batch_holds_each_clip_and_nothing_else() -> None:
    draw = np.random.default_rng(0)
    shapes = [(3, 12, 6), (1, 6, 18), (2, 6, 6)]
    clips = [draw.integers(1, 255, (*shape, 3)).astype(np.uint8) for shape in shapes]
    frames_BTHWC, sizes_B3 = collate(clips)
    assert frames_BTHWC.shape == (3, 3, 12, 18, 3)
    assert [tuple(row) for row in sizes_B3.tolist()] == shapes
    for whole, clip, (t, h, w) in zip(frames_BTHWC.numpy(), clips, shapes, strict=True):
        assert (whole[:t, :h, :w] == clip).all()
        assert np.count_nonzero(whole) == clip.size
