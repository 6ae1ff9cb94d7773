"""How a picture moves from one frame to a later one, and what that says about the camera.

Dense optical flow between two small frames, and the one shift, growth and turn about the picture's
centre that explains most of it: the camera's part. What is left over is the things that move.

    N   points of the fit, a grid over the picture
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from openreel.pipeline.clip import Sample

Floats = npt.NDArray[np.float64]
Grey = npt.NDArray[np.uint8]

_LEAST_SIDE = 32
"""pixels; smaller frames are enlarged, because flow is sought in patches of 8 at half size"""
_STEP = 4
"""pixels from one point of the fit to the next"""
_TEXTURE = 1e-4
"""the smaller eigenvalue of the gradients at which a place has half a vote: the noise of a codec
is a tenth of it, and what an eye can hold on to is ten times as strong"""
_LEAST_VOTES, _LEAST_SPREAD = 0.01, 0.35
"""shares, of the points and of their mean distance, that votes must have for the camera to be seen
in them: a bird in a blank sky is only a bird"""
_NOISE_PX = 0.05
"""flow this close to the fit is explained by it"""
_ROUNDS = 10
"""of reweighting"""
_AGREED_PX, _AGREED = 0.25, 0.3
"""a place moves with the camera if it is off by no more than this, and this share of its way"""
_MOST_TURN = 0.5
"""growth and turn from one frame to the other; more than flow can follow"""

_STILL = 0.015
"""longer sides a second; what is slower takes a minute to leave the picture"""
_STEADY = 0.6
"""share of the camera's speed that one kind of motion must keep up to give the clip its name"""
_REACH = 0.3
"""longer sides from the centre to a typical place, where growth and turn show as speed"""


@dataclass(frozen=True, kw_only=True)
class Motion:
    """Speeds a second, in longer sides and radians; each as the field of its name in Sample."""

    flow: float = 0.0
    pan: float = 0.0
    tilt: float = 0.0
    zoom: float = 0.0
    roll: float = 0.0
    residual: float = 0.0


def motion_between(before: Grey, after: Grey, seconds: float) -> Motion:
    """The motion from one frame's brightness (h, w) to another's, `seconds` > 0 later."""
    import cv2

    enlarged = _LEAST_SIDE / min(before.shape)
    if enlarged > 1:
        size = (round(before.shape[1] * enlarged), round(before.shape[0] * enlarged))
        before, after = cv2.resize(before, size), cv2.resize(after, size)
    seeker = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    seeker.setFinestScale(1)
    flow = seeker.calc(before, after, None)

    height, width = before.shape
    y, x = np.mgrid[_STEP // 2 : height : _STEP, _STEP // 2 : width : _STEP]
    texture = cv2.cornerMinEigenVal(before, 7, 3)[y, x].astype(np.float64).ravel()
    votes = texture**2 / (texture**2 + _TEXTURE**2)
    # Complex numbers say it shortest: a place z is carried by shift + turn * z.
    place = ((x - (width - 1) / 2) + 1j * (y - (height - 1) / 2)).ravel()
    moved = flow[y, x].astype(np.float64)
    moved = (moved[..., 0] + 1j * moved[..., 1]).ravel()
    shift, turn = _common(place, moved, votes)

    camera = shift + turn * place
    # Where there is no texture the flow is noise, and the camera's part the better guess.
    moved = camera + votes * (moved - camera)
    rate = 1 / (max(width, height) * seconds)
    growth = np.log(1 + turn) / seconds
    return Motion(
        flow=float(np.abs(moved).mean()) * rate,
        pan=shift.real * rate,
        tilt=shift.imag * rate,
        zoom=float(growth.real),
        roll=float(growth.imag),
        residual=float(np.abs(moved - camera).mean()) * rate,
    )


def _common(
    place: npt.NDArray[np.complex128], moved: npt.NDArray[np.complex128], votes: Floats
) -> tuple[complex, complex]:
    """(shift, turn) such that shift + turn * place is what most votes (N,) moved by; else 0, 0."""
    centre = (votes * place).sum() / max(votes.sum(), 1e-9)
    spread = (votes * np.abs(place - centre) ** 2).sum() / max(votes.sum(), 1e-9)
    if votes.mean() < _LEAST_VOTES or spread < _LEAST_SPREAD**2 * np.mean(np.abs(place) ** 2):
        return 0j, 0j
    shift = complex(_median(moved.real, votes), _median(moved.imag, votes))
    turn = 0j
    for _ in range(_ROUNDS):
        off = np.abs(moved - shift - turn * place)
        usual = 2 * max(_median(off, votes), _NOISE_PX)
        weight = votes / (1 + (off / usual) ** 2) ** 2
        # Least squares in complex numbers: subtract the weighted means, then divide.
        total = weight.sum()
        here, there = (weight * place).sum() / total, (weight * moved).sum() / total
        around = place - here
        turn = complex(
            (weight * np.conj(around) * (moved - there)).sum()
            / max((weight * np.abs(around) ** 2).sum(), 1e-9)
        )
        shift = complex(there - turn * here)
    camera = shift + turn * place
    agree = np.abs(moved - camera) <= _AGREED_PX + _AGREED * np.abs(camera)
    # A few places in one corner can be explained by any turn; those that are seen are small.
    found = votes[agree].sum() >= votes.sum() / 2 and abs(turn) < _MOST_TURN
    return (shift, turn) if found else (0j, 0j)


def _median(values: Floats, weights: Floats) -> float:
    """The least value that, with those below it, has half of the weight."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    return float(values[order[np.searchsorted(reached, reached[-1] / 2)]])


def camera_of(samples: Sequence[Sample]) -> str:
    """What the camera does in a clip, by the samples that have motion.

    still, pan, tilt, zoom or roll; handheld if it goes to and fro; unknown without samples, or if
    in most of them too much moves on its own to see the camera's part.
    """
    speeds = np.array([(s.pan, s.tilt, _REACH * s.zoom, _REACH * s.roll) for s in samples])
    seen = [bool(any(v)) or s.residual < _STILL for v, s in zip(speeds, samples, strict=True)]
    if 2 * sum(seen) <= len(samples):
        return "unknown"
    speeds = speeds[seen]
    usual = float(np.median(np.linalg.norm(speeds, axis=1)))
    if usual < _STILL:
        return "still"
    steady = np.abs(np.median(speeds, axis=0))
    most = int(np.argmax(steady))
    return ("pan", "tilt", "zoom", "roll")[most] if steady[most] >= _STEADY * usual else "handheld"
