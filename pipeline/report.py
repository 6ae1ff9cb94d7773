"""The truth about a dataset: what came in, what is used, and why the rest is not."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Group
from rich.table import Table

from openreel.pipeline import table
from openreel.pipeline.clip import Clip, Source, Verdict, Video
from openreel.pipeline.curate import CLIPS, OTHERS, SOURCES, VIDEOS


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A file of which nothing is used."""

    uri: str
    stage: str
    status: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """Counts and reasons of one dataset."""

    counts: dict[str, dict[str, int]]
    """table -> status -> rows"""
    reasons: dict[str, dict[str, int]]
    """table -> reason -> rows that are not ok"""
    refused: tuple[Refused, ...]
    others: dict[str, int]
    """suffix -> files that are no media by their name"""
    clip_seconds: float
    """of the usable clips"""


def report(dataset: Path) -> Report:
    """Read the tables of a dataset. Raises InputError if it is none."""
    tables: dict[str, Sequence[Verdict]] = {
        SOURCES: (sources := table.read(dataset / SOURCES, Source)),
        VIDEOS: (videos := table.read(dataset / VIDEOS, Video)),
        CLIPS: (clips := table.read(dataset / CLIPS, Clip)),
    }
    files: list[Source | Video] = [*sources, *videos]
    refused = [
        Refused(uri=row.uri, stage=row.stage, status=row.status, reason=row.reason)
        for row in sorted(files, key=lambda row: row.uri)
        if row.status != "ok"
    ]
    return Report(
        counts={name: dict(Counter(row.status for row in rows)) for name, rows in tables.items()},
        reasons={
            name: dict(Counter(row.reason for row in rows if row.status != "ok").most_common())
            for name, rows in tables.items()
        },
        refused=tuple(refused),
        others=json.loads((dataset / OTHERS).read_text(encoding="utf-8")),
        clip_seconds=sum(c.num_frames / c.fps for c in clips if c.status == "ok" and c.fps > 0),
    )


def rendered(found: Report) -> Group:
    """The report as tables for a terminal."""
    counts = Table("table", "ok", "rejected", "failed", title="rows")
    for name, statuses in found.counts.items():
        counts.add_row(name, *(str(statuses.get(s, 0)) for s in ("ok", "rejected", "failed")))
    clips = Table("clips not used", "reason", title=f"{found.clip_seconds:.1f} s of clips are used")
    for reason, number in found.reasons[CLIPS].items():
        clips.add_row(str(number), reason)
    files = Table("file", "status", "reason", title="files not used")
    for row in found.refused:
        files.add_row(Path(row.uri).name, row.status, row.reason)
    for suffix, number in sorted(found.others.items()):
        files.add_row(f"{number} x {suffix}", "passed over", "not a media file by its name")
    return Group(counts, clips, files)
