"""Hard cuts, ours against PySceneDetect: `python -m tests.benchmarks.bench_shots`.

Precision, recall and F1 of hard cuts, matched one to one within one frame, on real clips whose cuts
were marked by eye, and on drawn films (tests/benchmarks/films.py) of a seed that nothing was tuned
on. All see the same frames of at most 160 pixels; PySceneDetect's detectors have their defaults.
"""

import csv
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from openreel.pipeline.errors import MediaError
from openreel.pipeline.media import Frames
from openreel.pipeline.shots import ShotConfig, scan_frames
from openreel.pipeline.survey import survey
from tests.benchmarks.films import Film, film
from tests.benchmarks.timing import report

SEED, FILMS = 2_000, 60
GRADUAL = {
    "nasa_astronaut_dark_stage.mp4": [(120, 156)],
    "photo_slideshow_fades.mp4": [(210, 240), (330, 420), (525, 570), (670, 695)],
    "bbb_opening_vp8.webm": [(0, 50)],
    "bbb_sky_hevc_1080p24.ts": [(0, 60)],
    "bbb_rot90_portrait.mp4": [(0, 45)],
    "bbb_title_720p60.ts": [(210, 290)],
    "plane_flyover_broken_audio.mp4": [(204, 279)],
    "grey_fades_mpeg4.mp4": [(0, 250)],
}
"""frames of the real clips' gradual transitions, from their captions"""
Found = tuple[list[int], list[tuple[int, str]]]
"""cuts, and other boundaries with their kind"""


@dataclass(kw_only=True)
class Tally:
    """What one detector made of one set."""

    hits: int = 0
    found: int = 0
    true: int = 0
    false_in_gradual: int = 0
    seconds: float = 0.0
    frames: int = 0
    gradual: dict[str, list[int]] = field(
        default_factory=lambda: {"fade": [0, 0, 0], "dissolve": [0, 0, 0]}
    )
    """found, there were, false"""

    def line(self) -> str:
        """Precision, recall and F1; then F1 if what is found within gradual transitions is free."""
        precision, recall = self.hits / max(1, self.found), self.hits / self.true
        f1 = 2 * self.hits / (self.found + self.true)
        lenient = 2 * self.hits / (self.found - self.false_in_gradual + self.true)
        return f"{precision:.3f} / {recall:.3f} / {f1:.3f} ({lenient:.3f})"


def matched(found: list[int], true: list[int]) -> int:
    """The size of a one-to-one matching within one frame."""
    free, hits = set(true), 0
    for cut in sorted(found):
        near = [t for t in free if abs(t - cut) <= 1]
        if near:
            free.remove(min(near, key=lambda t: (abs(t - cut), t)))
            hits += 1
    return hits


def ours(frames: Frames) -> Found:
    scan = scan_frames(frames, ShotConfig())
    return list(scan.cuts), [(f, kind) for f, kind in scan.boundaries if kind != "cut"]


def peer(detector: Callable[[], Any]) -> Callable[[Frames], Found]:
    from scenedetect import FrameTimecode

    def detect(frames: Frames) -> Found:
        made, cuts = detector(), []
        for i, frame in enumerate(frames):
            bgr = np.ascontiguousarray(frame[..., ::-1])
            cuts += [c.frame_num for c in made.process_frame(FrameTimecode(i, 30.0), bgr)]
        return cuts, []

    return detect


def real(folder: Path) -> Iterator[tuple[Frames, list[int], list[tuple[int, int]]]]:
    """Small frames, true cuts and gradual spans of each real video that decodes."""
    with (folder / "MANIFEST.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["file"].startswith("video/")]
    for row in rows:
        path = folder / row["file"]
        small: list[Frames] = []
        try:
            survey(path, lambda seen, small=small: small.append(seen.small))  # type: ignore[misc]
        except MediaError:
            continue
        cuts = [int(cut) for cut in row["cut_frames"].split(";") if cut]
        yield np.stack(small), cuts, GRADUAL.get(path.name, [])


def count(
    tally: Tally, detect: Callable[[Frames], Found], frames: Frames, true: list[int]
) -> Found:
    start = time.process_time()
    cuts, others = detect(frames)
    tally.seconds += time.process_time() - start
    tally.frames += len(frames)
    tally.hits += matched(cuts, true)
    tally.found += len(cuts)
    tally.true += len(true)
    return cuts, others


def count_gradual(tally: Tally, others: list[tuple[int, str]], made: Film) -> None:
    for kind, numbers in tally.gradual.items():
        spans = [(t.start, t.end) for t in made.truths if t.kind == kind]
        frames = [frame for frame, found in others if found == kind]
        numbers[0] += sum(any(a <= frame <= b for frame in frames) for a, b in spans)
        numbers[1] += len(spans)
        numbers[2] += sum(not any(a <= frame <= b for a, b in spans) for frame in frames)


def main() -> None:
    import cv2
    from scenedetect import AdaptiveDetector, ContentDetector

    cv2.setNumThreads(1)
    detectors = {
        "ours": ours,
        "PySceneDetect content": peer(ContentDetector),
        "PySceneDetect adaptive": peer(AdaptiveDetector),
    }
    folder = Path(__file__).resolve().parents[3] / "shared" / "media"
    folder = Path(os.environ.get("OPENREEL_TEST_MEDIA", folder))
    on_real = {name: Tally() for name in detectors}
    for frames, true, spans in real(folder):
        for name, detect in detectors.items():
            cuts, _ = count(on_real[name], detect, frames, true)
            inside = [c for c in cuts if any(a <= c <= b for a, b in spans)]
            on_real[name].false_in_gradual += len(inside) - matched(inside, true)
    drawn = {name: Tally() for name in detectors}
    for index in range(FILMS):
        made = film(SEED, index)
        spans = [(t.start, t.end) for t in made.truths if t.kind != "cut"]
        for name, detect in detectors.items():
            cuts, others = count(drawn[name], detect, made.frames, made.cuts())
            inside = [c for c in cuts if any(a <= c <= b for a, b in spans)]
            drawn[name].false_in_gradual += len(inside) - matched(inside, made.cuts())
            count_gradual(drawn[name], others, made)
    rows = []
    for what, tallies in (("real clips", on_real), (f"{FILMS} hard films", drawn)):
        for name, tally in tallies.items():
            title = f"precision / recall / F1 (gradual ones ignored), {tally.true} cuts, {what}"
            rows.append((title, name, tally.line()))
    for kind, (hits, true_, false) in drawn["ours"].gradual.items():
        rows.append((f"{kind}s found, hard films", "ours", f"{hits} of {true_}, {false} false"))
    for what, tallies in (("real clips", on_real), ("hard films", drawn)):
        for name, tally in tallies.items():
            speed = f"{tally.frames / tally.seconds:,.0f}"
            rows.append((f"frames a second of one processor, {what}", name, speed))
    report("shots", rows)


if __name__ == "__main__":
    main()
