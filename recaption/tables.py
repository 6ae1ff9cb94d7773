"""Where captions lie: a table for each captioner, beside those of others, never written over.

    DATASET/captions/
      0001-videococa-5d1c09aa/    the number tells the order in which captioners were first asked,
      0002-endpoint-70f3b1d4/     the digest what the captions depend on
      0003-videococa-5d1c09aa/    another take of the first

The same captioner with the same settings goes on in its newest table.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from openreel.pipeline import table
from openreel.pipeline.clip import digest
from openreel.pipeline.errors import InputError
from openreel.recaption.caption import ClipCaptions, merged

CAPTIONS = "captions"
_NAME = re.compile(r"(?P<number>\d{4,})-(?P<source>[a-z]+)-(?P<ident>[0-9a-f]{8})")


@dataclass(frozen=True, kw_only=True)
class Place:
    """A captioner's table, which need not be there yet."""

    folder: Path
    take: int
    """1, or more if the captioner was asked again"""


def place_of(
    dataset: Path, source: str, fingerprint: Mapping[str, object], *, again: bool = False
) -> Place:
    """Where the captions of a fingerprint go. again: into a table of their own, as a new take."""
    ident = digest(json.dumps(fingerprint, sort_keys=True, default=str))[:8]
    folders = _folders(dataset)
    own = [folder for folder in folders if folder.name.endswith(f"-{source}-{ident}")]
    if own and not again:
        return Place(folder=own[-1], take=len(own))
    number = _number(folders[-1]) + 1 if folders else 1
    name = f"{number:04d}-{source}-{ident}"
    return Place(folder=dataset / CAPTIONS / name, take=len(own) + 1)


def caption_tables(dataset: Path) -> list[Path]:
    """The tables of a dataset's captioners, oldest first."""
    return [folder for folder in _folders(dataset) if (folder / table.HEADER).is_file()]


def read_captions(dataset: Path) -> dict[str, ClipCaptions]:
    """Clip id -> what all captioners say of it, oldest first, after the texts that came with it.

    Of a row that failed, those captions that are there count. Raises InputError for a dataset that
    nobody has captioned.
    """
    tables = caption_tables(dataset)
    if not tables:
        accepted = "a dataset with captions; openreel recaption writes them"
        raise InputError("dataset", str(dataset), accepted)
    rows = (row for folder in tables for row in table.read(folder, ClipCaptions) if row.captions)
    return merged(rows)


def _folders(dataset: Path) -> list[Path]:
    found = [path for path in (dataset / CAPTIONS).glob("*-*-*") if _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: (_number(path), path.name))


def _number(folder: Path) -> int:
    return int(folder.name.partition("-")[0])
