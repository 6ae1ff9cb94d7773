"""Texts are embedded once each, survive interruption and faults, and are verified when read."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from openreel.pipeline import table
from openreel.pipeline.errors import InputError, MediaError
from openreel.recaption.embed import EmbedConfig, TextBatch, batched, embed_shard, embed_texts
from openreel.recaption.text import load_text_encoder, text_identity
from openreel.recaption.text_store import (
    FeatureReader,
    TextShard,
    TextStore,
    store_folder,
    text_id,
)
from tests.recaption.test_text import captioner_folder, t5_folder

WORDS = ["a", "red", "ball", "moves", "right", "across", "dark", "striped", "background"]
TEXTS = ["", *(" ".join(WORDS[i % 7 :][: 1 + i % 5]) + f" {WORDS[i % 9]}" * i for i in range(40))]
FEW = EmbedConfig(shard_texts=8)


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stations run here, row by row, into real tables: Ray takes seconds to start a worker."""

    def run(
        stage: Any,
        rows: Sequence[TextBatch],
        folder: Path,
        *,
        retry_failed: bool = False,
        on_row: Callable[[str, str], None],
    ) -> None:
        table.create(folder, stage=stage.name, key=stage.key, fingerprint=stage.fingerprint)
        attempts = {row.shard_id: (row.status, row.attempt) for row in shards(folder)}
        function = stage.build()
        for row in rows:
            status, attempt = attempts.get(row.shard_id, ("new", 0))
            if status == "new" or (status == "failed" and retry_failed):
                try:
                    out = function(row)
                except Exception as error:
                    failed: dict[str, Any] = {"status": "failed", "reason": str(error)}
                    out = TextShard(shard_id=row.shard_id, text_ids=row.text_ids, **failed)
                table.append(folder, [replace(out, attempt=attempt + 1)])
                on_row(row.shard_id, out.status)

    monkeypatch.setattr("openreel.recaption.embed.run_stage", run)


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"captioner:{captioner_folder(tmp_path_factory.mktemp('captioner'))}"


def shards(folder: Path) -> list[TextShard]:
    return table.read(folder, TextShard)


def written(store: TextStore) -> list[str]:
    """Ids of all texts of the store, as often as they are in a shard."""
    return sorted(i for row in shards(store.folder) if row.status == "ok" for i in row.text_ids)


def test_shards_hold_each_text_once_and_a_long_one_alone() -> None:
    long = "x" * 500
    texts = [*TEXTS, *TEXTS, long]
    rows = batched(texts, EmbedConfig(shard_texts=8, shard_characters=400))
    assert sorted(t for row in rows for t in row.texts) == sorted({*TEXTS, long})
    assert rows[0].texts == (long,)
    assert max(len(row.texts) for row in rows) == 8
    assert max(sum(map(len, row.texts)) for row in rows[1:]) <= 400
    assert rows == batched(texts[::-1], EmbedConfig(shard_texts=8, shard_characters=400))


def test_each_text_is_embedded_once_however_often_a_run_is_stopped(
    in_process: None, spec: str, tmp_path: Path
) -> None:
    stopped = 0
    for _ in range(20):
        heard: list[int] = []

        def hear(count: int, heard: list[int] = heard) -> None:
            heard.append(count)
            if len(heard) == 2:
                raise KeyboardInterrupt

        try:
            store = embed_texts(TEXTS, spec, tmp_path, FEW, on_texts=hear)
            break
        except KeyboardInterrupt:
            stopped += 1
    assert stopped >= 2, "the runs were not stopped half-way"
    assert written(store) == sorted({text_id(text) for text in TEXTS})
    encoder = load_text_encoder(spec)
    for text, features in zip(TEXTS, encoder.encode(TEXTS), strict=True):
        found = store.read(text)
        assert found.dtype == np.float32
        assert found.shape == features.shape
        np.testing.assert_allclose(found, features, atol=1e-5)
    before = {path: path.stat().st_mtime_ns for path in store.folder.rglob("*.safetensors")}
    again = embed_texts([*TEXTS, "a new text"], spec, tmp_path, FEW)
    after = {path: path.stat().st_mtime_ns for path in store.folder.rglob("*.safetensors")}
    assert before.items() <= after.items()
    assert len(after) == len(before) + 1, "the new text alone has a new file"
    assert len(again) == len(store) + 1 == len(written(again))


def test_another_encoder_and_another_dtype_have_folders_of_their_own(
    in_process: None, spec: str, tmp_path: Path
) -> None:
    t5 = tmp_path / "t5"
    t5.mkdir()
    other = f"t5:{t5_folder(t5, 't5')}"
    root, some = tmp_path / "text", TEXTS[:12]
    whole = embed_texts(some, spec, root, EmbedConfig())
    half = embed_texts(some, spec, root, EmbedConfig(dtype="float16"))
    third = embed_texts(some, other, root, EmbedConfig())
    assert len({whole.folder, half.folder, third.folder}) == 3
    assert whole.folder == store_folder(root, text_identity(spec), "float32")
    for text in some:
        assert np.array_equal(half.read(text), whole.read(text).astype(np.float16))
        assert third.read(text).shape[1] != whole.read(text).shape[1]
    sizes = [sum(f.stat().st_size for f in s.folder.rglob("*.safet*")) for s in (half, whole)]
    assert sizes[0] < 0.6 * sizes[1]


