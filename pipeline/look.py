"""Sources to the videos table: one decode of each finds what it is, its shots and its scores."""

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass, field

from openreel.pipeline.clip import Source, Video
from openreel.pipeline.measures import Measurer
from openreel.pipeline.remote import local_copy
from openreel.pipeline.sandbox import Limits
from openreel.pipeline.shots import ShotConfig, ShotScanner, shots_of
from openreel.pipeline.stage import Stage
from openreel.pipeline.survey import Look, survey


@dataclass(frozen=True, kw_only=True)
class LookConfig:
    """What is looked for, and what one file may cost."""

    shots: ShotConfig = field(default_factory=ShotConfig)
    limits: Limits = field(default_factory=Limits)


def videos_stage(config: LookConfig) -> Stage[Source, Video]:
    limits = dataclasses.asdict(config.limits)
    return Stage(
        name="videos",
        key="video_id",
        record=Video,
        fingerprint={
            "shots": {k: str(v) for k, v in dataclasses.asdict(config.shots).items()},
            # What a file may contain decides its verdict; what a child may cost does not.
            "limits": {name: limits[name] for name in limits if name.startswith("max_")},
        },
        build=functools.partial(_build, config),
    )


def _build(config: LookConfig) -> Callable[[Source], Video]:
    import cv2

    cv2.setNumThreads(1)  # as many as the stage asks Ray for
    return functools.partial(look, config=config)


def look(source: Source, config: LookConfig) -> Video:
    """Look at a source once. Raises MediaError if it is not wholly usable."""
    scanner, measurer = ShotScanner(config.shots), Measurer()

    def see(seen: Look) -> None:
        scanner.add(seen.small, seen.time_s)
        measurer.add(seen.number, seen.time_s, seen.small, seen.luma)

    with local_copy(source.uri, source.video_id) as path:
        info = survey(path, see, side=config.shots.side, limits=config.limits)
    scan, fields = scanner.finish(), dataclasses.asdict(info)
    end_pts = fields.pop("end_pts")  # the last shot's
    return Video(
        video_id=source.video_id,
        uri=source.uri,
        licence=source.licence,
        origin=source.origin,
        texts=source.texts,
        shots=shots_of(scan, info.pts, end_pts),
        samples=measurer.finish(info.width, info.height),
        luma=scan.luma,
        change=scan.change,
        **fields,
    )
