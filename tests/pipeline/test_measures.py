"""Each measure says what was made to be there: motion by its sign and size, bars to the pixel."""

import math
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from openreel.pipeline.clip import Sample
from openreel.pipeline.measures import Measurer
from openreel.pipeline.media import Frames
from openreel.pipeline.motion import camera_of
from openreel.pipeline.overlay import text_area
from openreel.pipeline.picture import areas, bars, blockiness, sharpness
from openreel.pipeline.survey import survey

Grey = npt.NDArray[np.uint8]

WIDTH, HEIGHT = 160, 90
FPS = 25.0


def texture(seed: int, height: int, width: int, grain: float = 2.0) -> Grey:
    """Blotches of several sizes, from `grain` pixels up, over the whole range of brightness."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width), np.float32)
    for size in (1, 3, 9):
        noise = rng.normal(size=(height, width)).astype(np.float32)
        blotches = cv2.GaussianBlur(noise, (0, 0), grain * size)
        total += blotches / blotches.std()
    return np.clip(128 + 40 * total, 0, 255).astype(np.uint8)


def moved(ground: Grey, shift: tuple[float, float], growth: float, turn: float) -> Frames:
    """A small frame of a 3 times larger ground whose content went by `shift` pixels, grew to
    `growth` times its size and turned by `turn` radians clockwise, about the frame's centre."""
    zoom = 3 / growth
    cos, sin = zoom * math.cos(turn), zoom * math.sin(turn)
    back = np.array([[cos, sin], [-sin, cos]])  # from the frame to the ground
    centre = np.array([(WIDTH - 1) / 2, (HEIGHT - 1) / 2])
    middle = np.array([(ground.shape[1] - 1) / 2, (ground.shape[0] - 1) / 2])
    offset = middle - back @ (centre + shift)
    grey = cv2.warpAffine(
        cv2.GaussianBlur(ground, (0, 0), 1.5),
        np.column_stack([back, offset]),
        (WIDTH, HEIGHT),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT,
    )
    return np.repeat(grey[..., None], 3, axis=2)


def measured(
    frames: list[Frames], times: list[float], sampled: set[int]
) -> tuple[tuple[Sample, ...], Measurer]:
    measurer = Measurer()
    for i, (frame, time_s) in enumerate(zip(frames, times, strict=True)):
        measurer.add(i, time_s, frame, frame[..., 0].copy() if i in sampled else None)
    height, width = frames[0].shape[:2]
    return measurer.finish(width, height), measurer


@pytest.mark.parametrize(
    ("pan", "tilt", "zoom", "roll"),
    [
        (0.3, 0.0, 0.0, 0.0),
        (-0.2, 0.1, 0.0, 0.0),
        (0.0, -0.25, 0.0, 0.0),
        (0.0, 0.0, 0.4, 0.0),
        (0.0, 0.0, -0.3, 0.0),
        (0.0, 0.0, 0.0, 0.5),
        (0.1, 0.05, 0.2, -0.3),
    ],
)
def test_the_cameras_motion_is_found_with_its_sign(
    pan: float, tilt: float, zoom: float, roll: float
) -> None:
    ground = texture(1, 600, 900)
    times = [i / FPS for i in range(4)]
    frames = [
        moved(ground, (pan * WIDTH * t, tilt * WIDTH * t), math.exp(zoom * t), roll * t)
        for t in times
    ]
    (sample,), _ = measured(frames, times, {0})
    assert sample.towards == 3
    found = (sample.pan, sample.tilt, sample.zoom, sample.roll)
    assert found == pytest.approx((pan, tilt, zoom, roll), rel=0.05, abs=0.01)
    assert sample.residual < 0.15 * sample.flow
    if not zoom and not roll:
        assert sample.flow == pytest.approx(math.hypot(pan, tilt), rel=0.05)


