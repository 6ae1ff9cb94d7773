"""The measures against ffmpeg's filters and OpenCV's blur."""

import math
import re
import subprocess
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from openreel.pipeline.media import ffmpeg_program, read_image
from openreel.vae.codec import Frames
from openreel.vae.measures import (
    colour_difference,
    flicker,
    frechet,
    ms_ssim,
    num_scales,
    off_mean,
    psnr,
    ssim,
)

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


@pytest.fixture(scope="module")
def picture(media: Path) -> Frames:
    return read_image(media / "image" / "cat_face_3x2.png")[None, :290, :440]


def spoilt(x: Frames, deviation: float) -> Frames:
    """Noisy and a little blurred."""
    noise = np.random.default_rng(0).normal(0, deviation, x.shape)
    blurred = np.stack([cv2.GaussianBlur(frame, (3, 3), 0.6) for frame in x])
    return (blurred + noise).round().clip(0, 255).astype(np.uint8)


def by_ffmpeg(figure: str, x: Frames, y: Frames, pixels: str, folder: Path) -> dict[str, float]:
    """What ffmpeg's filter of that name says of two clips of one frame, in planar RGB or grey."""
    height, width = x.shape[1:3]
    raw = f"-f rawvideo -pix_fmt {'gray' if pixels == 'gray' else 'rgb24'} -s {width}x{height}"
    for name, frames in (("x", x), ("y", y)):
        (folder / name).write_bytes(np.ascontiguousarray(frames).tobytes())
    argv = [ffmpeg_program(), "-nostdin", *raw.split(), "-i", str(folder / "x"), *raw.split()]
    argv += ["-i", str(folder / "y"), "-lavfi", f"[0]format={pixels}[a];[1]format={pixels}[b];"]
    argv[-1] += f"[a][b]{figure}"
    log = subprocess.run([*argv, "-f", "null", "-"], capture_output=True, text=True, check=True)
    last = next(line for line in reversed(log.stderr.splitlines()) if figure.upper() in line)
    return {name: float(value) for name, value in re.findall(r"(\w+):([0-9.]+)", last)}


def grey(x: Frames) -> Frames:
    """Three equal channels."""
    return np.repeat(x[..., 1:2], 3, axis=-1)


Plane = npt.NDArray[np.float64]


def similarity_by_blur(x: Plane, y: Plane) -> tuple[float, float]:
    """Wang et al. 2004 with OpenCV's blur: (SSIM, contrast and structure)."""

    def blur(z: Plane) -> Plane:
        return np.asarray(cv2.GaussianBlur(z, (11, 11), 1.5))[5:-5, 5:-5]

    a, b = blur(x), blur(y)
    aa, bb, ab = blur(x * x) - a * a, blur(y * y) - b * b, blur(x * y) - a * b
    contrast = (2 * ab + 58.5225) / (aa + bb + 58.5225)
    return float((contrast * (2 * a * b + 6.5025) / (a * a + b * b + 6.5025)).mean()), float(
        contrast.mean()
    )


@pytest.mark.parametrize("deviation", [1, 8, 30])
def test_psnr_is_ffmpegs(picture: Frames, deviation: float, tmp_path: Path) -> None:
    y = spoilt(picture, deviation)
    assert psnr(picture, y) == pytest.approx(
        by_ffmpeg("psnr", picture, y, "gbrp", tmp_path)["average"], abs=1e-5
    )
    assert psnr(picture, picture) == math.inf


@pytest.mark.parametrize("deviation", [1, 8, 30])
def test_ssim_is_wangs_and_near_ffmpegs(picture: Frames, deviation: float, tmp_path: Path) -> None:
    """ffmpeg's windows are squares of 8 pixels, which changes the figure a little."""
    x, y = grey(picture), grey(spoilt(picture, deviation))
    expected, _ = similarity_by_blur(x[0, ..., 0].astype(float), y[0, ..., 0].astype(float))
    assert ssim(x, y) == pytest.approx(expected, abs=1e-9)
    theirs = by_ffmpeg("ssim", x[..., :1], y[..., :1], "gray", tmp_path)["All"]
    assert ssim(x, y) == pytest.approx(theirs, abs=0.06)
    assert ssim(x, x) == pytest.approx(1)