def test_a_text_that_cannot_be_embedded_is_on_record_and_takes_nobody_along(
    in_process: None, tmp_path: Path
) -> None:
    folder = tmp_path / "t5"
    folder.mkdir()
    spec = f"t5:{t5_folder(folder, 't5')}"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"zebra{i}" for i in range(32)])  # more than the model has vectors for
    tokenizer.save_pretrained(folder)
    bad = ["a red zebra31", "zebra30 moves"]
    texts, root = [*TEXTS, *bad], tmp_path / "text"
    store = embed_texts(texts, spec, root, FEW)
    assert sorted(store.failed) == sorted(map(text_id, bad))
    assert all("index out of range" in reason for reason in store.failed.values())
    assert written(store) == sorted({text_id(text) for text in TEXTS})
    rows = shards(store.folder)
    assert embed_texts(texts, spec, root, FEW).failed == store.failed
    assert shards(store.folder) == rows, "what has failed is not tried again unasked"
    retried = embed_texts(texts, spec, root, FEW, retry_failed=True)
    assert retried.failed == store.failed
    assert len(shards(store.folder)) == len(rows) + 2, "each was tried alone"


class Numbers:
    """An encoder of which a text is its own number, as often as it says; one cannot be stored."""

    identity, dim = "numbers:1", 3

    def encode(self, texts: Sequence[str]) -> list[Any]:
        found = [np.full((int(text), 3), float(text), np.float32) for text in texts]
        return [f * (np.float32("inf") if len(f) == 9 else 1) for f in found]

    def num_unknown(self, text: str) -> int:
        return 0


def store_of(folder: Path, texts: Sequence[str]) -> TextStore:
    """A store that one worker wrote."""
    table.create(folder, stage="embed", key="shard_id", fingerprint={})
    batch = TextBatch(texts=tuple(texts))
    row = embed_shard(batch, encoder=Numbers(), folder=folder, dtype="float32")
    table.append(folder, [row])
    return TextStore(folder, "float32")


def test_what_is_not_finite_is_not_stored(tmp_path: Path) -> None:
    store = store_of(tmp_path, ["1", "9", "2"])
    assert [text in store for text in ("1", "9", "2", "3")] == [True, False, True, False]
    with pytest.raises(ValueError, match="not finite"):
        store_of(tmp_path, ["9"])


def test_damage_is_found_when_the_damaged_text_is_read(tmp_path: Path) -> None:
    store = store_of(tmp_path, ["1", "2", "3"])
    (path,) = tmp_path.rglob("*.safetensors")
    content = bytearray(path.read_bytes())
    assert store.read("3").tolist() == [[3.0] * 3] * 3
    content[-1] ^= 1
    path.write_bytes(content)
    assert store.read("2").tolist() == [[2.0] * 3] * 2
    with pytest.raises(MediaError, match="text 2 is not what was written"):
        store.read("3")
    path.write_bytes(content[:40])
    with pytest.raises(MediaError, match="cannot be read"):
        store.read("1")
    path.unlink()
    with pytest.raises(MediaError, match="cannot be read"):
        store.read("1")


def test_the_reader_counts_and_rounds_what_is_missing_as_what_is_stored(tmp_path: Path) -> None:
    calls: list[str] = []

    def encode(texts: Sequence[str]) -> list[Any]:
        calls.extend(texts)
        return [np.full((1, 2), float(text) / 3, np.float32) for text in texts]

    stored = store_of(tmp_path, ["1", "2"])
    reader = FeatureReader(encode, stored)
    assert [reader(t).shape for t in ("1", "4", "4", "2", "5")] == [
        (1, 3),
        (1, 2),
        (1, 2),
        (2, 3),
        (1, 2),
    ]
    assert (reader.num_read, reader.num_encoded, calls) == (2, 2, ["4", "5"])
    half = FeatureReader(encode, TextStore(tmp_path / "none", "float16"))
    assert np.array_equal(half("1"), np.full((1, 2), 1 / 3, np.float16))
    assert not np.array_equal(half("1"), reader("1"))
    poor = FeatureReader(encode, cache_mib=0)
    assert (poor("4")[0, 0], poor("4")[0, 0], poor.num_encoded) == (*[np.float32(4 / 3)] * 2, 2)


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="dtype: got 'int8'"):
        EmbedConfig(dtype="int8")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="shard_texts"):
        EmbedConfig(shard_texts=0)
    with pytest.raises(InputError, match="text_encoder"):
        embed_texts([""], f"t5:{tmp_path}", tmp_path / "text", EmbedConfig())
    assert not (tmp_path / "text").exists()
