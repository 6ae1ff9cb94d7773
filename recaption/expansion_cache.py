"""Expansions that were made before, in memory and, if asked for, in a folder.

FOLDER/ab/ab12….json   one a key, committed by renaming: several processes may share it
"""

import contextlib
import json
from pathlib import Path
from typing import Any

from openreel.pipeline.commit import write_text

FIELDS = {"text": str, "status": str, "attempts": int}


class ExpansionCache:
    """Fields of an expansion by the digest of everything that it depends on."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._known: dict[str, dict[str, Any]] = {}

    def get(self, key: str) -> dict[str, Any] | None:
        """What was put, or None; a file that cannot be read counts as none."""
        if key not in self._known and self.folder is not None:
            try:
                found = json.loads(self._path(self.folder, key).read_text(encoding="utf-8"))
            except (OSError, ValueError):
                return None
            fits = isinstance(found, dict) and found.keys() == FIELDS.keys()
            if not fits or not all(type(found[k]) is kind for k, kind in FIELDS.items()):
                return None
            self._known[key] = found
        return self._known.get(key)

    def put(self, key: str, fields: dict[str, Any]) -> None:
        """Remember; in memory alone where the folder cannot be written."""
        self._known[key] = fields
        if self.folder is not None:
            with contextlib.suppress(OSError):
                write_text(self._path(self.folder, key), json.dumps(fields))

    @staticmethod
    def _path(folder: Path, key: str) -> Path:
        return folder / key[:2] / f"{key}.json"
