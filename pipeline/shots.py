"""Where one shot ends and the next begins, found in one pass over small frames.

The same pass measures each frame's brightness and its change, so that clips get their scores
without being decoded again.

    T   frames of the video
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from openreel.pipeline.clip import Boundary, Shot
from openreel.pipeline.detectors import SceneDetect, Stride, pyscenedetect, transnet
from openreel.pipeline.errors import InputError
from openreel.pipeline.gradual import Dissolve, dissolve_at, fades, likeness, meeting
from openreel.pipeline.probe import MediaInfo
from openreel.pipeline.sandbox import Limits
from openreel.pipeline.survey import Frames, survey
from openreel.pipeline.transitions import AHEAD, BEHIND, Picture, is_cut, mismatch

Detector = Literal["content", "pyscenedetect", "transnet", "stride"]


@dataclass(frozen=True, kw_only=True)
class ShotConfig:
    """How shots are told apart."""

    detector: Detector = "content"
    """content: by comparing pictures. pyscenedetect: by its content, adaptive and threshold
    detectors. transnet: by the network TransNetV2, which calls every boundary a cut. stride: not at
    all; a boundary every stride_s seconds"""
    side: int = 160
    """the longer side of the frames that are looked at; smaller videos are not enlarged"""
    min_frames: int = 5
    """no shot is shorter, except one at an end of the video"""
    strictness: float = 1.0
    """of content: larger finds fewer cuts, smaller finds more"""
    stride_s: float = 10.0
    transnet: Path | None = None
    """the network's weights, an ONNX file"""

    def __post_init__(self) -> None:
        if self.detector not in get_args(Detector):
            raise InputError("shots.detector", self.detector, ", ".join(get_args(Detector)))
        for field in ("side", "min_frames", "strictness", "stride_s"):
            if not getattr(self, field) > 0:
                raise InputError(f"shots.{field}", getattr(self, field), "a number above 0")
        if self.detector == "transnet" and self.transnet is None:
            raise InputError("shots.transnet", None, "the path of TransNetV2's ONNX file")


@dataclass(frozen=True, kw_only=True)
class Scan:
    """What one pass over a video's small frames yields."""

    boundaries: tuple[tuple[int, Boundary], ...]
    """(frame that begins a shot, what parts it from the one before), in order, without frame 0"""
    luma: tuple[float, ...]
    """(T,) mean brightness of each frame, 0 to 1"""
    change: tuple[float, ...]
    """(T,) mean absolute difference to the frame before, 0 to 1; 0 for the first"""

    @property
    def cuts(self) -> tuple[int, ...]:
        """The boundaries that are hard cuts."""
        return tuple(frame for frame, kind in self.boundaries if kind == "cut")


class ShotScanner:
    """Takes a video's frames one at a time; keeps some fifty of them, very small."""

    def __init__(self, config: ShotConfig) -> None:
        """Raises InputError if the network that the config wants cannot be used."""
        self._config = config
        self._before: Frames | None = None
        self._luma: list[float] = []
        self._change: list[float] = []
        self._judge: _Content | SceneDetect | Stride
        if config.transnet is not None and config.detector == "transnet":
            self._judge = transnet(config.transnet)
        elif config.detector == "pyscenedetect":
            self._judge = pyscenedetect()
        elif config.detector == "stride":
            self._judge = Stride(config.stride_s)
        else:
            self._judge = _Content(config.strictness, self._luma, self._change)

    def add(self, frame: Frames, time_s: float | None = None) -> None:
        """Take the next frame: uint8 (h, w, 3) RGB, all of one size, its longer side config.side.

        time_s: since the first frame; only the stride needs it.
        """
        import cv2

        frame = np.ascontiguousarray(frame)
        self._luma.append(round(sum(cv2.mean(frame)[:3]) / 3 / 255, 5))
        difference = 0.0
        if self._before is not None:
            difference = cv2.norm(frame, self._before, cv2.NORM_L1) / frame.size / 255
        self._change.append(round(difference, 5))
        self._before = frame
        self._judge.add(frame, time_s)

    def finish(self) -> Scan:
        """What was seen. The scanner is of no use afterwards."""
        return Scan(
            boundaries=_apart(self._judge.finish(), self._config.min_frames),
            luma=tuple(self._luma),
            change=tuple(self._change),
        )


