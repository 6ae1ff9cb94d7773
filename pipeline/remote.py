"""Media in an object store: where a URI points, and its bytes as a local file.

A row's uri is a local path, or s3://bucket/key, gs://bucket/key with what is special written as
%23 and the like. Options of the store stand in the query and credentials in the environment
(AWS_*, GOOGLE_*), so that the row alone finds its object from any process of any node:

    s3://films/a.mp4?endpoint_override=http%3A%2F%2Fstore%3A9000&region=eu-north-1

Fetched objects lie in a folder that the processes of a node share, named by their content. Every
use holds a shared lock on the file, so that the least recently used one which nobody uses can be
told and removed.
"""

import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import os
import re
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, quote, unquote

from openreel.pipeline.clip import digest as digest_of
from openreel.pipeline.commit import committed_file, sha256
from openreel.pipeline.errors import InputError, MediaError

CACHE, CACHE_BYTES = "OPENREEL_CACHE", "OPENREEL_CACHE_BYTES"
"""environment: the folder of the cache, and how many bytes it may hold"""
DEFAULT_CACHE_BYTES = 16 << 30

_URI = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?:(?P<user>[^/?#]*)@)?(?P<host>[^/?#@]*)"
    r"(?P<path>/[^?#]*)?(?:\?(?P<query>[^#]*))?(?P<rest>#.*)?",
    re.IGNORECASE | re.DOTALL,
)
_SCHEMES = ("s3", "gs", "gcs")
_ACCEPTED = "a local path, s3://bucket/key, gs://bucket/key or file:///path"
_CHUNK_BYTES = 8 << 20


def is_uri(location: str) -> bool:
    """Whether a location names its scheme; else it is a local path."""
    return _URI.match(location) is not None


# ---- places -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Place:
    """An object, a prefix or a bucket of a store."""

    scheme: str
    bucket: str
    path: str
    """bucket/key, as it is; no slash at its end"""
    query: str = ""
    anonymous: bool = False

    @classmethod
    def of(cls, uri: str) -> Self:
        """Read a URI. An endpoint that the environment sets becomes part of the place, as other
        nodes may not have it set. Raises InputError for one that no store is known for."""
        parts = _parts(uri)
        scheme, bucket, user = parts["scheme"].lower(), parts["host"], parts["user"]
        anonymous = user == "anonymous" and scheme != "s3"
        if (user and not anonymous) or ":" in bucket:
            shown = f"{scheme}://..."  # a secret may hold a slash, and go on in the path
            raise InputError("input", shown, "a URI without credentials; the environment has them")
        if scheme not in _SCHEMES or not bucket:
            raise InputError("input", uri, _ACCEPTED)
        return cls(
            scheme=scheme,
            bucket=bucket,
            path=f"{bucket}/{unquote(parts['path']).strip('/')}".rstrip("/"),
            query=_with_endpoint(parts["query"]) if scheme == "s3" else parts["query"],
            anonymous=anonymous,
        )

    @property
    def root(self) -> str:
        """The store's URI, without the key."""
        user = "anonymous@" if self.anonymous else ""
        query = f"?{self.query}" if self.query else ""
        return f"{self.scheme}://{user}{self.bucket}/{query}"

    @property
    def uri(self) -> str:
        """The one way to write this place; Place.of of it is this place again."""
        start, mark, query = self.root.partition("?")
        return start + quote(self.path[len(self.bucket) + 1 :], safe="/~") + mark + query

    @property
    def openable(self) -> bool:
        """Stores take a//b and a/../b for names; their clients cannot ask for them."""
        return not {"", ".", ".."} & set(self.path.split("/"))

    def at(self, path: str) -> Self:
        """Another path, bucket/key, of the same bucket."""
        return dataclasses.replace(self, path=path)

    def filesystem(self) -> Any:
        """The pyarrow.fs.FileSystem that path is of. Raises InputError for unknown options, and
        OSError if the store does not answer."""
        return _filesystem(self.root, os.getpid())

    def info(self) -> Any:
        """The pyarrow.fs.FileInfo of path. Raises OSError if the store does not answer."""
        return self.filesystem().get_file_info(self.path)


def _parts(uri: str) -> dict[str, str]:
    found = _URI.fullmatch(uri)
    if found is None or found["rest"]:
        shown = uri if "@" not in uri else uri.partition(":")[0] + "://..."
        raise InputError("input", shown, f"{_ACCEPTED}, with # written as %23")
    return found.groupdict(default="")


def _with_endpoint(query: str) -> str:
    given = parse_qs(query)
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if "endpoint_override" in given or not endpoint:
        return query
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    settled = [query] if query else []
    settled.append(f"endpoint_override={quote(endpoint, safe='')}")
    if region and "region" not in given:
        settled.append(f"region={quote(region, safe='')}")
    return "&".join(settled)


@functools.cache
def _filesystem(root: str, process: int) -> Any:
    # By process: a client's threads and connections do not survive a fork.
    import pyarrow as pa
    from pyarrow.fs import FileSystem

    try:
        return FileSystem.from_uri(root)[0]
    except pa.ArrowInvalid as error:
        raise InputError("input", root, f"a URI that can be opened ({error})") from error


def local_path(uri: str) -> str:
    """The path of a file:/// URI. Raises InputError for another host, or a # or ? as it is."""
    parts = _parts(uri)
    path = unquote(parts["path"], errors="surrogateescape")
    if parts["host"] not in ("", "localhost") or parts["user"] or "?" in uri or not path:
        raise InputError("input", uri, "file:///path, with # written as %23 and ? as %3F")
    return path


# ---- bytes ------------------------------------------------------------------------------------


def remote_digest(uri: str) -> str:
    """Hexadecimal SHA-256 of the bytes, streamed and not stored; of a local path too.

    Raises MediaError if there is no such object, and OSError if the store does not answer.
    """
    if not is_uri(uri):
        return sha256(Path(uri))
    found = hashlib.sha256()
    with _opened(Place.of(uri)) as file:
        for chunk in _chunks(file):
            found.update(chunk)
    return found.hexdigest()


@contextlib.contextmanager
def local_copy(uri: str, digest: str = "") -> Iterator[Path]:
    """A local file with a uri's bytes, for the length of the block. A local path is itself.

    digest: the first digits of the SHA-256 that the object must have. Given it, a cached copy is
    used without asking the store; without it, the store is asked whether the copy is still good.
    Raises MediaError if the object is missing or has changed, OSError if the store does not
    answer or the disk is full.
    """
    if not is_uri(uri):
        yield Path(uri)
        return
    place = Place.of(uri)
    suffix = re.search(r"\.[A-Za-z0-9]{1,8}$", place.path)
    name = digest or _version(place)
    cached = _cache_folder() / f"{name}{suffix[0] if suffix else ''}"
    while True:
        with _held(cached, fcntl.LOCK_SH) as here:
            if here:
                os.utime(cached, ns=(time.time_ns(),) * 2)  # finer than the kernel's own clock
                yield cached
                return
        _fetch(place, cached, digest)


def _version(place: Place) -> str:
    info = place.info() if place.openable else None
    if info is None or not info.is_file:
        raise MediaError(f"there is no object {place.uri}")
    return digest_of(place.uri, info.size, info.mtime_ns)


@contextlib.contextmanager
def _opened(place: Place) -> Iterator[Any]:
    """The object as a pyarrow.NativeFile, which reads by ranges and retries each."""
    import pyarrow as pa

    try:
        file = place.filesystem().open_input_file(place.path)
    except (FileNotFoundError, IsADirectoryError, pa.ArrowInvalid) as error:
        raise MediaError(f"there is no object {place.uri}") from error
    with file:
        yield file


def _chunks(file: Any) -> Iterator[bytes]:
    missing = file.size()
    while chunk := file.read(_CHUNK_BYTES):
        missing -= len(chunk)
        yield chunk
    if missing:
        raise OSError(f"an object ended {missing} bytes early")


def _fetch(place: Place, cached: Path, digest: str) -> None:
    """Bring an object into the cache, unless another process does so first."""
    lock = cached.with_name(f"{cached.name}.lock")
    with _held(lock, fcntl.LOCK_EX, os.O_CREAT) as mine, contextlib.ExitStack() as reserved:
        if not mine or cached.exists():
            return
        reserved.callback(lock.unlink)
        with _opened(place) as remote, committed_file(cached) as scratch:
            _reserve(scratch, remote.size(), reserved)
            found = hashlib.sha256()
            with scratch.open("r+b") as file:
                for chunk in _chunks(remote):
                    found.update(chunk)
                    file.write(chunk)
            if not found.hexdigest().startswith(digest):
                raise MediaError(f"{place.uri} has changed: it is {found.hexdigest()[:32]} now")


# ---- the cache --------------------------------------------------------------------------------


def _cache_folder() -> Path:
    """In a folder of its own below the one that is set: whatever lies there may be removed."""
    given = os.environ.get(CACHE)
    mine = Path(tempfile.gettempdir()) / f"openreel-cache-{os.getuid()}"
    folder = (Path(given) if given else mine) / "media"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not given:
        mine.chmod(0o700)  # refused, if another user made it first
    return folder


def _limit() -> int:
    given = os.environ.get(CACHE_BYTES, str(DEFAULT_CACHE_BYTES))
    if not given.isdecimal():
        raise InputError(CACHE_BYTES, given, "a number of bytes")
    return int(given)


@contextlib.contextmanager
def _held(path: Path, kind: int, flags: int = 0) -> Iterator[bool]:
    """Lock a file. False: it does not exist, or was removed while we waited, or is in use."""
    with contextlib.ExitStack() as closing:
        held = False
        with contextlib.suppress(FileNotFoundError, BlockingIOError):
            descriptor = os.open(path, os.O_RDONLY | flags, 0o600)
            closing.callback(os.close, descriptor)
            fcntl.flock(descriptor, kind)
            held = os.fstat(descriptor).st_nlink > 0
        yield held


def _reserve(scratch: Path, num_bytes: int, reserved: contextlib.ExitStack) -> None:
    """Make room in the cache and take it, with a file of that length which is locked."""
    lock = scratch.with_name("lock")
    with _held(lock, fcntl.LOCK_EX, os.O_CREAT):
        # It notes at least how many bytes lie here, so that few fetches have to look at them all.
        noted = lock.read_text()
        total = int(noted) if noted.isdecimal() else None
        if total is None or total + num_bytes > _limit():
            total = _make_room(scratch.parent, num_bytes)
        lock.write_text(str(total + num_bytes))
        with scratch.open("wb") as file:
            file.truncate(num_bytes)
        reserved.enter_context(_held(scratch, fcntl.LOCK_EX))


def _make_room(folder: Path, num_bytes: int) -> int:
    """Remove what was not used for longest, if there is too much; how many bytes are left."""
    files = []
    for entry in os.scandir(folder):
        with contextlib.suppress(FileNotFoundError):  # renamed or removed since
            files.append((entry.stat(), entry.path))
    total, limit = sum(stat.st_size for stat, _ in files), _limit()
    if total + num_bytes <= limit:
        return total
    for stat, path in sorted(files, key=lambda file: file[0].st_mtime_ns):
        if total + num_bytes <= 0.9 * limit:  # some more, as looking at all is dear
            break
        # What is in use, being written, or the lock that we hold, is held and so stays.
        with _held(Path(path), fcntl.LOCK_EX | fcntl.LOCK_NB) as unused:
            if unused:
                os.unlink(path)
                total -= stat.st_size
    return total
