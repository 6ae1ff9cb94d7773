"""The second look at clips: what only a model, or the comparison with all others, can tell.

    ok clips -> scores of embeddings, if there are any -> duplicates -> verdicts

A clip's row is replaced by one of a higher attempt that names what was found; its scores stay.
"""

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from openreel.pipeline import table
from openreel.pipeline.clip import Clip, digest
from openreel.pipeline.commit import temporary, write_text
from openreel.pipeline.duplicates import DuplicateConfig, Item, find_duplicates
from openreel.pipeline.embedding import Embedding
from openreel.pipeline.judge import FilterConfig, judge
from openreel.pipeline.runs import version
from openreel.pipeline.view import View

STAGE = "duplicates"
_MARK = "_settled.json"
_CHUNK = 4096
"""clips in memory at a time"""


def settle(
    clips: Path, embeddings: Path | None, config: DuplicateConfig, filters: FilterConfig
) -> None:
    """Judge the usable clips of a table once more; of duplicates the best is kept.

    Does nothing where nothing has changed since the last time.
    """
    asked = dataclasses.asdict(config) | {"model": embeddings is not None}
    mark = clips / _MARK
    with table.one_writer(clips):
        usable = table.view(clips, Clip).having("ok")
        if mark.exists() and json.loads(mark.read_text("utf-8")) == _mark(usable, asked):
            return
        if embeddings is not None:
            _add_scores(clips, usable, embeddings, filters)
            usable = table.view(clips, Clip).having("ok")
        _reject_duplicates(clips, usable, embeddings, config)
        table.compact(clips)
        write_text(mark, json.dumps(_mark(table.view(clips, Clip).having("ok"), asked)))


def _mark(usable: View[Clip], asked: dict[str, object]) -> dict[str, object]:
    return asked | {"clips": digest(*sorted(usable.keys.to_pylist()))}


def _add_scores(clips: Path, usable: View[Clip], embeddings: Path, filters: FilterConfig) -> None:
    """The embeddings' scores into the clips' rows, and the filters' verdict on them."""
    found = table.view(embeddings, Embedding).having("ok")
    given = [found.column(name).to_pylist() for name in ("aesthetic", "semantic")]
    scores = dict(zip(found.keys.to_pylist(), zip(*given, strict=True), strict=True))
    for start in range(0, len(usable), _CHUNK):
        scored = []
        for clip in usable.rows(range(start, min(start + _CHUNK, len(usable)))):
            aesthetic, semantic = scores.get(clip.clip_id, (None, None))
            if (aesthetic, semantic) != (clip.aesthetic, clip.semantic):
                scored.append(judge(replace(clip, aesthetic=aesthetic, semantic=semantic), filters))
        _append(clips, scored)


def _reject_duplicates(
    clips: Path, usable: View[Clip], embeddings: Path | None, config: DuplicateConfig
) -> None:
    with _scratch(clips) as scratch:
        found = find_duplicates(_items(usable, embeddings), scratch, config)
    gone = pa.array(list(found), pa.string())
    places = pc.index_in(gone, value_set=usable.keys.combine_chunks()).to_pylist()
    for start in range(0, len(places), _CHUNK):
        rejected = []
        for clip in usable.rows(places[start : start + _CHUNK]):
            duplicate = found[clip.clip_id]
            how = "looks like" if duplicate.semantic else "duplicate of"
            reason = f"{how} {duplicate.kept} (distance {duplicate.distance:.3g})"
            named = replace(clip, stage=STAGE, reason=reason, duplicate_of=duplicate.kept)
            rejected.append(replace(named, status="rejected"))
        _append(clips, rejected)


def _items(usable: View[Clip], embeddings: Path | None) -> Iterator[Item]:
    """What is compared, some clips in memory at a time. The larger and the longer one stays."""
    names = ("clip_id", "video_id", "kind", "width", "height", "num_frames", "phashes")
    columns = [usable.column(name) for name in names]
    vectors = _Vectors(embeddings)
    for start in range(0, len(usable), _CHUNK):
        values = [column.slice(start, _CHUNK).to_pylist() for column in columns]
        found = vectors.of(values[0])
        for row, vector in zip(zip(*values, strict=True), found, strict=True):
            key, video, kind, width, height, num_frames, phashes = row
            yield Item(
                clip_id=key,
                source=video,
                kind=kind,
                phashes=tuple(phashes),
                rank=(-width * height, -num_frames, key),
                vector=vector,
            )


class _Vectors:
    """Embeddings by clip; none where there is no model."""

    def __init__(self, folder: Path | None) -> None:
        self.view = None if folder is None else table.view(folder, Embedding).having("ok")

    def of(self, keys: Sequence[str]) -> list[tuple[float, ...] | None]:
        if self.view is None:
            return [None] * len(keys)
        known = self.view.keys.combine_chunks()
        places = pc.index_in(pa.array(keys, pa.string()), value_set=known).to_pylist()
        rows = iter(self.view.rows([place for place in places if place is not None]))
        return [None if place is None else next(rows).vector for place in places]


def _append(clips: Path, rows: Sequence[Clip]) -> None:
    if rows:
        again = [replace(row, attempt=row.attempt + 1, version=version()) for row in rows]
        table.append(clips, again)


@contextlib.contextmanager
def _scratch(clips: Path) -> Iterator[Path]:
    """A folder for what does not fit into memory."""
    folder = temporary(clips.parent / "duplicates")
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