def scan_frames(frames: Iterable[Frames], config: ShotConfig) -> Scan:
    """The boundaries, brightness and change of uint8 (h, w, 3) RGB frames; not by stride."""
    scanner = ShotScanner(config)
    for frame in frames:
        scanner.add(frame)
    return scanner.finish()


def shots_of(scan: Scan, pts: Sequence[int], end_pts: int) -> tuple[Shot, ...]:
    """The shots between a scan's boundaries; together they cover all frames.

    pts: the tick at which each frame is shown. end_pts: that at which the last no longer is.
    """
    starts: list[tuple[int, Boundary]] = [(0, "start"), *scan.boundaries, (len(pts), "start")]
    ticks = (*pts, end_pts)
    return tuple(
        Shot(start_frame=a, end_frame=b, start_pts=ticks[a], end_pts=ticks[b], opened_by=kind)
        for (a, kind), (b, _) in pairwise(starts)
    )


def find_shots(
    path: Path, config: ShotConfig, limits: Limits | None = None
) -> tuple[MediaInfo, tuple[Shot, ...], Scan]:
    """What a file is, and its shots, which together cover all its frames. Raises MediaError."""
    scanner = ShotScanner(config)
    info = survey(
        path, lambda seen: scanner.add(seen.small, seen.time_s), side=config.side, limits=limits
    )
    scan = scanner.finish()
    return info, shots_of(scan, info.pts, info.end_pts), scan


def _apart(
    boundaries: Iterable[tuple[int, Boundary]], min_frames: int
) -> tuple[tuple[int, Boundary], ...]:
    """Boundaries in order, none closer than min_frames to a surer or an equal but earlier one."""
    kept: list[tuple[int, Boundary]] = []
    sureness = {kind: i for i, kind in enumerate(get_args(Boundary))}
    for frame, kind in sorted(boundaries, key=lambda one: (sureness[one[1]], one[0])):
        if all(abs(frame - other) >= min_frames for other, _ in kept):
            kept.append((frame, kind))
    return tuple(sorted(kept))


class _Content:
    """Compares pictures: each frame is judged when the AHEAD frames after it are known."""

    def __init__(self, strictness: float, luma: Sequence[float], change: Sequence[float]) -> None:
        self._strictness = strictness
        self._luma, self._change = luma, change
        self._pictures: list[Picture] = []
        self._pairs: dict[tuple[int, int], tuple[float, float]] = {}
        self._contrast: list[float] = []
        self._likeness: list[float] = []
        self._cuts: list[int] = []
        self._dissolves: list[Dissolve] = []
        self._judged = 0

    def add(self, frame: Frames, time_s: float | None) -> None:
        picture = Picture.of(frame)
        before = self._pictures[-1] if self._pictures else picture
        self._pictures.append(picture)
        if len(self._pictures) > BEHIND + 1 + AHEAD:
            del self._pictures[0]
        self._contrast.append(round(float(picture.middle.std()), 2))
        self._likeness.append(round(likeness(before.middle, picture.middle), 3))
        if len(self._contrast) > AHEAD:
            self._judge()

    def finish(self) -> list[tuple[int, Boundary]]:
        while self._judged < len(self._contrast):
            self._judge()
        faded = fades(self._contrast, self._likeness, self._cuts)
        mixed = meeting(self._dissolves, self._cuts, faded)
        found: list[tuple[int, Boundary]] = [(frame, "cut") for frame in self._cuts]
        found += [(span.middle, "fade") for span in faded]
        return found + [(span.middle, "dissolve") for span in mixed]

    def _judge(self) -> None:
        i, first = self._judged, len(self._contrast) - len(self._pictures)
        self._judged += 1
        if i == 0:
            return
        if is_cut(i, self._change, self._luma, self._between, self._strictness):
            self._cuts.append(i)
        seen = dissolve_at(i, self._pictures, first, self._between)
        if seen is not None:
            self._dissolves.append(seen)
        self._pairs = {pair: seen for pair, seen in self._pairs.items() if pair[0] >= i - 4}

    def _between(self, i: int, j: int) -> tuple[float, float]:
        """The mismatch of two frames that are still kept."""
        if (i, j) not in self._pairs:
            first = len(self._contrast) - len(self._pictures)
            self._pairs[i, j] = mismatch(self._pictures[i - first], self._pictures[j - first])
        return self._pairs[i, j]
