"""Frames' hashes on real pictures: copies of films and images are found, other ones are not."""

import itertools
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from openreel.pipeline.duplicates import (
    Duplicate,
    DuplicateConfig,
    Item,
    find_duplicates,
)
from openreel.pipeline.media import Span, probe, read_frames, read_image, stream_frames, write_video
from openreel.pipeline.signature import phash

SAME = (
    {"flower_timelapse_h264.mp4", "flower_timelapse_vp8.webm", "flower_timelapse_fragmented.mp4"},
    {"cockatoo_yuv420.mp4", "cockatoo_yuv444.mp4"},
    {"carphone_pristine_qcif.mp4", "carphone_distorted_qcif.mp4"},
    {"motorway_cars_hevc.h265", "motorway_cars_mjpeg.mjpeg"},
    {"testsrc_h264_10bit_square.mp4", "testsrc_hevc_10bit_square.mp4"},
    # A byte for byte copy. The wide one is cropped, which moves everything in the picture.
    {"man_with_sign_vfr_4x3.mov", "man_with_sign_vfr_4x3_copy.mov"},
)
ALONE = (
    "man_with_sign_wide_10fps.mov",
    "hand_nails_vertical_a.ts",
    "hand_nails_vertical_b.ts",
    "bbb_opening_vp8.webm",
    "tears_of_steel_battle_vp8.webm",
    "bee_on_thistle.mp4",
    "butterfly_feeding.mp4",
    "newsroom_bw_4x3.mp4",
    "beetle_on_flower_bw.mp4",
    "testsrc_av1.mkv",
    "testsrc_vfr_square.mp4",
    "sar2_testsrc.mp4",
    "dark_webcam_no_duration_vp9.webm",
    "grey_fades_mpeg4.mp4",
)


def grey(frame: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY))


def sampled(times: Sequence[float], frames: Sequence[np.ndarray], skip_s: float = 0.0) -> list[int]:
    """Hashes of the first frame that is left and of one every half second after it."""
    hashes, due = [], skip_s
    for time, frame in zip(times, frames, strict=True):
        if time >= due - 1e-6:
            hashes.append(phash(grey(frame)))
            due = skip_s + (int((time - skip_s) / 0.5 + 1e-6) + 1) * 0.5
    return hashes


def decoded(path: Path, side: int = 160) -> tuple[list[float], list[np.ndarray]]:
    info = probe(path)
    shrink = side / max(info.width, info.height)
    size = (round(info.width * shrink), round(info.height * shrink))
    frames = list(stream_frames(path, Span.whole(info), size=size))
    return [float((p - info.pts[0]) * Fraction(info.time_base)) for p in info.pts], frames


def video(clip_id: str, hashes: Sequence[int], rank: int = 0, **more: object) -> Item:
    return Item(clip_id=clip_id, kind="video", phashes=tuple(hashes), rank=(rank,), **more)  # type: ignore[arg-type]


def found(items: Sequence[Item], scratch: Path, **config: object) -> dict[str, Duplicate]:
    return find_duplicates(items, scratch, DuplicateConfig(**config))  # type: ignore[arg-type]


@pytest.mark.slow
def test_real_copies_are_found_and_nothing_else(media: Path, tmp_path: Path) -> None:
    names = sorted(itertools.chain(ALONE, *SAME))
    items = [video(n, sampled(*decoded(media / "video" / n))) for n in names]
    assert sum(not any(item.phashes) for item in items) == 2, "the plain ones"
    duplicates = found(items, tmp_path)
    for group in SAME:
        best = min(group)
        assert {n: duplicates[n].kept for n in group if n != best} == dict.fromkeys(
            group - {best}, best
        )
    assert set(duplicates) == set().union(*(group - {min(group)} for group in SAME))
    assert not list(tmp_path.iterdir()), "scratch is left as it was"


