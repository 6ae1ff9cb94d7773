"""A table is a folder of Parquet parts; each part is written whole or not at all.

    videos/
      _stage.json                 who writes it: stage, key column, config fingerprint
      part-1f0c….parquet          some rows; the name is the digest of the content
      part-a97b….parquet

Rows are never changed in place. A row with the key of another and a higher attempt replaces it when
the table is read; equal rows are one row. Of one attempt that was made twice, because its worker
was lost after writing, the better verdict stands; two different rows that are both ok are an error,
because then one of them would be lost in silence.
"""

import contextlib
import fcntl
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from openreel.pipeline.clip import Verdict
from openreel.pipeline.commit import committed_file, is_temporary, write_text
from openreel.pipeline.errors import InputError

R = TypeVar("R", bound=Verdict)

_HEADER = "_stage.json"
_ROWS_A_PART = 50_000
"""rows a part after compaction"""


def create(folder: Path, *, stage: str, key: str, fingerprint: Mapping[str, object]) -> None:
    """Begin a table, or go on with one that the same stage wrote with the same fingerprint.

    Raises InputError, with what differs on both sides, if the fingerprint is another one.
    """
    header = json.loads(json.dumps({"stage": stage, "key": key, "fingerprint": dict(fingerprint)}))
    path = folder / _HEADER
    if not path.exists():
        write_text(path, json.dumps(header, indent=1, sort_keys=True))
        return
    stored = json.loads(path.read_text(encoding="utf-8"))
    if stored != header:
        asked, kept = _flat(header), _flat(stored)
        names = sorted(n for n in asked | kept if asked.get(n) != kept.get(n))
        before = {n: kept.get(n) for n in names}
        raise InputError(
            f"{folder} ({', '.join(names)})",
            {n: asked.get(n) for n in names},
            f"{before}, with which this table was begun, or a new folder",
        )


def append(folder: Path, rows: Sequence[Verdict]) -> Path:
    """Add rows of one record class as one part; the same rows twice are one part."""
    content = io.BytesIO()
    table = pa.Table.from_pylist([row.to_row() for row in rows], schema=rows[0].schema())
    pq.write_table(table, content, compression="zstd")
    name = hashlib.sha256(content.getvalue()).hexdigest()[:32]
    path = folder / f"part-{name}.parquet"
    if not path.exists():
        with committed_file(path) as scratch:
            scratch.write_bytes(content.getvalue())
    return path


def read(folder: Path, record: type[R]) -> list[R]:
    """The rows of a table, in the order of their keys, each key once.

    Raises InputError if the folder is no table, ValueError if a key has two different rows.
    """
    rows: dict[str, R] = {}
    name = key_of(folder)
    for part in parts(folder):
        for values in pq.read_table(part).to_pylist():
            row = record.from_row(values)
            key = str(values[name])
            known = rows.get(key)
            if known is None or row.attempt > known.attempt:
                rows[key] = row
            elif row.attempt == known.attempt and row != known:
                if row.status == known.status == "ok":
                    raise ValueError(f"{folder}: {key} has two different rows: {known}, {row}")
                rows[key] = min(known, row, key=_rank)
    return [rows[key] for key in sorted(rows)]


def usable(folder: Path, record: type[R]) -> list[R]:
    """The rows with status ok: what the next station works on."""
    return [row for row in read(folder, record) if row.status == "ok"]


def verdicts(folder: Path) -> dict[str, Verdict]:
    """Key -> verdict of every row, without the record's own columns."""
    name = key_of(folder)
    columns = [name, *Verdict.schema().names]
    found: dict[str, Verdict] = {}
    for part in parts(folder):
        for values in pq.read_table(part, columns=columns).to_pylist():
            key = str(values.pop(name))
            verdict = Verdict.from_row(values)
            known = found.get(key, verdict)
            newer = verdict.attempt > known.attempt
            found[key] = verdict if newer else min(known, verdict, key=_rank)
    return found


def compact(folder: Path, record: type[Verdict]) -> None:
    """Rewrite many parts as few. The new ones are complete before an old one goes, and until then
    the same rows are merely there twice."""
    old = parts(folder)
    rows: list[Verdict] = read(folder, record)
    starts = range(0, len(rows), _ROWS_A_PART)
    new = {append(folder, rows[start : start + _ROWS_A_PART]) for start in starts}
    for part in old:
        if part not in new:
            part.unlink()


def parts(folder: Path) -> list[Path]:
    """The committed parts of a table, by name."""
    found = folder.glob("part-*.parquet*")
    return sorted(path for path in found if not is_temporary(path))


def key_of(folder: Path) -> str:
    """The name of a table's key column. Raises InputError if the folder is no table."""
    try:
        return str(json.loads((folder / _HEADER).read_text(encoding="utf-8"))["key"])
    except (FileNotFoundError, NotADirectoryError):
        raise InputError("table", str(folder), "a folder that a station has written") from None


@contextlib.contextmanager
def one_writer(folder: Path) -> Iterator[None]:
    """Hold a table for writing. Raises InputError at once if another process holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "_writer").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError("table", str(folder), "one that no other run is writing") from None
        yield


def _rank(row: Verdict) -> tuple[int, int, str]:
    """Smaller is newer, then better; the rest only makes the order total."""
    return (-row.attempt, ("ok", "rejected", "failed").index(row.status), repr(row))


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    """Nested mappings as one, with dotted names."""
    flat: dict[str, object] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
