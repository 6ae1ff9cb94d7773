"""The videos table to the clips table: spans cut from the shots, scored and judged.

Pure functions of a video's row, so the driver does them. All clips of a video are committed in one
part: a video has all of its clips in the table, or none.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from openreel.pipeline import table
from openreel.pipeline.clip import Clip, Video, digest
from openreel.pipeline.clips import POLICY, ClipConfig, clips_of
from openreel.pipeline.judge import FilterConfig, judge
from openreel.pipeline.runs import OnRow, logged, version

STAGE = "clips"
_VIDEOS_A_PART = 64


def cut(
    videos: Path,
    clips: Path,
    config: ClipConfig,
    filters: FilterConfig,
    on_row: OnRow | None = None,
    *,
    retry_failed: bool = False,
) -> None:
    """Bring the clips of every usable video into the table at `clips`.

    A video that cannot be cut, which is our fault, is one failed row; retry_failed tries it again.
    Raises InputError for a table that was begun with other settings.
    """
    with table.one_writer(clips):
        table.create(clips, stage=STAGE, key="clip_id", fingerprint=_fingerprint(config, filters))
        known = table.view(clips, Clip)
        failed = set(known.having("failed").column("video_id").to_pylist() if retry_failed else ())
        done = [key for key in pc.unique(known.column("video_id")).to_pylist() if key not in failed]
        usable = table.view(videos, Video).having("ok")
        settled = pc.is_in(usable.keys, value_set=pa.array(done, pa.string()))
        todo = np.flatnonzero(~settled.to_numpy())
        with logged(clips, STAGE, on_row) as note:
            for start in range(0, len(todo), _VIDEOS_A_PART):
                rows = [
                    replace(clip, stage=STAGE, version=version())
                    for video in usable.rows(todo[start : start + _VIDEOS_A_PART])
                    for clip in _judged(video, config, filters, again=video.video_id in failed)
                ]
                table.append(clips, rows)
                for row in rows:
                    note(row.clip_id, row.status)
        table.compact(clips)


def _judged(video: Video, config: ClipConfig, filters: FilterConfig, *, again: bool) -> list[Clip]:
    """A video's clips, or the one row that says why there are none."""
    stand_in = Clip(
        clip_id=digest(video.video_id, POLICY, "not cut"),
        video_id=video.video_id,
        uri=video.uri,
        kind=video.kind,
        start_frame=0,
        num_frames=0,
        start_pts=0,
        end_pts=0,
        time_base=video.time_base,
        fps=0.0,
        width=video.width,
        height=video.height,
    )
    try:
        clips = [judge(clip, filters) for clip in clips_of(video, config)]
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        return [replace(stand_in, status="failed", reason=reason, attempt=2 if again else 1)]
    if again:
        clips.append(replace(stand_in, status="rejected", reason="cut again", attempt=2))
    return clips


def _fingerprint(config: ClipConfig, filters: FilterConfig) -> Mapping[str, object]:
    settings = {"lengths": dataclasses.asdict(config), "filters": dataclasses.asdict(filters)}
    return {"policy": POLICY, **settings}
