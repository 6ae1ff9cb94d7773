"""Other ways to find boundaries than to compare pictures: PySceneDetect's detectors, and a stride.

Each takes frames one at a time and returns (frame that begins a shot, kind) at the end.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from openreel.pipeline.clip import Boundary
from openreel.pipeline.errors import InputError
from openreel.pipeline.survey import Frames


class Stride:
    """A boundary at the first frame of each stretch of stride_s seconds."""

    def __init__(self, stride_s: float) -> None:
        self._stride_s = stride_s
        self._stretch = self._frame = 0
        self._found: list[tuple[int, Boundary]] = []

    def add(self, frame: Frames, time_s: float | None) -> None:
        if time_s is None:
            raise ValueError("the stride needs each frame's time_s")
        stretch = int(time_s / self._stride_s + 1e-6)
        if stretch > self._stretch:
            self._found.append((self._frame, "stride"))
        self._stretch = max(stretch, self._stretch)
        self._frame += 1

    def finish(self) -> list[tuple[int, Boundary]]:
        return self._found


class SceneDetect:
    """Some of PySceneDetect's detectors, each with the kind of boundary that it finds."""

    def __init__(self, detectors: Sequence[tuple[Any, Boundary]]) -> None:
        self._detectors = detectors
        self._num_frames = 0
        self._found: dict[int, Boundary] = {}

    def add(self, frame: Frames, time_s: float | None) -> None:
        bgr = np.ascontiguousarray(frame[..., ::-1])
        for detector, kind in self._detectors:
            self._note(detector.process_frame(self._time(), bgr), kind)
        self._num_frames += 1

    def finish(self) -> list[tuple[int, Boundary]]:
        for detector, kind in self._detectors:
            self._note(detector.post_process(self._time()), kind)
        return [(i, kind) for i, kind in sorted(self._found.items()) if 0 < i < self._num_frames]

    def _time(self) -> Any:
        from scenedetect import FrameTimecode

        # Boundaries are wanted as frame numbers; the rate is only there to make times of them.
        return FrameTimecode(self._num_frames, 30.0)

    def _note(self, cuts: Iterable[Any], kind: Boundary) -> None:
        for cut in cuts:
            if kind == "fade" or cut.frame_num not in self._found:  # a fade is not a cut as well
                self._found[cut.frame_num] = kind


def pyscenedetect() -> SceneDetect:
    """Its content, adaptive and threshold (fades to black) detectors, as they come. How far apart
    boundaries lie is settled for all detectors alike."""
    from scenedetect import AdaptiveDetector, ContentDetector, ThresholdDetector

    return SceneDetect(
        [
            (ContentDetector(min_scene_len=0), "cut"),
            (AdaptiveDetector(min_scene_len=0), "cut"),
            (ThresholdDetector(min_scene_len=0), "fade"),
        ]
    )


def transnet(weights: Path) -> SceneDetect:
    """Its detector with the network TransNetV2. Raises InputError if that cannot be used."""
    if not weights.is_file():
        raise InputError("shots.transnet", str(weights), "an ONNX file that is there")
    try:
        import onnxruntime  # noqa: F401
    except ImportError:
        accepted = "another detector, or transnet with the package onnxruntime installed"
        raise InputError("shots.detector", "transnet", accepted) from None
    from scenedetect.detectors.transnet_v2 import TransnetV2Detector

    return SceneDetect([(TransnetV2Detector(weights, min_scene_len=0), "cut")])
