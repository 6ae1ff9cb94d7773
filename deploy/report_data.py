"""What the report page shows of a dataset: plain records, and how they are read from its tables.

A table may have millions of rows: numbers come from columns, pictures from a few clips.
"""

import importlib.metadata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from openreel.deploy.report_charts import Size, Spread
from openreel.deploy.report_clips import Shown, sampled, shown_clips
from openreel.pipeline.lineage import fingerprint_of, tables_of
from openreel.pipeline.runs import runs
from openreel.pipeline.summary import (
    SCORES,
    Refused,
    Report,
    Tables,
    score_of,
    summed_up,
    usable,
)

NUM_REFUSED, NUM_SIZES = 100, 120
_BY_RATIO = ("seconds", "aspect", "motion", "change")
"""scores of which twice as much is a step of the same size anywhere"""


@dataclass(frozen=True, kw_only=True)
class StageRuns:
    """How fast one stage was, over all runs that are on record."""

    stage: str
    num_runs: int
    rows: int
    seconds: float
    failed: int
    last: str
    """when the last one began"""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What one table was made with."""

    table: str
    fingerprint: str
    values: tuple[tuple[str, str], ...]
    tools: tuple[tuple[str, str], ...]
    """of the last run"""


@dataclass(frozen=True, kw_only=True)
class ReportPage:
    """Everything on the page."""

    dataset: str
    version: str
    found: Report
    spreads: tuple[Spread, ...]
    constant: tuple[tuple[str, float], ...]
    """scores that are the same for all clips"""
    sizes: tuple[Size, ...]
    num_sizes: int
    clips: Shown
    refused: tuple[Refused, ...]
    runs: tuple[StageRuns, ...]
    settings: tuple[Settings, ...]


def gather(dataset: Path, tables: Tables, found: Report) -> ReportPage:
    """Read what the page shows beside what the summary has found already."""
    clips = tables.clips
    spreads = _spreads(clips)
    sizes = _sizes(clips)
    return ReportPage(
        dataset=dataset.resolve().name,
        version=importlib.metadata.version("openreel"),
        found=found,
        spreads=tuple(s for s in spreads if s.values.min() < s.values.max()),
        constant=tuple(
            (s.label, float(s.values[0])) for s in spreads if s.values.min() == s.values.max()
        ),
        sizes=tuple(sizes[:NUM_SIZES]),
        num_sizes=len(sizes),
        clips=shown_clips(dataset, tables),
        refused=tuple(_refused(found)),
        runs=tuple(_runs(dataset)),
        settings=tuple(_settings(folder) for folder in tables_of(dataset)),
    )


# ---- numbers ----------------------------------------------------------------------------------


def _spreads(clips: pa.Table) -> list[Spread]:
    """Every score that some clips have."""
    used, spreads = usable(clips), []
    for name, label in SCORES.items():
        values = score_of(clips, name)
        known = np.isfinite(values)
        if known.any():
            kept, rejected = values[known & used], values[known & ~used]
            spreads.append(
                Spread(label=label, kept=kept, rejected=rejected, by_ratio=name in _BY_RATIO)
            )
    return spreads


def _sizes(clips: pa.Table) -> list[Size]:
    """The commonest first; rows that failed before their size was known have none."""
    pairs = list(
        zip(clips["width"].to_pylist(), clips["height"].to_pylist(), usable(clips), strict=True)
    )
    kept = Counter((w, h) for w, h, ok in pairs if ok)
    rejected = Counter((w, h) for w, h, ok in pairs if not ok and min(w, h) > 0)
    return [
        Size(width=w, height=h, kept=kept[w, h], rejected=rejected[w, h])
        for (w, h), _ in sorted((kept + rejected).items(), key=lambda item: (-item[1], item[0]))
    ]


def _refused(found: Report) -> list[Refused]:
    """Some files of each reason, all where they are few."""
    common = summed_up(row.reason for row in found.refused)
    groups: dict[str, list[int]] = {}
    for i, row in enumerate(found.refused):
        groups.setdefault(common[row.reason], []).append(i)
    return [found.refused[i] for i in sampled(groups, NUM_REFUSED)]


def _runs(dataset: Path) -> list[StageRuns]:
    rows = []
    for folder in tables_of(dataset):
        past = runs(folder)
        if past:
            rows.append(
                StageRuns(
                    stage=str(past[-1]["stage"]),
                    num_runs=len(past),
                    rows=sum(int(run["rows"]) for run in past),
                    seconds=sum(float(run["seconds"]) for run in past),
                    failed=sum(int(run.get("failed", 0)) for run in past),
                    last=str(past[-1]["started"]),
                )
            )
    return rows


def _settings(folder: Path) -> Settings:
    digest, settings = fingerprint_of(folder)
    past = runs(folder)
    tools = {"openreel": past[-1].get("version", ""), **past[-1].get("tools", {})} if past else {}
    return Settings(
        table=folder.name,
        fingerprint=digest,
        values=tuple((name, str(value)) for name, value in _flat(settings)),
        tools=tuple((name, str(value)) for name, value in tools.items()),
    )


def _flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, object]]:
    """Nested settings as dotted names."""
    flat: list[tuple[str, object]] = []
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat += _flat(value, f"{prefix}{name}.")
        else:
            flat.append((f"{prefix}{name}", value))
    return flat