@pytest.mark.parametrize("deviation", [1, 8, 30])
def test_ms_ssim_is_the_product_over_the_scales(picture: Frames, deviation: float) -> None:
    x, y = grey(picture), grey(spoilt(picture, deviation))
    a, b = x[0, ..., 0].astype(float), y[0, ..., 0].astype(float)
    expected = 1.0
    for i, weight in enumerate(WEIGHTS):
        expected *= similarity_by_blur(a, b)[i < 4] ** weight
        height, width = (side // 2 for side in a.shape)
        a, b = (
            z[: 2 * height, : 2 * width].reshape(height, 2, width, 2).mean((1, 3)) for z in (a, b)
        )
    assert num_scales(*x.shape[1:3]) == 5
    assert ms_ssim(x, y) == pytest.approx(expected, abs=1e-9)


def test_small_pictures_have_fewer_scales_and_say_so(picture: Frames) -> None:
    assert [num_scales(side, 300) for side in (10, 11, 21, 22, 175, 176)] == [0, 1, 1, 2, 4, 5]
    tiny = picture[:, :10, :10]
    assert math.isnan(ssim(tiny, tiny))
    assert math.isnan(ms_ssim(tiny, tiny))
    one_scale = picture[:, :15, :200]
    y = spoilt(one_scale, 8)
    assert ms_ssim(one_scale, y) == pytest.approx(ssim(one_scale, y), rel=1e-4)
    assert ms_ssim(one_scale, one_scale) == pytest.approx(1)


def test_flicker_sees_change_alone(picture: Frames) -> None:
    x = np.repeat(picture, 6, axis=0)
    darker = (x // 2 + 3).astype(np.uint8)
    assert psnr(x, darker) < 20
    assert flicker(x, darker) == 0
    blinking = darker.copy()
    blinking[::2] += 4
    assert flicker(x, blinking) == 4
    assert flicker(x[:1], darker[:1]) == 0


def test_colour_difference_is_a_distance_in_lab() -> None:
    """Two greys differ by their lightness, which is a formula: L* = 116 Y^(1/3) - 16."""

    def lightness(level: int) -> float:
        linear = ((level / 255 + 0.055) / 1.055) ** 2.4
        return float(116 * linear ** (1 / 3) - 16)

    x, y = (np.full((2, 5, 7, 3), level, np.uint8) for level in (100, 180))
    assert colour_difference(x, y) == pytest.approx(lightness(180) - lightness(100), abs=0.01)
    assert colour_difference(x, x) == 0


def test_off_mean_is_the_energy_off_dc() -> None:
    y = np.random.default_rng(0).integers(0, 256, (2, 24, 17, 3), dtype=np.uint8)
    power = np.abs(np.fft.fft2(y.astype(float), axes=(1, 2))) ** 2
    power[:, 0, 0] = 0
    expected = np.sqrt(power.sum() / (24 * 17) / y.size)
    assert off_mean(y)[0] == pytest.approx(expected)
    assert off_mean(np.full((2, 9, 9, 3), 7, np.uint8)) == (0, 0)


def test_frechet_of_shifted_gaussians_is_the_shift() -> None:
    x = np.random.default_rng(0).normal(size=(500, 7))
    assert frechet(x, x) == pytest.approx(0, abs=1e-6)
    assert frechet(x, x + 2) == pytest.approx(4 * 7)
    # Along a line: (mean - mean')^2 + (sigma - sigma')^2.
    a = x[:, :1]
    apart = (2 * a.mean() - a.mean() + 1) ** 2 + a.std(ddof=1) ** 2
    assert frechet(a, 2 * a + 1) == pytest.approx(apart)
