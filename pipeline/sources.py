"""Listed files to the sources table: each with the digest of its bytes, equal bytes used once."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow.compute as pc

from openreel.pipeline import table
from openreel.pipeline.clip import Source
from openreel.pipeline.errors import InputError
from openreel.pipeline.remote import is_uri, remote_digest
from openreel.pipeline.stage import Stage


def sources_stage() -> Stage[Source, Source]:
    return Stage(
        name="sources",
        key="key",
        record=Source,
        fingerprint={},
        build=_build,
        rows_per_block=64,
        commit_block=True,
    )


def _build() -> Callable[[Source], Source]:
    return identify


def identify(source: Source) -> Source:
    """The source with the digest of its bytes; what the listing has rejected stays so."""
    if source.status != "ok":
        return source
    return replace(source, video_id=remote_digest(source.uri)[:32])


def check_unchanged(folder: Path, listed: Sequence[Source]) -> None:
    """Clips point into their sources, so that a changed file would change them in silence.

    Raises InputError for a source of an earlier run that has changed or has gone.
    """
    if not folder.exists():
        return
    known = table.view(folder, Source).having("ok")
    keys = {source.uri: source.key for source in listed}
    uris = known.column("uri").to_pylist()
    for uri, key in zip(uris, known.keys.to_pylist(), strict=True):
        gone = uri not in keys and not is_uri(uri) and not Path(uri).is_file()
        if gone or keys.get(uri, key) != key:
            accepted = "the file and captions that were curated, or a new dataset"
            raise InputError("input", uri, accepted)


def reject_duplicates(folder: Path) -> None:
    """Of sources with the same bytes the first by name is used, with the captions of all; the
    others say which it is."""
    known = table.view(folder, Source).having("ok")
    contents = known.column("video_id").combine_chunks()
    counts = pc.value_counts(contents)
    repeated = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    again = known.where(pc.is_in(contents, value_set=repeated))
    groups: dict[str, list[Source]] = {}
    for source in sorted(again.rows(), key=lambda source: source.uri):
        groups.setdefault(source.video_id, []).append(source)
    changed = [row for group in groups.values() for row in _settled(group)]
    if changed:
        table.append(folder, changed)
        table.compact(folder)


def _settled(group: Sequence[Source]) -> list[Source]:
    """The first of some equal files, and the others rejected."""
    first, *others = group
    texts = {json.dumps(vars(text)): text for source in group for text in source.texts}
    kept = replace(first, texts=tuple(texts.values()), attempt=first.attempt + 1)
    reason = f"duplicate of {first.uri}"
    return [
        kept,
        *(
            replace(other, status="rejected", reason=reason, attempt=other.attempt + 1)
            for other in others
        ),
    ]