def test_what_moves_on_its_own_is_not_the_camera() -> None:
    ground, thing = texture(1, 600, 900), texture(2, 600, 900)
    frames = [moved(ground, (0, 0), 1, 0) for _ in range(4)]
    for i, frame in enumerate(frames):
        frame[20:70, 40 + 2 * i : 100 + 2 * i] = moved(thing, (0, 0), 1, 0)[20:70, 40:100]
    (sample,), _ = measured(frames, [i / FPS for i in range(4)], {0})
    speed, share = 2 * FPS / WIDTH, 50 * 60 / (WIDTH * HEIGHT)
    assert max(abs(sample.pan), abs(sample.tilt), abs(sample.zoom), abs(sample.roll)) < 0.01
    assert sample.residual == pytest.approx(speed * share, rel=0.25)
    assert sample.flow == pytest.approx(sample.residual, rel=0.05)


def test_a_lone_thing_before_nothing_is_not_the_camera() -> None:
    thing = moved(texture(2, 600, 900), (0, 0), 1, 0)[:14, :20]
    frames = [np.full((HEIGHT, WIDTH, 3), 200, np.uint8) for _ in range(4)]
    for i, frame in enumerate(frames):
        frame[30:44, 40 + 2 * i : 60 + 2 * i] = thing
    (sample,), _ = measured(frames, [i / FPS for i in range(4)], {0})
    assert (sample.pan, sample.tilt, sample.zoom, sample.roll) == (0, 0, 0, 0)
    assert 0 < sample.flow == sample.residual < 0.1 * 2 * FPS / WIDTH


def test_noise_on_a_plain_ground_is_no_motion() -> None:
    rng = np.random.default_rng(0)
    frames = [
        np.repeat(rng.normal(90, 1.5, (HEIGHT, WIDTH, 1)).round().astype(np.uint8), 3, axis=2)
        for _ in range(4)
    ]
    (sample,), _ = measured(frames, [i / FPS for i in range(4)], {0})
    assert sample.towards == 3
    assert sample.flow < 0.01


@pytest.mark.parametrize(
    ("times", "towards"),
    [
        ([i / 60 for i in range(9)], 5),  # not the next frame: too little moves in a sixtieth
        ([i / 12 for i in range(9)], 1),
        ([float(i) for i in range(9)], 1),
        ([0.0, 0.01, 0.02, 0.5], 3),
        ([0.0, 0.02, 0.04], 2),  # the video ends before
        ([0.0], 0),
    ],
)
def test_motion_is_measured_over_a_twelfth_of_a_second_or_more(
    times: list[float], towards: int
) -> None:
    ground = texture(1, 600, 900)
    frames = [moved(ground, (16 * t, 0), 1, 0) for t in times]
    (sample,), _ = measured(frames, times, {0})
    assert (sample.frame, sample.towards) == (0, towards)
    # By true time, whatever the distance is.
    expected = 0.1 if 0.05 < times[towards] < 0.9 else None
    assert expected is None or sample.pan == pytest.approx(expected, rel=0.05)


def test_every_sampled_frame_has_a_sample_and_the_result_is_always_the_same() -> None:
    ground = texture(3, 600, 900)
    times = [i / FPS for i in range(40)]
    frames = [moved(ground, (9 * t, 4 * t), 1, 0.1 * t) for t in times]
    first, measurer = measured(frames, times, {0, 13, 26, 39})
    assert [(s.frame, s.towards) for s in first] == [(0, 3), (13, 16), (26, 29), (39, 39)]
    assert first == measured(frames, times, {0, 13, 26, 39})[0]
    assert len({s.phash for s in first}) > 1
    # It keeps no frame but the newest, and a grey one that waits.
    kept = [v for v in vars(measurer).values() if isinstance(v, (list, tuple))]
    arrays = [x for v in kept for x in v if isinstance(x, np.ndarray)]
    assert len(arrays) <= 2


@pytest.mark.parametrize("size", [(1, 1), (1, 160), (12, 160), (160, 17), (33, 33)])
def test_no_size_is_too_small_to_be_looked_at(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 255, (*size, 3), np.uint8) for _ in range(4)]
    (sample,), _ = measured(frames, [i / FPS for i in range(4)], {0})
    assert sample.towards == 3
    assert all(math.isfinite(v) for v in vars(sample).values())


# ---- one picture ------------------------------------------------------------------------------


def bricks() -> Grey:
    wall = np.full((540, 960), 150, np.uint8)
    wall[::36] = wall[1::36] = wall[2::36] = 40
    for row in range(15):
        wall[36 * row : 36 * row + 36, 40 * (row % 2) :: 80] = 40
        wall[36 * row : 36 * row + 36, 40 * (row % 2) + 1 :: 80] = 40
    return wall