@pytest.fixture(scope="module")
def film_of(media: Path) -> dict[str, tuple[list[float], list[np.ndarray]]]:
    """Some real films, 160 pixels wide: slow, brisk, restless."""
    names = ("newsroom_bw_4x3.mp4", "carphone_pristine_qcif.mp4", "bee_on_thistle.mp4")
    return {name: decoded(media / "video" / name, side=160) for name in names}


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "half the size": lambda f: cv2.resize(f, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "another aspect": lambda f: cv2.resize(f, (120, 120)),
    "darker": lambda f: (f * 0.6).astype(np.uint8),
    "brighter, flatter": lambda f: (f * 0.7 + 60).astype(np.uint8),
    "colourless": lambda f: cv2.cvtColor(grey(f), cv2.COLOR_GRAY2RGB),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_copies_are_found(change: str, film_of: dict, tmp_path: Path) -> None:
    changed = 0
    for name, (times, frames) in film_of.items():
        other = [CHANGES[change](f) for f in frames]
        changed += not np.array_equal(other[0], frames[0])
        items = [video(name, sampled(times, frames)), video("x", sampled(times, other), 1)]
        assert found(items, tmp_path)["x"].kept == name
    assert changed >= 2, "one of the films has no colours"


def test_trimmed_copies_are_found_though_sampled_at_other_moments(
    film_of: dict, tmp_path: Path
) -> None:
    for name, (times, frames) in film_of.items():
        whole, trimmed = sampled(times, frames), sampled(times, frames, skip_s=0.3)[:-1]
        assert not set(trimmed) & set(whole) or name != "bee_on_thistle.mp4"
        assert found([video(name, whole), video("x", trimmed, 1)], tmp_path)["x"].kept == name


def test_a_copy_at_crf_35_is_found(film_of: dict, tmp_path: Path) -> None:
    for name, (times, frames) in film_of.items():
        path = tmp_path / "again.mp4"
        write_video(path, frames, fps=len(times) / (times[-1] + times[1]), crf=35)
        again = list(read_frames(path, Span.whole(probe(path))))
        assert np.abs(again[9].astype(int) - frames[9]).mean() > 2, "that it lost something"
        items = [video(name, sampled(times, frames)), video("x", sampled(times, again), 1)]
        assert found(items, tmp_path)["x"].kept == name


@pytest.mark.parametrize("flip", [np.fliplr, np.flipud])
def test_a_mirrored_film_is_another_one(
    flip: Callable[[np.ndarray], np.ndarray], film_of: dict, tmp_path: Path
) -> None:
    for name, (times, frames) in film_of.items():
        other = [np.ascontiguousarray(flip(f)) for f in frames]
        items = [video(name, sampled(times, frames)), video("x", sampled(times, other), 1)]
        assert not found(items, tmp_path)


def test_images_are_copies_of_images_alone(media: Path, tmp_path: Path) -> None:
    items = []
    for path in sorted((media / "image").iterdir())[::2]:
        pixels = read_image(path)
        again = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 50])[1]
        small = CHANGES["half the size"](cv2.imdecode(again, cv2.IMREAD_GRAYSCALE))
        for clip_id, kind, rank, picture in (
            (path.name, "image", 0, grey(pixels)),
            (f"{path.name} again", "image", 1, small),
            (f"{path.name} as a film", "video", 2, grey(pixels)),
        ):
            hashes = (phash(picture),) * (1 if kind == "image" else 4)
            items.append(Item(clip_id=clip_id, kind=kind, phashes=hashes, rank=(rank,)))
    duplicates = found(items, tmp_path)
    assert len(duplicates) == len(items) // 3
    assert all(d.kept + " again" == clip_id for clip_id, d in duplicates.items())


def test_a_plain_picture_has_no_hash_and_shades_do_not_matter() -> None:
    ramp = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (48, 1))
    assert [phash(np.full((48, 64), v, np.uint8)) for v in (0, 128, 255)] == [0, 0, 0]
    noise = np.random.default_rng(0).normal(128, 3, (480, 640)).clip(0, 255).astype(np.uint8)
    assert phash(noise) == 0
    assert 0 < phash(ramp) < 1 << 63
    with pytest.raises(ValueError, match="accepted: uint8"):
        phash(ramp.astype(np.float32))
