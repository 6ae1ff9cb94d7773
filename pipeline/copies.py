"""Files of their own for the clips that are kept: one row a clip, the file before the row.

A copy's name is its clip's id, which names the source's bytes, the span and how it was encoded; a
file that is there already and verifies is not encoded again.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from openreel.pipeline.clip import Clip, Copy, digest
from openreel.pipeline.commit import sha256
from openreel.pipeline.errors import MediaError
from openreel.pipeline.remote import local_copy
from openreel.pipeline.sandbox import Limits
from openreel.pipeline.stage import Stage
from openreel.pipeline.transcode import TranscodeConfig, transcode, verified

MEDIA = "media"


@dataclass(frozen=True, kw_only=True)
class CopyConfig:
    """Whether clips are copied out of their sources, and how."""

    enabled: bool = False
    """False: a clip is a span of its source, which has to stay where it is"""
    encode: TranscodeConfig = field(default_factory=TranscodeConfig)


def copies_stage(dataset: Path, config: TranscodeConfig, limits: Limits) -> Stage[Clip, Copy]:
    """The stage that writes DATASET/media. One ffmpeg with one thread for each processor."""
    return Stage(
        name="copies",
        key="clip_id",
        record=Copy,
        fingerprint=dataclasses.asdict(config),
        build=functools.partial(_build, dataset.absolute() / MEDIA, config, limits),
    )


def _build(folder: Path, config: TranscodeConfig, limits: Limits) -> Callable[[Clip], Copy]:
    return functools.partial(copied, folder=folder, config=config, limits=limits)


def copied(clip: Clip, folder: Path, config: TranscodeConfig, limits: Limits) -> Copy:
    """The clip's own file. An image needs none: it is its source. Raises MediaError."""
    if clip.kind == "image":
        return Copy(clip_id=clip.clip_id, uri=clip.uri)
    name = digest(clip.clip_id, *dataclasses.astuple(config))
    target = folder / name[:2] / f"{name}.mp4"
    try:
        written = verified(target, clip)
    except (OSError, MediaError):
        with local_copy(clip.uri, clip.video_id) as path:
            written = transcode(path, clip, target, config, limits)
    return Copy(
        clip_id=clip.clip_id,
        uri=str(target),
        sha256=sha256(target),
        num_bytes=target.stat().st_size,
        num_frames=written.num_frames,
        start_pts=written.start_pts,
        end_pts=written.end_pts,
        time_base=written.time_base,
        container=written.container,
    )


def read_from_copies(clips: Iterable[Clip], copies: Mapping[str, Copy]) -> list[Clip]:
    """The clips that have a good copy, with where to read them changed to it."""
    return [
        clip
        if clip.kind == "image"
        else replace(
            clip,
            uri=copies[clip.clip_id].uri,
            container=copies[clip.clip_id].container,
            start_frame=0,
            start_pts=copies[clip.clip_id].start_pts,
            end_pts=copies[clip.clip_id].end_pts,
            time_base=copies[clip.clip_id].time_base,
        )
        for clip in clips
        if clip.clip_id in copies
    ]