def leaves() -> Grey:
    rng = np.random.default_rng(0)
    picture = np.full((540, 960), 50, np.uint8)
    for _ in range(2500):
        x, y, long, short = rng.integers((0, 0, 6, 2), (960, 540, 30, 8))
        angle, level = rng.uniform(0, 360), int(rng.integers(40, 220))
        cv2.ellipse(picture, (int(x), int(y)), (int(long), int(short)), angle, 0, 360, level, -1)
    return picture


def letterboxed(top: int, bottom: int, left: int, right: int, level: int = 0) -> Grey:
    picture = np.full((360, 640), level, np.uint8)
    inside = texture(4, 360 - top - bottom, 640 - left - right)
    picture[top : 360 - bottom, left : 640 - right] = np.maximum(inside, 40)
    return picture


@pytest.mark.parametrize(
    "sides", [(45, 45, 0, 0), (0, 0, 80, 81), (20, 21, 33, 33), (45, 10, 0, 0), (0, 0, 0, 0)]
)
def test_bars_are_measured_to_the_pixel(sides: tuple[int, int, int, int]) -> None:
    top, bottom, left, right = sides
    luma = letterboxed(top, bottom, left, right)
    noisy = np.clip(luma + np.random.default_rng(0).normal(0, 1.5, luma.shape), 0, 255)
    for picture in (luma, noisy.astype(np.uint8)):
        found = bars(picture)
        assert (found.top, found.bottom, found.left, found.right) == sides
        assert found.without(picture).shape == (360 - top - bottom, 640 - left - right)


def test_bars_of_a_colour_come_in_pairs_and_a_plain_picture_has_none() -> None:
    assert (bars(letterboxed(30, 32, 0, 0, level=235)).top) == 30
    assert (bars(letterboxed(30, 0, 0, 0, level=235)).top) == 0  # a bright sky
    assert bars(np.zeros((90, 160), np.uint8)) == bars(np.full((90, 160), 128, np.uint8))
    assert bars(np.zeros((90, 160), np.uint8)).top == 0


def test_bars_are_given_in_pixels_as_shown() -> None:
    measurer = Measurer()
    measurer.add(0, 0.0, np.zeros((90, 160, 3), np.uint8), letterboxed(20, 20, 40, 42))
    (sample,) = measurer.finish(1280, 360)
    assert (sample.left, sample.right, sample.top, sample.bottom) == (80, 84, 20, 20)


def test_black_and_white_are_areas() -> None:
    luma = texture(5, 100, 200).clip(60, 200)
    luma[:, :50], luma[:10, 50:] = 16, 235
    assert areas(luma) == (0.25, 0.075)


@pytest.mark.parametrize("scale", [1, 2])
def test_blur_makes_less_sharp_and_noise_does_not_hide_it(scale: int) -> None:
    picture = leaves()[::scale, ::scale]
    grain = np.random.default_rng(0).normal(0, 4, picture.shape)
    radii = (0.7, 1.4, 2.8, 5.6)
    blurred = [picture, *(cv2.GaussianBlur(picture, (0, 0), r * 2 / scale) for r in radii)]
    clean = [sharpness(p) for p in blurred]
    noisy = [sharpness(np.clip(p + grain, 0, 255).astype(np.uint8)) for p in blurred]
    assert clean == sorted(clean, reverse=True)
    assert clean[0] > 0.6
    assert clean[-1] < 0.1
    assert noisy == pytest.approx(clean, abs=0.15)
    # Motion blurs one direction only.
    assert sharpness(cv2.blur(picture, (15, 1))) < clean[0] / 2


def test_sharpness_does_not_depend_on_the_size_of_the_picture() -> None:
    picture = texture(1, 360, 640, grain=1.5)
    large = cv2.resize(picture, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    assert sharpness(large) == pytest.approx(sharpness(picture), abs=0.05)
    assert sharpness(np.full((90, 160), 80, np.uint8)) == 0


@pytest.mark.parametrize("phase", [0, 3])
def test_blocks_rise_as_quality_falls_wherever_their_grid_lies(phase: int) -> None:
    picture = texture(2, 368, 648, grain=3)
    found = []
    for quality in (98, 60, 30, 12):
        coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        found.append(blockiness(cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE)[phase:, phase:]))
    assert found == sorted(found)
    assert found[0] < 0.05
    assert found[-1] > 0.5


