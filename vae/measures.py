"""How close a reconstruction is, in the measures that papers print; 8-bit frames in, numbers out.

Definitions are the authors' own: SSIM is Wang et al. 2004 (Gaussian window of 11 x 11, sigma 1.5,
inside the picture), MS-SSIM Wang et al. 2003, both on luma (BT.601); PSNR is over all channels.

    T H W   frames, rows, columns; frames are uint8 (T, H, W, 3)
"""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from openreel.vae.codec import Frames

_LUMA = (0.299, 0.587, 0.114)
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_SIDE, _SIGMA = 11, 1.5
_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""of the five scales, the finest first (Wang et al. 2003, table 1)"""

_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def squared_error(x: Frames, y: Frames) -> float:
    """Mean squared difference in squared levels, frame by frame, so that little memory is held."""
    parts = (np.square(a.astype(np.float32) - b).mean() for a, b in zip(x, y, strict=True))
    return math.fsum(map(float, parts)) / len(x)


def psnr(x: Frames, y: Frames) -> float:
    """Decibels of the mean squared error over all values; infinite for equal frames."""
    error = squared_error(x, y)
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def ssim(x: Frames, y: Frames) -> float:
    """Structural similarity, mean over the frames; nan where a side is below 11 pixels."""
    return _mean(lambda a, b: _similarity(a, b)[0], x, y) if _fits(x.shape) else math.nan


def num_scales(height: int, width: int) -> int:
    """How many scales of MS-SSIM a picture has room for: 5 from 176 pixels a side, 0 below 11."""
    side = min(height, width)
    return sum(side // 2**i >= _SIDE for i in range(len(_WEIGHTS)))


def ms_ssim(x: Frames, y: Frames) -> float:
    """Multi-scale structural similarity, mean over the frames.

    A small picture has fewer scales, whose weights are then enlarged to the same sum: see
    num_scales. nan where there is none.
    """
    scales = num_scales(*x.shape[1:3])
    if scales == 0:
        return math.nan
    total = sum(_WEIGHTS[:scales]) / sum(_WEIGHTS)

    def of_frame(a: Tensor, b: Tensor) -> float:
        found = 1.0
        for i in range(scales):
            whole, contrast = _similarity(a, b)
            figure = whole if i == scales - 1 else contrast
            found *= max(figure, 0.0) ** (_WEIGHTS[i] / total)
            a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
        return found

    return _mean(of_frame, x, y)


def flicker(x: Frames, y: Frames) -> float:
    """Mean magnitude, in levels, of the error's change from a frame to the next; 0 for an image."""
    changes = [
        np.abs((y[i + 1].astype(np.int16) - x[i + 1]) - (y[i].astype(np.int16) - x[i])).mean()
        for i in range(len(x) - 1)
    ]
    return float(np.mean(changes)) if changes else 0.0


def colour_difference(x: Frames, y: Frames) -> float:
    """Mean distance of the pixels in CIE L*a*b* (1976); 1 is about what an eye can tell."""
    parts = [np.linalg.norm(_lab(a) - _lab(b), axis=-1).mean() for a, b in zip(x, y, strict=True)]
    return float(np.mean(parts))


def off_mean(y: Frames) -> tuple[float, float]:
    """(root mean square, maximum) distance of the values from their frame's mean colour, in levels.

    Of a plain picture's reconstruction it is the energy outside the spectrum's DC (Parseval): any
    grid, seam or border.
    """
    rest = y - y.mean((1, 2), keepdims=True, dtype=np.float64)
    return float(np.sqrt(np.square(rest).mean())), float(np.abs(rest).max())


def frechet(x_ND: npt.ArrayLike, y_ND: npt.ArrayLike) -> float:
    """Fréchet distance of two sets of features, N x D each, taken as Gaussians."""
    x, y = np.asarray(x_ND, np.float64), np.asarray(y_ND, np.float64)
    a, b = (np.atleast_2d(np.cov(f, rowvar=False)) for f in (x, y))
    # The trace of a product's square root is the sum of the roots of its eigenvalues.
    roots = np.sqrt(np.linalg.eigvals(a @ b).astype(np.complex128)).real.sum()
    distance = np.square(x.mean(0) - y.mean(0)).sum() + np.trace(a) + np.trace(b) - 2 * roots
    return float(distance)


def _lab(frame: Frames) -> npt.NDArray[np.float64]:
    """sRGB (H, W, 3) to L*, a*, b* under its own white, D65 (IEC 61966-2-1, CIE 15)."""
    value = frame / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    xyz = linear @ (_TO_XYZ / _TO_XYZ.sum(1, keepdims=True)).T
    root = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = np.moveaxis(root, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def _fits(shape: tuple[int, ...]) -> bool:
    return min(shape[1:3]) >= _SIDE


def _mean(figure: Callable[[Tensor, Tensor], float], x: Frames, y: Frames) -> float:
    """The mean over the frames of a figure of two pictures of luma, (1, 1, H, W)."""
    found = [figure(_luma(a), _luma(b)) for a, b in zip(x, y, strict=True)]
    return math.fsum(found) / len(found)


def _luma(frame: Frames) -> Tensor:
    weights = torch.tensor(_LUMA, dtype=torch.float64)
    return (torch.from_numpy(np.ascontiguousarray(frame)).double() @ weights)[None, None]


def _similarity(x: Tensor, y: Tensor) -> tuple[float, float]:
    """(SSIM, its contrast and structure alone) of two pictures (1, 1, H, W)."""
    steps = torch.arange(_SIDE, dtype=x.dtype) - _SIDE // 2
    bell = (-(steps**2) / (2 * _SIGMA**2)).exp()
    bell = bell / bell.sum()
    moments = torch.cat([x, y, x * x, y * y, x * y])
    blurred = F.conv2d(F.conv2d(moments, bell.view(1, 1, -1, 1)), bell.view(1, 1, 1, -1))
    a, b, aa, bb, ab = blurred.unbind(0)
    contrast = (2 * (ab - a * b) + _C2) / (aa - a * a + bb - b * b + _C2)
    whole = contrast * (2 * a * b + _C1) / (a * a + b * b + _C1)
    return float(whole.mean()), float(contrast.mean())
