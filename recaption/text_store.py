"""Embedded texts on disk: many a shard, each verified when it is read.

    DATASET/text/<encoder's identity>-<dtype>/
      _stage.json, part-….parquet    the index: a row a shard, with the ids and lengths of its texts
      shards/<two digits>/<SHA-256 of the file>.safetensors

A shard's one tensor "features" holds its texts one behind the other, without padding.

    N tokens of a shard   L tokens of one text   D width
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from openreel.pipeline import table
from openreel.pipeline.clip import Verdict, digest
from openreel.pipeline.commit import write_by_content
from openreel.pipeline.errors import MediaError

Dtype = Literal["float32", "float16"]
Features = npt.NDArray[np.float32]

TENSOR = "features"
_CACHE_MIB = 512


@dataclass(frozen=True, kw_only=True)
class TextShard(Verdict):
    """One row of the index: where some texts' features lie."""

    shard_id: str
    """digest of the ids of the texts that it was to hold"""
    text_ids: tuple[str, ...]
    """digests of the texts, in the order of the file"""
    lengths: tuple[int, ...] = ()
    """tokens of each text"""
    checks: tuple[str, ...] = ()
    """32 digits of the SHA-256 of each text's bytes in the file"""
    uri: str = ""
    """the file, relative to the index's folder"""
    sha256: str = ""


def text_id(text: str) -> str:
    """What a text is found by."""
    return digest("text", text)


def store_folder(root: Path, identity: str, dtype: Dtype) -> Path:
    """Where the features of an encoder lie under a dataset's folder "text"."""
    return root / f"{identity.replace(':', '-')}-{dtype}"


def write_shard(
    folder: Path, shard_id: str, text_ids: Sequence[str], features: Sequence[Features], dtype: Dtype
) -> TextShard:
    """Write features (L, D) of some texts to a file named by its content, verified before it has
    that name. Raises ValueError for features that are not finite in dtype."""
    if not all(storable(f, dtype) for f in features):
        raise ValueError(f"features: got values that are not finite in {dtype}; accepted: finite")
    stored = [np.ascontiguousarray(f, dtype=dtype) for f in features]
    content = safetensors.numpy.save({TENSOR: np.concatenate(stored)})
    uri, name = write_by_content(folder, "shards", content, ".safetensors")
    return TextShard(
        shard_id=shard_id,
        text_ids=tuple(text_ids),
        lengths=tuple(len(f) for f in stored),
        checks=tuple(_check(f) for f in stored),
        uri=uri,
        sha256=name,
    )


def storable(features: Features, dtype: Dtype) -> bool:
    """Whether features are finite, and within the range of dtype."""
    return bool(np.isfinite(features).all() and np.abs(features).max() <= np.finfo(dtype).max)


def _check(features: npt.NDArray[Any]) -> str:
    return hashlib.sha256(features.tobytes()).hexdigest()[:32]


class TextStore:
    """The embedded texts of one encoder, found by their text."""

    def __init__(self, folder: Path, dtype: Dtype) -> None:
        """Reads the index alone. A folder that is no table yet holds no text."""
        self.folder, self.dtype = folder, dtype
        begun = (folder / table.HEADER).exists()
        self.rows = table.read(folder, TextShard) if begun else []
        self._places = {
            text: (number, place)
            for number, row in enumerate(self.rows)
            if row.status == "ok"
            for place, text in enumerate(row.text_ids)
        }
        self.failed = {
            text: row.reason
            for row in self.rows
            if row.status != "ok"
            for text in row.text_ids
            if text not in self._places
        }
        """ids of the texts that could not be embedded, and why"""

    def __contains__(self, text: str) -> bool:
        return text_id(text) in self._places

    def __len__(self) -> int:
        return len(self._places)

    def missing(self, wanted: Mapping[str, str]) -> list[str]:
        """Of some texts by their ids, those that nobody has tried to embed."""
        return [t for i, t in wanted.items() if i not in self._places and i not in self.failed]

    def read(self, text: str) -> Features:
        """(L, D) of a text that is in the store; only its own bytes are read.

        Raises MediaError when the file is missing or the bytes are not those that were written.
        """
        number, place = self._places[text_id(text)]
        row = self.rows[number]
        start = sum(row.lengths[:place])
        path = self.folder / row.uri
        mend = f"remove {self.folder} and run `openreel embed` again"
        try:
            with safe_open(path, framework="numpy") as file:
                found = file.get_slice(TENSOR)[start : start + row.lengths[place]]
        except (OSError, SafetensorError) as error:
            cause = " ".join(str(error).split())
            raise MediaError(f"{path}: cannot be read ({cause}); {mend}") from error
        if _check(found) != row.checks[place]:
            raise MediaError(f"{path}: text {place} is not what was written; {mend}")
        features: Features = found.astype(np.float32)
        return features


class FeatureReader:
    """Features of any text: read where they are stored, else encoded; counts both."""

    def __init__(
        self,
        encode: Callable[[Sequence[str]], Sequence[Features]],
        store: TextStore | None = None,
        cache_mib: int = _CACHE_MIB,
    ) -> None:
        """encode: (L, D) of each of some texts. cache_mib: memory for what is encoded here."""
        self.encode, self.store = encode, store
        self.num_read = self.num_encoded = 0
        self._cache: dict[str, Features] = {}
        self._room = cache_mib * 2**20

    @property
    def dtype(self) -> Dtype:
        """That the features are rounded to."""
        return "float32" if self.store is None else self.store.dtype

    def __call__(self, text: str) -> Features:
        if self.store is not None and text in self.store:
            self.num_read += 1
            return self.store.read(text)
        if text in self._cache:
            return self._cache[text]
        self.num_encoded += 1
        (features,) = self.encode([text])
        if self.store is not None:
            # Rounded as those in the store are, so that it makes no difference which are there.
            features = features.astype(self.store.dtype).astype(np.float32)
        if features.nbytes <= self._room:
            self._cache[text] = features
            self._room -= features.nbytes
        return features
