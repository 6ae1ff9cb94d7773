"""The videos table to the clips table: spans cut from the shots, scored and judged.

Pure functions of a video's row, so the driver does them. All clips of a video are committed in one
part: a video has all of its clips in the table, or none.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from openreel.pipeline import table
from openreel.pipeline.clip import Clip, Video
from openreel.pipeline.clips import POLICY, ClipConfig, clips_of
from openreel.pipeline.judge import FilterConfig, judge
from openreel.pipeline.runs import OnRow, logged, version

STAGE = "clips"
_VIDEOS_A_PART = 64


def cut(
    videos: Path, clips: Path, config: ClipConfig, filters: FilterConfig, on_row: OnRow | None
) -> None:
    """Bring the clips of every usable video into the table at `clips`. Raises InputError for a
    table that was begun with other settings."""
    with table.one_writer(clips):
        table.create(clips, stage=STAGE, key="clip_id", fingerprint=_fingerprint(config, filters))
        done = pc.unique(table.view(clips, Clip).column("video_id"))
        usable = table.view(videos, Video).having("ok")
        todo = np.flatnonzero(~pc.is_in(usable.keys, value_set=done).to_numpy())
        with logged(clips, STAGE, on_row) as note:
            for start in range(0, len(todo), _VIDEOS_A_PART):
                rows = [
                    replace(judge(clip, filters), stage=STAGE, version=version())
                    for video in usable.rows(todo[start : start + _VIDEOS_A_PART])
                    for clip in clips_of(video, config)
                ]
                table.append(clips, rows)
                for row in rows:
                    note(row.clip_id, row.status)
        table.compact(clips)


def _fingerprint(config: ClipConfig, filters: FilterConfig) -> Mapping[str, object]:
    settings = {"lengths": dataclasses.asdict(config), "filters": dataclasses.asdict(filters)}
    return {"policy": POLICY, **settings}
