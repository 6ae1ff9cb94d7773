"""Nothing half-written is ever seen: write under a temporary name, flush to disk, rename.

A crash leaves the old content or the new, never a mixture; what is left over has a name ending in
".tmp-<something>" and is ignored by every reader.
"""

import contextlib
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path


def temporary(path: Path) -> Path:
    """A fresh name beside path, so that the rename stays within one file system."""
    return path.with_name(f"{path.name}.tmp-{uuid.uuid4().hex[:8]}")


def is_temporary(path: Path) -> bool:
    return ".tmp-" in path.name


def fsync(path: Path) -> None:
    """Flush a file or a folder to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def committed_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write; on success it becomes path, on any error it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = temporary(path)
    try:
        yield scratch
        fsync(scratch)
        os.replace(scratch, path)
        fsync(path.parent)
    finally:
        scratch.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replace a text file atomically."""
    with committed_file(path) as scratch:
        scratch.write_text(text, encoding="utf-8")


def write_by_content(folder: Path, kind: str, content: bytes, suffix: str) -> tuple[str, str]:
    """Write content as folder/kind/<first two digits>/<its SHA-256><suffix>.

    It is verified before it has that name. Returns the path relative to folder, and the digest.
    Raises OSError if what was written reads back differently.
    """
    name = hashlib.sha256(content).hexdigest()
    uri = f"{kind}/{name[:2]}/{name}{suffix}"
    with committed_file(folder / uri) as scratch:
        scratch.write_bytes(content)
        if sha256(scratch) != name:
            raise OSError(f"{scratch}: what was written reads back differently")
    return uri, name


@contextlib.contextmanager
def committed_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder to fill; on success it becomes path, which must not exist before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = temporary(path)
    scratch.mkdir()
    try:
        yield scratch
        for child in sorted(scratch.rglob("*")):
            fsync(child)
        fsync(scratch)
        os.rename(scratch, path)
        fsync(path.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
