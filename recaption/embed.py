"""The embedding station: texts in, shards of their features out, each text once.

A row is a shard, so that a lost worker costs one; what a run leaves undone, the next takes up.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import get_args

from openreel.pipeline.clip import Row, Status, digest
from openreel.pipeline.errors import InputError
from openreel.pipeline.stage import Stage, run_stage
from openreel.recaption.text import TextEncoder, load_text_encoder, text_identity
from openreel.recaption.text_store import (
    Dtype,
    TextShard,
    TextStore,
    storable,
    store_folder,
    text_id,
    write_shard,
)


@dataclass(frozen=True, kw_only=True)
class EmbedConfig:
    """How features are stored, and how many texts share a file."""

    dtype: Dtype = "float32"
    """float16 halves the files; each has a folder of its own"""
    device: str = "cpu"
    shard_texts: int = 256
    shard_characters: int = 65_536
    """above which a shard ends; a longer text has one to itself"""

    def __post_init__(self) -> None:
        if self.dtype not in get_args(Dtype):
            raise InputError("dtype", self.dtype, ", ".join(get_args(Dtype)))
        for name in ("shard_texts", "shard_characters"):
            if getattr(self, name) < 1:
                raise InputError(name, getattr(self, name), "1 or more")


@dataclass(frozen=True, kw_only=True)
class TextBatch(Row):
    """The texts of one shard that is to be written."""

    texts: tuple[str, ...]

    @property
    def shard_id(self) -> str:
        return digest(*self.text_ids)

    @property
    def text_ids(self) -> tuple[str, ...]:
        return tuple(text_id(text) for text in self.texts)


def batched(texts: Iterable[str], config: EmbedConfig) -> list[TextBatch]:
    """Each text once, in shards of texts of like length, the longest first."""
    batches: list[list[str]] = []
    room = 0
    for text in sorted(set(texts), key=lambda t: (-len(t), t)):
        if not batches or len(text) > room or len(batches[-1]) == config.shard_texts:
            batches.append([])
            room = config.shard_characters
        batches[-1].append(text)
        room -= len(text)
    return [TextBatch(texts=tuple(batch)) for batch in batches]


def embed_stage(spec: str, folder: Path, config: EmbedConfig) -> Stage[TextBatch, TextShard]:
    """The station for an encoder's spec, which writes shards under folder."""
    return Stage(
        name="embed",
        key="shard_id",
        record=TextShard,
        fingerprint={"encoder": text_identity(spec), "dtype": config.dtype},
        build=partial(_build, spec, folder, config),
        holds_model=True,
        num_gpus=float(config.device.startswith("cuda")),
        rows_per_block=1,
    )


def _build(spec: str, folder: Path, config: EmbedConfig) -> Callable[[TextBatch], TextShard]:
    encoder = load_text_encoder(spec, device=config.device)
    return partial(embed_shard, encoder=encoder, folder=folder, dtype=config.dtype)


def embed_shard(batch: TextBatch, *, encoder: TextEncoder, folder: Path, dtype: Dtype) -> TextShard:
    """Embed and write. Texts that cannot be embedded are left out, unless all are: then the first
    one's error is raised, and the station records it."""
    ids, texts = batch.text_ids, batch.texts
    try:
        return write_shard(folder, batch.shard_id, ids, encoder.encode(texts), dtype)
    except OSError:
        raise  # the disk's fault, not a text's
    except Exception as error:
        good = [one for one in zip(ids, texts, strict=True) if _embeds(one[1], encoder, dtype)]
        if not good:
            raise error from None
    ids, texts = zip(*good, strict=True)
    return write_shard(folder, batch.shard_id, ids, encoder.encode(texts), dtype)


def _embeds(text: str, encoder: TextEncoder, dtype: Dtype) -> bool:
    try:
        (features,) = encoder.encode([text])
    except Exception:
        return False
    return storable(features, dtype)


def embed_texts(
    texts: Iterable[str],
    spec: str,
    root: Path,
    config: EmbedConfig,
    *,
    retry_failed: bool = False,
    on_texts: Callable[[int], None] | None = None,
) -> TextStore:
    """Embed those of some texts that are not under root yet, and return the store with all.

    retry_failed: also those that an earlier call could not embed, each alone. on_texts(number)
    hears of each finished shard. Raises InputError for a spec or a folder that is no encoder.
    """
    wanted = {text_id(text): text for text in texts}
    folder = store_folder(root, text_identity(spec), config.dtype)
    stage = embed_stage(spec, folder, config)
    store = TextStore(folder, config.dtype)
    again = [text for i, text in wanted.items() if i in store.failed] if retry_failed else []
    rows = batched(again, replace(config, shard_texts=1))
    # What a shard had to leave out is missing once more, and then is a row with the reason.
    while rows := rows + batched(store.missing(wanted), config):
        sizes = {row.shard_id: len(row.texts) for row in rows}

        def hear(key: str, status: Status, sizes: Mapping[str, int] = sizes) -> None:
            if on_texts is not None:
                on_texts(sizes[key])

        run_stage(stage, rows, folder, retry_failed=retry_failed, on_row=hear)
        store, rows = TextStore(folder, config.dtype), []
    return store
