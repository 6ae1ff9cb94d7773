"""What lies where a user points: folders, files, manifests and object stores.

    a folder or a prefix     its media files, in all folders below
    a media file             that file
    a manifest               the files that it names; see openreel.pipeline.manifest
    s3://, gs://, file://    each of these by URI; see openreel.pipeline.remote

A folder may hold a captions.jsonl with lines such as
    {"file": "a.mp4", "kind": "short", "text": "a red ball", "start_s": 0.0, "end_s": 1.2}
where kind is original, short or dense, and the span is optional.
"""

import contextlib
import errno
import functools
import itertools
import os
import posixpath
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from openreel.pipeline.clip import Source, TimedText, digest
from openreel.pipeline.errors import InputError, MediaError
from openreel.pipeline.manifest import (
    Entry,
    is_manifest,
    joined,
    json_lines,
    read_manifest,
    timed_text,
)
from openreel.pipeline.probe import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from openreel.pipeline.remote import Place, is_uri, local_copy, local_path

CAPTIONS = "captions.jsonl"
MISSING = "the manifest names it, but it does not exist"
_SUFFIXES = IMAGE_SUFFIXES | VIDEO_SUFFIXES
_CAPTION_LINE = (
    '{"file": ..., "kind": "original|short|dense", "text": ..., "start_s": ..., "end_s": ...}'
)
_Texts = dict[str, tuple[TimedText, ...]]
"""file name -> its captions"""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The media files, by uri, and how many files of other kinds were passed over."""

    sources: tuple[Source, ...]
    """those that cannot be used for certain are rejected, with the reason, and have no video_id"""
    others: dict[str, int]
    """suffix -> number of files that are no media by their name"""


class _Found(NamedTuple):
    """A file on the way to its Source; small, as there may be millions."""

    uri: str
    num_bytes: int = 0
    mtime_ns: int = 0
    texts: tuple[TimedText, ...] = ()
    licence: str = ""
    origin: str = ""
    reason: str = ""
    """why it cannot be used"""


def list_sources(inputs: Sequence[str | Path]) -> Listing:
    """List folders, files, manifests and URIs; a file that several of them name is one source.

    Raises InputError, in one line, for what does not exist or may not be read, for captions and
    manifests that cannot be read, for a store that does not answer, and where there is no medium.
    """
    found: dict[str, _Found] = {}
    others: Counter[str] = Counter()
    for given in inputs:
        files = _at_uri(str(given), others) if is_uri(str(given)) else _at_path(given, others)
        for file in files:
            known = found.get(file.uri)
            found[file.uri] = file if known is None else _merged(known, file)
    if not found:
        named = ", ".join(map(str, inputs)) or "nothing"
        raise InputError("input", named, f"media files ({' '.join(sorted(_SUFFIXES))})")
    # Popped, so that the files and their sources are not all held at once.
    sources = tuple(_source(found.pop(uri)) for uri in sorted(found))
    return Listing(sources=sources, others=dict(others))


def _merged(one: _Found, other: _Found) -> _Found:
    return one._replace(
        texts=tuple(dict.fromkeys(one.texts + other.texts)),
        licence=joined([one.licence, other.licence]),
        origin=joined([one.origin, other.origin]),
    )


def _source(file: _Found) -> Source:
    # What is said of a file is part of the key: a changed file and changed words are noticed alike.
    return Source(
        key=digest(*file[:6]),
        uri=file.uri,
        num_bytes=file.num_bytes,
        texts=file.texts,
        licence=file.licence,
        origin=file.origin,
        status="rejected" if file.reason else "ok",
        stage="sources" if file.reason else "",
        reason=file.reason,
    )


def _is_medium(name: str, others: Counter[str]) -> bool:
    """By its name; what is none is counted."""
    suffix = os.path.splitext(name)[1].lower()
    if suffix in _SUFFIXES:
        return True
    if name != CAPTIONS:
        others[suffix.encode(errors="backslashreplace").decode() or "(none)"] += 1
    return False


def _captions(path: Path, name: str) -> _Texts:
    """A captions.jsonl, in the order of its lines."""
    texts: _Texts = {}
    for where, fields in json_lines(path, name):
        bounds = {key: fields.get(key) for key in ("start_s", "end_s")}
        file, unknown = fields.get("file"), set(fields) - {"file", "kind", "text", *bounds}
        if not isinstance(file, str) or unknown:
            raise InputError(where, str(fields)[:100], _CAPTION_LINE)
        text = timed_text(where, fields.get("kind"), fields.get("text"), **bounds)
        texts[file] = (*texts.get(file, ()), text)
    return texts


# ---- this machine -----------------------------------------------------------------------------


def _at_path(path: str | Path, others: Counter[str]) -> Iterator[_Found]:
    text = os.path.abspath(path)
    try:
        mode = os.stat(text).st_mode
    except OSError as error:
        accepted = f"a folder or a media file or a manifest that exists ({error.strerror})"
        raise InputError("input", str(path), accepted) from error
    folder, name = os.path.split(text)
    if stat.S_ISDIR(mode):
        yield from _in_folder(text, others)
    elif is_manifest(name):
        yield from _in_manifest(Path(text), text, folder, None)
    elif _is_medium(name, others):
        texts = _folder_captions(folder).get(name, ())
        yield _local(os.path.realpath(text), texts=texts)


def _in_folder(top: str, others: Counter[str]) -> Iterator[_Found]:
    """Media below a folder. Links to folders are followed, and each folder is read once."""
    waiting, seen = [os.path.realpath(top)], set[tuple[int, int]]()
    while waiting:
        folder = waiting.pop()
        try:
            known = os.stat(folder)
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            accepted = f"a folder that can be read ({error.strerror})"
            raise InputError("input", folder, accepted) from error
        if (known.st_dev, known.st_ino) in seen:
            continue
        seen.add((known.st_dev, known.st_ino))
        texts = _folder_captions(folder) if any(e.name == CAPTIONS for e in entries) else {}
        for entry in entries:
            if _is_folder(entry):
                waiting.append(os.path.realpath(entry.path) if entry.is_symlink() else entry.path)
            elif _is_medium(entry.name, others):
                path = os.path.realpath(entry.path) if entry.is_symlink() else entry.path
                yield _local(path, texts=texts.get(entry.name, ()))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle, or one that leads where we may not look
        return False


def _folder_captions(folder: str) -> _Texts:
    path = Path(folder, CAPTIONS)
    return _captions(path, str(path)) if path.is_file() else {}


def _local(
    path: str,
    *,
    texts: tuple[TimedText, ...] = (),
    licence: str = "",
    origin: str = "",
    missing: str = "a link to a file that does not exist",
) -> _Found:
    """The file at a resolved path."""
    num_bytes = mtime_ns = 0
    reason = ""
    try:
        status = os.stat(path)
    except OSError as error:
        if error.errno == errno.EACCES:
            accepted = f"a folder that can be read ({error.strerror})"
            raise InputError("input", os.path.dirname(path), accepted) from error
        gone = error.errno in (errno.ENOENT, errno.ENOTDIR)
        reason = missing if gone else f"it cannot be opened: {error.strerror}"
    else:
        num_bytes, mtime_ns = status.st_size, status.st_mtime_ns
        if not stat.S_ISREG(status.st_mode):
            reason = "it is not a file with content, but a folder, a device or the like"
    if not path.isascii():
        try:
            path.encode()
        except UnicodeEncodeError:  # such a name fits into no table
            path = os.fsencode(path).decode("utf-8", "backslashreplace")
            reason = "its name is not valid UTF-8; rename it"
    return _Found(path, num_bytes, mtime_ns, texts, licence, origin, reason)


# ---- object stores ----------------------------------------------------------------------------


def _at_uri(uri: str, others: Counter[str]) -> Iterator[_Found]:
    if uri.lower().startswith("file:"):
        return _at_path(local_path(uri), others)
    return _at_place(Place.of(uri), others)


def _at_place(place: Place, others: Counter[str]) -> Iterator[_Found]:
    from pyarrow.fs import FileSelector, FileType

    accepted = "a bucket, prefix, object or manifest that exists"
    if not place.openable:
        raise InputError("input", place.uri, accepted)
    (info,) = _infos(place, [place.path])
    if info.type == FileType.NotFound:
        raise InputError("input", place.uri, accepted)
    folder, name = posixpath.split(place.path)
    if info.type == FileType.Directory:
        files = [i for i in _infos(place, FileSelector(place.path, recursive=True)) if i.is_file]
    elif is_manifest(name):
        with _copied(place) as path:
            yield from _in_manifest(path, place.uri, folder, place)
        return
    else:
        files = [info, *(i for i in _infos(place, [f"{folder}/{CAPTIONS}"]) if i.is_file)]
    texts = {
        posixpath.dirname(file.path): _place_captions(place.at(file.path))
        for file in files
        if file.base_name == CAPTIONS and place.at(file.path).openable
    }
    for file in files:
        if _is_medium(file.base_name, others):
            about = texts.get(posixpath.dirname(file.path), {}).get(file.base_name, ())
            yield _object(place.at(file.path), file, texts=about)


def _place_captions(place: Place) -> _Texts:
    with _copied(place) as path:
        return _captions(path, place.uri)


@contextlib.contextmanager
def _copied(place: Place) -> Iterator[Path]:
    with contextlib.ExitStack() as held:
        try:
            path = held.enter_context(local_copy(place.uri))
        except (OSError, MediaError) as error:
            raise InputError("input", place.uri, f"a file that can be fetched ({error})") from error
        yield path


def _infos(place: Place, paths: Any) -> Any:
    """FileInfos of paths or of a FileSelector."""
    try:
        return place.filesystem().get_file_info(paths)
    except OSError as error:
        accepted = f"a store that answers ({' '.join(str(error).split())[:300]})"
        raise InputError("input", place.uri, accepted) from error


def _object(
    place: Place,
    info: Any,
    *,
    texts: tuple[TimedText, ...] = (),
    licence: str = "",
    origin: str = "",
) -> _Found:
    reason = ""
    if not place.openable:
        reason = "a part of its name is empty, . or .., which cannot be asked for; rename it"
    elif not info.is_file:
        reason = MISSING
    size, mtime_ns = (info.size, info.mtime_ns) if info is not None and info.is_file else (0, 0)
    return _Found(place.uri, size, mtime_ns, texts, licence, origin, reason)


# ---- manifests --------------------------------------------------------------------------------

_TOGETHER = 1000
"""objects that are asked for in one call, which asks for several at a time"""


def _in_manifest(path: Path, name: str, folder: str, place: Place | None) -> Iterator[_Found]:
    """The files of a manifest at path, called name. It lies in folder: of place, or local."""
    if os.path.basename(name) == CAPTIONS:
        accepted = "the folder that it lies in, or a manifest of another name"
        raise InputError("input", name, accepted)
    real = functools.cache(os.path.realpath)  # of folders: few, and dear
    remote: dict[str, list[tuple[Place, Entry]]] = {}
    for entry in read_manifest(path, name):
        where = _located(entry, folder, place)
        if isinstance(where, Place):
            remote.setdefault(where.root, []).append((where, entry))
            continue
        resolved = os.path.join(real(os.path.dirname(where)), os.path.basename(where))
        if os.path.islink(resolved):
            resolved = os.path.realpath(resolved)
        yield _local(
            resolved,
            texts=entry.texts,
            licence=entry.licence,
            origin=entry.origin,
            missing=MISSING,
        )
    for rows in remote.values():
        yield from _named_objects(rows)


def _located(entry: Entry, folder: str, place: Place | None) -> Place | str:
    """Where a row's file lies: a place, or an absolute local path."""
    location = entry.location
    try:
        if is_uri(location) and location.lower().startswith("file:"):
            return local_path(location)
        if is_uri(location):
            return Place.of(location)
    except InputError as error:
        raise InputError(entry.where, error.value, error.accepted) from error
    if place is None or os.path.isabs(location):
        return os.path.abspath(os.path.join(folder, location))
    path = posixpath.normpath(posixpath.join(folder, location))
    if not path.startswith(f"{place.bucket}/"):
        raise InputError(entry.where, location, "a location in the manifest's bucket, or a URI")
    return place.at(path)


def _named_objects(rows: Iterable[tuple[Place, Entry]]) -> Iterator[_Found]:
    left = iter(rows)
    while some := list(itertools.islice(left, _TOGETHER)):
        paths = [place.path for place, _ in some if place.openable]
        infos = dict(zip(paths, _infos(some[0][0], paths), strict=True)) if paths else {}
        for place, entry in some:
            yield _object(
                place,
                infos.get(place.path),
                texts=entry.texts,
                licence=entry.licence,
                origin=entry.origin,
            )
