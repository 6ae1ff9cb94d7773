"""One decode yields every frame, upright and small, and the truth about the file."""

import itertools
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from openreel.pipeline.emitter import small_size
from openreel.pipeline.errors import MediaError
from openreel.pipeline.media import Span, stream_frames, write_image
from openreel.pipeline.probe import probe
from openreel.pipeline.survey import Look, survey

from .painted import HEIGHT, WIDTH, encode, ffmpeg, numbers


def looks(path: Path, **options: object) -> tuple[list[Look], object]:
    seen: list[Look] = []
    return seen, survey(path, seen.append, **options)  # type: ignore[arg-type]


def test_every_frame_is_seen_once_and_the_file_is_told_as_a_probe_tells_it(tmp_path: Path) -> None:
    path = encode(tmp_path / "v.mp4", 40, "-bf", "3", "-g", "12")
    seen, info = looks(path)
    assert info == probe(path)
    assert numbers(np.stack([look.small for look in seen])) == list(range(40))
    assert [look.number for look in seen] == list(range(40))
    np.testing.assert_allclose([look.time_s for look in seen], np.arange(40) / 25, atol=1e-6)


def test_looks_at_full_size_come_every_half_second(tmp_path: Path) -> None:
    seen, _ = looks(encode(tmp_path / "v.mp4", 60), side=16)
    full = [look.number for look in seen if look.luma is not None]
    assert full == [0, 13, 25, 38, 50]  # the first frame at or after each half second
    assert seen[0].small.shape == (8, 16, 3)
    assert seen[0].luma is not None
    assert seen[0].luma.shape == (HEIGHT, WIDTH)


@pytest.mark.parametrize("size", ["90:150", "37:51", "2:8", "301:7"])
def test_any_size_comes_through(size: str, tmp_path: Path) -> None:
    odd = ("-vf", f"scale={size}", "-pix_fmt", "yuv444p10le")
    seen, info = looks(encode(tmp_path / "v.mp4", 20, *odd), side=45)
    width, height = map(int, size.split(":"))
    assert (info.width, info.height, len(seen)) == (width, height, 20)  # type: ignore[attr-defined]
    assert seen[13].luma is not None
    assert seen[13].luma.shape == (height, width)


def test_turned_and_wide_files_are_seen_upright(tmp_path: Path) -> None:
    plain = encode(tmp_path / "plain.mp4", 6)
    for degrees in (90, 180, 270):
        ffmpeg(
            "-display_rotation", str(degrees), "-i", plain, "-c", "copy", tmp_path / "turned.mp4"
        )
        seen, info = looks(tmp_path / "turned.mp4")
        oracle = list(stream_frames(tmp_path / "turned.mp4", Span.whole(info)))  # type: ignore[arg-type]
        assert info.rotation == 360 - degrees  # type: ignore[attr-defined]
        for look, frame in itertools.zip_longest(seen, oracle):
            assert look.small.shape == frame.shape
            assert np.abs(look.small.astype(int) - frame).mean() < 3
        assert seen[0].luma is not None
        assert seen[0].luma.shape == oracle[0].shape[:2]
    seen, info = looks(encode(tmp_path / "wide.mp4", 5, "-vf", "setsar=2/1"), side=64)
    assert seen[0].small.shape == (16, 64, 3)  # 128 wide as shown
    assert seen[0].luma is not None
    assert seen[0].luma.shape == (HEIGHT, WIDTH)  # as stored


def test_small_frames_keep_the_shape_and_are_never_enlarged() -> None:
    assert small_size(400, 100, 160) == (160, 40)
    assert small_size(400, 100, 1000) == (400, 100)
    assert small_size(3, 9000, 160) == (1, 160)


def test_an_image_is_one_look(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 70, 3), np.uint8)
    write_image(tmp_path / "i.png", pixels)
    seen, info = looks(tmp_path / "i.png", side=100)
    (look,) = seen
    assert info == probe(tmp_path / "i.png")
    np.testing.assert_array_equal(look.small, pixels)
    assert look.luma is not None
    assert look.luma.shape == (40, 70)


def test_a_broken_file_is_told_with_the_reason_after_the_frames_before(tmp_path: Path) -> None:
    whole = encode(tmp_path / "v.mp4", 60, "-movflags", "+faststart", "-g", "12").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: int(len(whole) * 0.6)])
    seen: list[Look] = []
    with pytest.raises(MediaError, match=r"cut short|breaks after"):
        survey(tmp_path / "cut.mp4", seen.append)
    assert 0 < len(seen) < 60
    (tmp_path / "none.mp4").touch()
    with pytest.raises(MediaError, match="an empty file"):
        survey(tmp_path / "none.mp4", seen.append)


def test_a_late_start_is_told(tmp_path: Path) -> None:
    info = probe(encode(tmp_path / "v.ts", 10, "-output_ts_offset", "3"))
    assert info.start_s == pytest.approx(info.pts[0] * float(Fraction(info.time_base)))
    assert info.start_s > 3


@pytest.mark.parametrize(
    ("transfer", "name"),
    [("smpte2084", "smpte2084"), ("arib-std-b67", "arib-std-b67"), ("bt709", "")],
)
def test_depth_and_hdr_are_told(transfer: str, name: str, tmp_path: Path) -> None:
    colour = ("-color_trc", transfer, "-vf", f"setparams=color_trc={transfer}")
    path = encode(tmp_path / "v.mp4", 3, "-pix_fmt", "yuv420p10le", *colour)
    info = probe(path)
    assert (info.bit_depth, info.transfer, info.pix_fmt) == (10, name, "yuv420p10le")
