"""What lies in the folders that a user names: media files, and the captions that came with them.

A folder may hold a captions.jsonl with lines such as
    {"file": "a.mp4", "kind": "short", "text": "a red ball", "start_s": 0.0, "end_s": 1.2}
where kind is original, short or dense, and the span is optional.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from openreel.pipeline.clip import Source, TimedText, digest
from openreel.pipeline.errors import InputError
from openreel.pipeline.probe import IMAGE_SUFFIXES, VIDEO_SUFFIXES

CAPTIONS = "captions.jsonl"
_SUFFIXES = IMAGE_SUFFIXES | VIDEO_SUFFIXES


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The media files, by path, and how many files of other kinds were passed over."""

    sources: tuple[Source, ...]
    others: dict[str, int]
    """suffix -> number of files that are no media by their name"""


def list_sources(inputs: Sequence[Path]) -> Listing:
    """List files and folders (with all folders below). Raises InputError, in one line, for a path
    that does not exist, for captions that cannot be read and where there is no medium at all."""
    found: dict[Path, Source] = {}
    others: Counter[str] = Counter()
    for path in inputs:
        if not path.exists():
            raise InputError("input", str(path), "a folder or a media file that exists")
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        texts = {folder: _captions(folder / CAPTIONS) for folder in {f.parent for f in files}}
        for file in files:
            if file.suffix.lower() in _SUFFIXES:
                about = texts[file.parent].get(file.name, ())
                found[file.resolve()] = _source(file.resolve(), about)
            elif file.name != CAPTIONS:
                others[file.suffix.lower() or "(none)"] += 1
    if not found:
        named = ", ".join(str(path) for path in inputs) or "nothing"
        raise InputError("input", named, f"media files ({' '.join(sorted(_SUFFIXES))})")
    return Listing(sources=tuple(found[p] for p in sorted(found)), others=dict(others))


def _source(path: Path, texts: tuple[TimedText, ...]) -> Source:
    stat = path.stat()
    # Captions are part of the key: a changed file and changed captions are noticed alike.
    return Source(
        key=digest(path, stat.st_size, stat.st_mtime_ns, *texts),
        uri=str(path),
        num_bytes=stat.st_size,
        texts=texts,
    )


def _captions(path: Path) -> dict[str, tuple[TimedText, ...]]:
    """File name -> its texts, in the order of the lines."""
    if not path.is_file():
        return {}
    texts: dict[str, tuple[TimedText, ...]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
            name = str(fields.pop("file"))
            text = TimedText(**fields)
        except (ValueError, KeyError, TypeError, AttributeError):
            text = None
        if text is None or text.kind not in ("original", "short", "dense"):
            raise InputError(
                f"{path}, line {number}",
                line[:100],
                '{"file": ..., "kind": "original|short|dense", "text": ..., "start_s": ..., '
                '"end_s": ...}',
            )
        texts[name] = (*texts.get(name, ()), text)
    return texts
