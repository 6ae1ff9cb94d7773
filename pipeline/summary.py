"""The tables of a dataset in numbers: how many came in, how many are used, why the others are not.

Everything is counted on columns, so that millions of rows are no matter.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from openreel.pipeline import table
from openreel.pipeline.clip import Clip, Source, Verdict, Video
from openreel.pipeline.curate import CLIPS, OTHERS, SOURCES, VIDEOS

Floats = npt.NDArray[np.float64]

SCORES = {
    "seconds": "length in seconds",
    "fps": "frames a second",
    "aspect": "width over height",
    "motion": "motion, longer sides a second",
    "change": "change between frames",
    "static": "share of repeated frames",
    "black": "share of black frames",
    "luma": "brightness",
    "sharpness": "sharpness",
    "blockiness": "blockiness",
    "text_area": "area of text",
    "dark": "area of black",
    "bright": "area of white",
    "bars": "area of bars",
    "aesthetic": "aesthetic score",
    "semantic": "semantic score",
}
"""what is known of a clip in numbers, in words"""
_DERIVED = ("seconds", "aspect", "bars")
_OF_VIDEO = ("seconds", "fps", "motion", "change", "static")
"""scores that an image does not have"""
_OF_SAMPLES = ("sharpness", "blockiness", "text_area", "dark", "bright", "bars")
"""scores of sampled frames, which a clip between two samples does not have, nor a crop"""
_VERDICT = ("status", "stage", "reason", "attempt", "version")
_CLIP = ("clip_id", "video_id", "uri", "kind", "num_frames", "fps", "width", "height", "camera")
_CROP = ("crop_width", "crop_height")


@dataclass(frozen=True, kw_only=True)
class Tables:
    """What a summary looks at of a dataset's tables."""

    sources: pa.Table
    videos: pa.Table
    clips: pa.Table
    others: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A file of which nothing is used."""

    uri: str
    stage: str
    status: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Step:
    """How many there are at one step of the way, and why some of them do not come to the next."""

    name: str
    number: int
    lost: tuple[tuple[str, str, int], ...] = ()
    """(status, reason, how many); a status "waiting" has not been worked on yet"""


@dataclass(frozen=True, kw_only=True)
class Quantiles:
    """How one score is spread over the usable clips that have it."""

    score: str
    number: int
    values: tuple[float, float, float, float, float]
    """the smallest, 10 %, median, 90 %, largest"""


@dataclass(frozen=True, kw_only=True)
class Report:
    """Counts and reasons of one dataset."""

    counts: dict[str, dict[str, int]]
    """table -> status -> rows"""
    reasons: dict[str, dict[str, int]]
    """table -> reason, as `summed_up` has it -> rows that are not ok"""
    refused: tuple[Refused, ...]
    others: dict[str, int]
    """suffix -> files that are no media by their name"""
    clip_seconds: float
    """of the usable clips"""
    steps: tuple[Step, ...]
    """files, distinct contents, decodable, shots, clips, usable clips"""
    cameras: dict[str, tuple[int, int]]
    """how the camera moves -> (usable clips, clips that are not)"""
    duplicates: int
    """clips that are not used because another one is nearly the same"""
    scores: tuple[Quantiles, ...]


def load(dataset: Path) -> Tables:
    """Read what a report needs. Raises InputError if the folder is no dataset; of a dataset that
    is still being made, the tables that are not there yet are empty."""
    table.key_of(dataset / SOURCES)
    scores = [name for name in SCORES if name not in (*_DERIVED, *_CLIP)]
    others = dataset / OTHERS
    return Tables(
        sources=_columns(dataset / SOURCES, Source, ("uri", "video_id", "num_bytes")),
        videos=_columns(dataset / VIDEOS, Video, ("video_id", "uri", "shots")),
        clips=_columns(dataset / CLIPS, Clip, (*_CLIP, *_CROP, *scores, "duplicate_of")),
        others=json.loads(others.read_text(encoding="utf-8")) if others.exists() else {},
    )


def _columns(folder: Path, record: type[Verdict], names: Sequence[str]) -> pa.Table:
    """Some columns of a table and the verdicts, in the order of its view; none of a folder that is
    not there."""
    schema = record.schema()
    wanted = pa.schema([schema.field(name) for name in (*names, *_VERDICT)])
    if not folder.is_dir():
        return wanted.empty_table()
    view = table.view(folder, record)
    return pa.table([view.column(name) for name in wanted.names], schema=wanted)


def summarise(tables: Tables) -> Report:
    """Everything that the tables say in numbers."""
    named = {SOURCES: tables.sources, VIDEOS: tables.videos, CLIPS: tables.clips}
    counts = {name: dict(Counter(rows["status"].to_pylist())) for name, rows in named.items()}
    used = usable(tables.clips)
    seconds = score_of(tables.clips, "seconds")[used]
    return Report(
        counts=counts,
        reasons={name: _reasons(rows) for name, rows in named.items()},
        refused=_refused(tables),
        others=tables.others,
        clip_seconds=float(np.nansum(seconds)),
        steps=_steps(tables, counts),
        cameras=_cameras(tables.clips, used),
        duplicates=int(pc.sum(pc.not_equal(tables.clips["duplicate_of"], "")).as_py() or 0),
        scores=tuple(_quantiles(tables.clips, used)),
    )


def usable(rows: pa.Table) -> npt.NDArray[np.bool_]:
    """Which rows have status ok."""
    return np.asarray(pc.equal(rows["status"], "ok").to_numpy(), bool)


def score_of(clips: pa.Table, name: str) -> Floats:
    """A score of every clip, one of SCORES; not a number where a clip does not have it."""
    column = {n: _floats(clips[n]) for n in ("num_frames", "fps", "width", "height", *_CROP)}
    area, cropped = column["width"] * column["height"], column["crop_width"] * column["crop_height"]
    with np.errstate(divide="ignore", invalid="ignore"):
        if name == "seconds":
            values = column["num_frames"] / column["fps"]
        elif name == "aspect":
            values = column["width"] / column["height"]
        elif name == "bars":
            values = 1 - cropped / area
        else:
            values = _floats(clips[name])
    absent = ~np.isfinite(values) | (clips["status"].to_numpy() == "failed")
    if name in _OF_VIDEO:
        absent |= clips["kind"].to_numpy() == "image"
    if name in _OF_SAMPLES:
        absent |= cropped == 0
    if name == "motion":
        absent |= (clips["camera"].to_numpy() == "unknown") & (values == 0)
    return np.where(absent, np.nan, values)


def summed_up(reasons: Iterable[str]) -> dict[str, str]:
    """Reason -> what reasons that differ only in figures and names have in common.

    A figure that is the same in all of them stays; others become dots, or go from the end.
    """
    kinds: dict[str, list[tuple[str, list[str]]]] = {}
    for reason in set(reasons):
        text = re.sub(r"duplicate of .*", "duplicate of another", reason)
        kinds.setdefault(_FIGURE.sub("\0", text), []).append((reason, _FIGURE.findall(text)))
    common: dict[str, str] = {}
    for kind, members in kinds.items():
        columns = zip(*[figures for _, figures in members], strict=True)
        shared = [c[0] if len(set(c)) == 1 else "…" for c in columns]
        words = kind.split("\0")
        text = "".join(w + s for w, s in zip(words, [*shared, ""], strict=True))
        common |= dict.fromkeys((reason for reason, _ in members), text.removesuffix(": …"))
    return common


_FIGURE = re.compile(r"\b[0-9a-f]{32}\b|(?<![\w.])-?\d+(?:\.\d+)?(?:e-?\d+)?|(?<=\dx)\d+")
"""an id, or a number; in 640x480 both"""


def _floats(column: pa.ChunkedArray) -> Floats:
    return np.asarray(pc.cast(column, pa.float64()).to_numpy(), np.float64)


def _reasons(rows: pa.Table) -> dict[str, int]:
    found = Counter(rows.filter(pc.not_equal(rows["status"], "ok"))["reason"].to_pylist())
    common = summed_up(found)
    summed: Counter[str] = Counter()
    for reason, number in found.items():
        summed[common[reason]] += number
    return dict(summed.most_common())


def _refused(tables: Tables) -> tuple[Refused, ...]:
    names = ("uri", "stage", "status", "reason")
    found = []
    for rows in (tables.sources, tables.videos):
        bad = rows.filter(pc.not_equal(rows["status"], "ok")).select(names)
        found += [Refused(**row) for row in bad.to_pylist()]
    return tuple(sorted(found, key=lambda row: row.uri))


def _steps(tables: Tables, counts: Mapping[str, Mapping[str, int]]) -> tuple[Step, ...]:
    contents = counts[SOURCES].get("ok", 0)
    waiting = contents - len(tables.videos)
    losses = {
        name: tuple(_losses(rows))
        for name, rows in (
            (SOURCES, tables.sources),
            (VIDEOS, tables.videos),
            (CLIPS, tables.clips),
        )
    }
    unseen = (("waiting", "not looked into yet", waiting),) if waiting > 0 else ()
    good = tables.videos.filter(pa.array(usable(tables.videos)))
    shots = int(pc.sum(pc.list_value_length(good["shots"])).as_py() or 0)
    return (
        Step(name="files", number=len(tables.sources), lost=losses[SOURCES]),
        Step(name="distinct contents", number=contents, lost=(*losses[VIDEOS], *unseen)),
        Step(name="decodable", number=len(good)),
        Step(name="shots", number=shots),
        Step(name="clips", number=len(tables.clips), lost=losses[CLIPS]),
        Step(name="usable clips", number=counts[CLIPS].get("ok", 0)),
    )


def _losses(rows: pa.Table) -> list[tuple[str, str, int]]:
    """The commonest first."""
    found: list[tuple[str, str, int]] = []
    for status in ("rejected", "failed"):
        these = rows.filter(pc.equal(rows["status"], status))
        found += [(status, reason, number) for reason, number in _reasons(these).items()]
    return sorted(found, key=lambda loss: -loss[2])


def _cameras(clips: pa.Table, used: npt.NDArray[np.bool_]) -> dict[str, tuple[int, int]]:
    camera = clips["camera"].to_pylist()
    kept = Counter(c for c, ok in zip(camera, used, strict=True) if c and ok)
    left = Counter(c for c, ok in zip(camera, used, strict=True) if c and not ok)
    return {name: (kept[name], left[name]) for name, _ in (kept + left).most_common()}


def _quantiles(clips: pa.Table, used: npt.NDArray[np.bool_]) -> Iterable[Quantiles]:
    for score in SCORES:
        values = score_of(clips, score)[used]
        values = values[np.isfinite(values)]
        if len(values):
            low, tenth, half, most, high = np.quantile(values, (0, 0.1, 0.5, 0.9, 1)).tolist()
            yield Quantiles(score=score, number=len(values), values=(low, tenth, half, most, high))
