"""Where a row comes from: back from a clip, or what was made of it, to the bytes of a source file.

    captions, latents, copies … ── clip_id ──> clips ── video_id ──> videos ──> sources

A row is found by its id in the tables of a dataset, whoever wrote them, so that a later station's
tables need not be known here.
"""

import hashlib
import json
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from openreel.pipeline import table
from openreel.pipeline.curate import CLIPS, SOURCES, VIDEOS
from openreel.pipeline.errors import InputError, MediaError
from openreel.pipeline.remote import remote_digest
from openreel.pipeline.view import rank


class Link(NamedTuple):
    """One row on the way back."""

    table: str
    facts: dict[str, object]
    """the row's columns, and stage, version and fingerprint of the run that made it"""


def lineage(dataset: Path, row_id: str, *, verify: bool = False) -> list[Link]:
    """Every row that leads from an id back to the source files, the latest station's first.

    row_id: a clip_id, which captions and latents have too, a video_id or a source's key. verify:
    read each source file again and say in the fact "bytes" whether they are the digest's. Raises
    InputError if no table of the dataset has the id.
    """
    table.key_of(dataset / SOURCES)
    links = _rows_of_clip(dataset, row_id)
    video_ids = [str(link.facts["video_id"]) for link in links if "video_id" in link.facts]
    links += _links(dataset, VIDEOS, "video_id", video_ids or [row_id])
    video_ids += [str(link.facts["video_id"]) for link in links if link.table == VIDEOS]
    sources = _links(dataset, SOURCES, "video_id", list(dict.fromkeys(video_ids)))
    links += sources or _links(dataset, SOURCES, "key", [row_id])
    if not links:
        raise InputError("row", row_id, f"a clip_id, a video_id or a source's key in {dataset}")
    if not verify:
        return links
    return [_verified(link) if link.table == SOURCES else link for link in links]


def fingerprint_of(folder: Path) -> tuple[str, dict[str, Any]]:
    """A short digest of the settings that a table was made with, and the settings."""
    header = json.loads((folder / table.HEADER).read_text(encoding="utf-8"))
    settings: dict[str, Any] = header["fingerprint"]
    text = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12], settings


def tables_of(dataset: Path) -> list[Path]:
    """The folders of all tables of a dataset: curation's in their order, then others by name. Some
    stations have a table for each of several makers, in one folder more."""
    order = (SOURCES, VIDEOS, CLIPS)
    headers = [h for depth in ("*", "*/*") for h in dataset.glob(f"{depth}/{table.HEADER}")]
    found = [header.parent for header in sorted(headers)]
    return sorted(found, key=lambda f: order.index(f.name) if f.name in order else len(order))


def _rows_of_clip(dataset: Path, clip_id: str) -> list[Link]:
    """The clip's row, after those of what was made of it."""
    made: list[Link] = []
    for folder in reversed(tables_of(dataset)):
        if table.key_of(folder) == "clip_id":
            name = folder.relative_to(dataset).as_posix()
            made += _links(dataset, name, "clip_id", [clip_id])
    return made


def _links(dataset: Path, name: str, column: str, values: list[str]) -> list[Link]:
    folder = dataset / name
    if not values or not (folder / table.HEADER).exists():
        return []
    digest, _ = fingerprint_of(folder)
    return [
        Link(name, {**_facts(row), "fingerprint": digest}) for row in _rows(folder, column, values)
    ]


def _rows(folder: Path, column: str, values: list[str]) -> list[dict[str, Any]]:
    """The rows of a table whose column has one of some values: of one key the newest attempt, and
    of those the better verdict. Only what matches is read into memory."""
    key, found = table.key_of(folder), []
    for part in table.parts(folder):
        found += pq.read_table(part, filters=[(column, "in", values)]).to_pylist()
    found.sort(key=rank)
    best: dict[str, dict[str, Any]] = {}
    for row in found:
        best.setdefault(str(row[key]), row)
    return [best[name] for name in sorted(best)]


def _facts(row: dict[str, Any]) -> dict[str, object]:
    """A row without what says nothing: empty columns go, long ones are counted."""
    facts: dict[str, object] = {}
    for name, value in row.items():
        if isinstance(value, list) and value and not isinstance(value[0], dict | str):
            facts[name] = f"{len(value)} numbers" if len(value) > 8 else value
        elif isinstance(value, list) and len(value) > 8:
            facts[name] = f"{len(value)} rows"
        elif value not in ("", None, []):
            facts[name] = value
    if "start_pts" in row and "time_base" in row:
        first, last = (float(row[n] * Fraction(row["time_base"])) for n in ("start_pts", "end_pts"))
        facts["span"] = f"{first:.3f} s to {last:.3f} s by the file's own clock"
    return facts


def _verified(link: Link) -> Link:
    """The link with what the bytes of the source say today."""
    uri, digest = str(link.facts["uri"]), str(link.facts.get("video_id", ""))
    if not digest:
        return Link(link.table, {**link.facts, "bytes": "never read"})
    try:
        found = remote_digest(uri)[: len(digest)]
    except (OSError, MediaError) as error:
        state = f"cannot be read: {error}"
    else:
        state = "unchanged" if found == digest else f"changed: their digest is {found}"
    return Link(link.table, {**link.facts, "bytes": state})
