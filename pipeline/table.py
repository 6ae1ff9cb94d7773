"""A table is a folder of Parquet parts; each part is written whole or not at all.

    videos/
      _stage.json                 who writes it: stage, key column, config fingerprint
      part-1f0c….parquet          some rows; the name is the digest of the content
      part-a97b….parquet

Rows are never changed in place. A row with the key of another and a higher attempt replaces it when
the table is read; equal rows are one row. Of one attempt that was made twice, because its worker
was taken for lost and wrote all the same, the better verdict stands. Two that are both ok are two
results of the same work, as keys come from content and a table has one fingerprint: rounding may
differ, and what a server says. Either is right, and all readers take the same one.
"""

import contextlib
import fcntl
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from openreel.pipeline.clip import Verdict
from openreel.pipeline.commit import committed_file, is_temporary, write_text
from openreel.pipeline.errors import InputError
from openreel.pipeline.view import R, View

HEADER = "_stage.json"
"""in a table's folder: who writes it, and with what settings"""
_PART_BYTES = 64 << 20
"""a part that is at least this large is not merged again"""
_GROUP_BYTES = 8 << 20
"""of memory, that a row group takes"""


def create(folder: Path, *, stage: str, key: str, fingerprint: Mapping[str, object]) -> None:
    """Begin a table, or go on with one that the same stage wrote with the same fingerprint.

    Raises InputError, with what differs on both sides, if the fingerprint is another one.
    """
    header = json.loads(json.dumps({"stage": stage, "key": key, "fingerprint": dict(fingerprint)}))
    path = folder / HEADER
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
    return _write(folder, pa.Table.from_pylist([r.to_row() for r in rows], schema=rows[0].schema()))


def _write(folder: Path, rows: pa.Table) -> Path:
    content = io.BytesIO()
    # Small row groups: a reader that wants a few rows does not hold thousands of long ones.
    group = max(1, rows.num_rows * _GROUP_BYTES // max(rows.nbytes, 1))
    pq.write_table(rows, content, compression="zstd", row_group_size=group)
    name = hashlib.sha256(content.getbuffer()).hexdigest()[:32]
    path = folder / f"part-{name}.parquet"
    if not path.exists():
        with committed_file(path) as scratch:
            scratch.write_bytes(content.getbuffer())
    return path


def view(folder: Path, record: type[R]) -> View[R]:
    """The table's rows, read when they are asked for. Raises as View does, and InputError if the
    folder is no table."""
    return View(parts(folder), key_of(folder), record)


def read(folder: Path, record: type[R]) -> list[R]:
    """The rows of a table, in the order of their keys, each key once. Raises as view does."""
    found = view(folder, record)
    return found.rows(pc.sort_indices(found.keys).to_numpy())


def usable(folder: Path, record: type[R]) -> list[R]:
    """The rows with status ok: what the next station works on."""
    return [row for row in read(folder, record) if row.status == "ok"]


def compact(folder: Path) -> None:
    """Merge small parts into larger ones. The new ones are complete before an old one goes, and
    until then the same rows are merely there twice."""
    group: list[Path] = []
    for path in parts(folder):
        if path.stat().st_size < _PART_BYTES:
            group.append(path)
            if sum(p.stat().st_size for p in group) >= _PART_BYTES:
                _merge(folder, group)
                group = []
    _merge(folder, group)


def _merge(folder: Path, group: Sequence[Path]) -> None:
    if len(group) < 2:
        return
    found = View(group, key_of(folder), Verdict)
    rows = pa.concat_tables(pq.read_table(path) for path in group)
    places = found.places()[pc.sort_indices(found.keys).to_numpy()]
    new = _write(folder, rows.take(pa.array(places)))
    for path in group:
        if path != new:
            path.unlink()


def parts(folder: Path) -> list[Path]:
    """The committed parts of a table, by name."""
    found = folder.glob("part-*.parquet*")
    return sorted(path for path in found if not is_temporary(path))


def key_of(folder: Path) -> str:
    """The name of a table's key column. Raises InputError if the folder is no table."""
    try:
        return str(json.loads((folder / HEADER).read_text(encoding="utf-8"))["key"])
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


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    """Nested mappings as one, with dotted names."""
    flat: dict[str, object] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
