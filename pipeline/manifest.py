"""Lists of media that a person or another tool wrote: CSV, JSON lines or Parquet.

Columns, whatever their case; others are left alone:

    file | uri | path | video | image      where it lies: beside the manifest, absolute, or a URI
    caption | text | original              its captions as they came
    short, dense                           captions in these styles
    start_s, end_s                         the span in seconds that this row's captions are for
    licence | license                      under which it is used
    origin | source | source repo          where it comes from
"""

import csv
import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openreel.pipeline.clip import TimedText
from openreel.pipeline.errors import InputError

_COLUMNS = {
    **dict.fromkeys(("file", "uri", "path", "video", "image"), "location"),
    **dict.fromkeys(("caption", "text", "original"), "original"),
    **dict.fromkeys(("licence", "license"), "licence"),
    **dict.fromkeys(("origin", "source", "source repo"), "origin"),
    **{name: name for name in ("short", "dense", "start_s", "end_s")},
}
_LOCATION = "a column file, uri, path, video or image"
KINDS = ("original", "short", "dense")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One row: one file, as it is named there, and what is said of it."""

    where: str
    """manifest and line, for messages"""
    location: str
    texts: tuple[TimedText, ...] = ()
    licence: str = ""
    origin: str = ""


def is_manifest(name: str) -> bool:
    """Whether a file is read as a manifest, by its name."""
    return name.lower().endswith(tuple(_READERS))


def read_manifest(path: Path, name: str) -> Iterator[Entry]:
    """The rows of a manifest, in order; name is what messages call it.

    Raises InputError with the line for what cannot be read: no column of locations, an empty
    location, a broken line, a number that is a word, a span that ends before it starts.
    """
    read = _READERS[f".{path.name.lower().rpartition('.')[2]}"]
    for where, cells in read(path, name):
        yield _entry(where, cells)


def timed_text(
    where: str, kind: Any, text: Any, start_s: Any = None, end_s: Any = None
) -> TimedText:
    """A caption of any kind, checked. None or an empty string is a bound that is not given."""
    if kind not in KINDS:
        raise InputError(where, kind, "a caption of kind original, short or dense")
    start = 0.0 if start_s in (None, "") else _seconds(where, "start_s", start_s)
    end = math.inf if end_s in (None, "") else _seconds(where, "end_s", end_s)
    if not start < end:
        raise InputError(where, f"start_s {start:g}, end_s {end:g}", "a span that ends later")
    return TimedText(kind=kind, text=_string(where, kind, text), start_s=start, end_s=end)


def json_lines(path: Path, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name and line, object) for each line of a file of JSON objects; empty lines are skipped."""
    with path.open("rb") as file:
        for number, line in enumerate(_decoded(file, name), start=1):
            if not line.strip():
                continue
            where = f"{name}, line {number}"
            try:
                fields = json.loads(line)
            except (ValueError, RecursionError):
                fields = None
            if not isinstance(fields, dict):
                raise InputError(where, line.strip()[:100], "one JSON object a line")
            yield where, fields


# ---- rows -------------------------------------------------------------------------------------

_Cells = list[tuple[str, Any]]
"""(column of _COLUMNS' values, cell), none of them empty"""


def _entry(where: str, cells: _Cells) -> Entry:
    locations = {_string(where, "location", cell) for column, cell in cells if column == "location"}
    if len(locations) != 1:
        raise InputError(where, " and ".join(sorted(locations)) or "no location", "one location")
    (location,) = locations
    if "\0" in location:
        raise InputError(where, location, "a location without NUL")
    bounds = {column: cell for column, cell in cells if column in ("start_s", "end_s")}
    return Entry(
        where=where,
        location=location,
        texts=tuple(timed_text(where, kind, x, **bounds) for kind, x in cells if kind in KINDS),
        licence=joined(_string(where, c, cell) for c, cell in cells if c == "licence"),
        origin=joined(_string(where, c, cell) for c, cell in cells if c == "origin"),
    )


def joined(values: Iterable[str]) -> str:
    """Each distinct value once: two licences are both said."""
    return "; ".join(dict.fromkeys(value for value in values if value))


def _cells(fields: Iterator[tuple[str, Any]]) -> _Cells:
    named = ((_COLUMNS.get(name.strip().lower()), cell) for name, cell in fields)
    return [
        (column, cell)
        for column, cell in named
        if column is not None
        and cell is not None
        and not (isinstance(cell, str) and not cell.strip())
    ]


def _string(where: str, column: str, cell: Any) -> str:
    if not isinstance(cell, str):
        raise InputError(f"{where}, {column}", cell, "a string")
    try:
        cell.encode()
    except UnicodeEncodeError as error:  # half of a surrogate pair, from JSON's \u escapes
        raise InputError(f"{where}, {column}", cell, "characters of Unicode") from error
    return cell


def _seconds(where: str, column: str, cell: Any) -> float:
    try:
        seconds = math.nan if isinstance(cell, bool) else float(cell)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not seconds >= 0:
        raise InputError(f"{where}, {column}", cell, "seconds, 0 or more")
    return seconds


# ---- formats ----------------------------------------------------------------------------------


def _decoded(file: Any, name: str) -> Iterator[str]:
    """Lines of UTF-8, which end at a line feed alone: captions may hold other separators."""
    for number, line in enumerate(file, start=1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{name}, line {number}", line[:100], "text in UTF-8") from error


def _csv(path: Path, name: str) -> Iterator[tuple[str, _Cells]]:
    with path.open("rb") as file:
        reader = csv.reader(_decoded(file, name), strict=True)
        try:
            header = next(reader, [])
            _check_columns(f"{name}, line 1", header)
            for cells in reader:
                where = f"{name}, line {reader.line_num}"
                if cells and len(cells) != len(header):
                    wanted = f"{len(header)} cells, as in the header"
                    raise InputError(where, f"{len(cells)} cells", wanted)
                if cells:
                    yield where, _cells(zip(header, cells, strict=True))
        except csv.Error as error:
            raise InputError(f"{name}, line {reader.line_num}", str(error), "CSV") from error


def _jsonl(path: Path, name: str) -> Iterator[tuple[str, _Cells]]:
    for where, fields in json_lines(path, name):
        _check_columns(where, list(fields))
        yield where, _cells(iter(fields.items()))


def _parquet(path: Path, name: str) -> Iterator[tuple[str, _Cells]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            columns = file.schema_arrow.names
            _check_columns(name, columns)
            known = [column for column in columns if column.strip().lower() in _COLUMNS]
            for batch in file.iter_batches(columns=known):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{name}, row {number}", _cells(iter(row.items()))
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{name}, row {number + 1}", str(error)[:200], "Parquet") from error


def _check_columns(where: str, columns: list[str]) -> None:
    if "location" not in {_COLUMNS.get(column.strip().lower()) for column in columns}:
        raise InputError(where, ", ".join(columns)[:200] or "no columns", _LOCATION)


_READERS: dict[str, Callable[[Path, str], Iterator[tuple[str, _Cells]]]] = {
    ".csv": _csv,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
}