# ---- writing ----------------------------------------------------------------------------------


def subtitled(luma: Grey, lines: str, size: float = 0.05) -> tuple[Grey, float]:
    """White letters with a black edge near the bottom, and the share of the box around them."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.fromarray(luma)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size * luma.shape[0])
    where = (luma.shape[1] / 2, luma.shape[0] * 0.85)
    style = {"font": font, "anchor": "mm", "align": "center", "stroke_width": 2}
    x0, y0, x1, y1 = draw.multiline_textbbox(where, lines, **style)  # type: ignore[arg-type]
    draw.multiline_text(where, lines, fill=255, stroke_fill=0, **style)  # type: ignore[arg-type]
    return np.array(image), (x1 - x0) * (y1 - y0) / luma.size


def test_writing_is_found_and_textures_are_not_writing() -> None:
    for ground in (bricks(), leaves(), texture(1, 540, 960), texture(1, 540, 960, grain=0.7)):
        assert text_area(ground) < 0.02
    calm = cv2.GaussianBlur(texture(1, 540, 960), (0, 0), 6)
    one, one_box = subtitled(calm, "nobody told me about the harbour")
    two, two_box = subtitled(calm, "nobody told me about the harbour\nor where the old boat went")
    assert text_area(calm) == 0
    assert text_area(one) == pytest.approx(one_box, rel=0.3)
    assert text_area(two) == pytest.approx(two_box, rel=0.3)
    assert text_area(two) > 1.5 * text_area(one)


def test_subtitles_show_on_real_pictures(media: Path) -> None:
    found = []
    for name in ("cat_face_3x2.png", "coffee_cup_3x2.png", "astronaut_square.png"):
        luma = cv2.imread(str(media / "image" / name), cv2.IMREAD_GRAYSCALE)
        assert luma is not None
        written, box = subtitled(luma, "I never told you\nabout the harbour")
        assert text_area(luma) == 0
        found.append(text_area(written) / box)
    assert min(found) > 0.4


# ---- real videos ------------------------------------------------------------------------------


def samples_of(path: Path) -> tuple[Sample, ...]:
    measurer = Measurer()
    info = survey(path, lambda s: measurer.add(s.number, s.time_s, s.small, s.luma))
    return measurer.finish(info.width, info.height)


def test_the_pillars_of_an_old_film_are_seen(media: Path) -> None:
    samples = samples_of(media / "video" / "chaplin_street_bw_pillarbox.mp4")
    # By eye, the picture is in columns 72 to 567 of 640; dust and the encoder fray its edges.
    for sample in samples:
        assert 70 <= sample.left <= 72
        assert 70 <= sample.right <= 72
        assert (sample.top, sample.bottom) == (0, 0)
    assert len(samples) > 15


def test_a_phone_that_looks_up_tilts(media: Path) -> None:
    samples = samples_of(media / "video" / "sky_over_skyline.mp4")
    moving = [s for s in samples if s.towards > s.frame]
    assert camera_of(moving) == "tilt"
    assert all(s.tilt > 0 for s in moving)  # the roofs sink


def test_a_fixed_camera_is_still(media: Path) -> None:
    samples = samples_of(media / "video" / "bottles_on_shelf_near_static.mp4")
    assert camera_of([s for s in samples if s.towards > s.frame]) == "still"
    assert float(np.median([s.flow for s in samples])) < 0.005
    assert max(s.flow for s in samples) > 0.02  # a hand comes and goes


def test_strong_compression_shows_as_blocks_and_blur(media: Path) -> None:
    good, bad = (
        samples_of(media / "video" / f"carphone_{kind}_qcif.mp4")
        for kind in ("pristine", "distorted")
    )
    assert np.median([s.blockiness for s in bad]) > 1.5 * np.median([s.blockiness for s in good])
    assert np.median([s.sharpness for s in bad]) < np.median([s.sharpness for s in good])
