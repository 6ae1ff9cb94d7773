"""`openreel embed`, and training that reads what it wrote: equal loss, nothing embedded twice."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from openreel.deploy import cli, stations_dit, stations_text
from openreel.deploy.recipes import smoke
from openreel.dit.train import DenoiserLoss, DenoiserTaskConfig, corrupt_batch
from openreel.packing.loader import PackLoader
from openreel.pipeline import table
from openreel.pipeline.errors import InputError
from openreel.recaption.caption import Caption, ClipCaptions
from openreel.recaption.embed import EmbedConfig, TextBatch, embed_shard
from openreel.recaption.text import load_text_encoder, text_identity
from openreel.recaption.text_store import FeatureReader, TextStore
from openreel.vae.config import tiny
from openreel.vae.latent import LatentRow, LatentVideo
from openreel.vae.run import write_latent
from openreel.vae.train import new_autoencoder
from openreel.vae.weights import load_autoencoder, save_autoencoder
from tests.recaption.test_text import captioner_folder

COLOURS = ("red", "dark", "striped")
CAPTIONS = {
    f"{i:02}": ClipCaptions(
        clip_id=f"{i:02}",
        captions=(
            Caption(kind="original", text="a ball", source="manifest"),
            Caption(kind="short", text=f"a {COLOURS[i % 3]} ball", source="t"),
            Caption(kind="dense", text=f"a {COLOURS[i % 3]} ball moves right", source="t"),
            Caption(kind="dense", text="red red red red", source="t", flaw="repeats"),
            Caption(kind="dense", text="the camera", source="t", whole=False),
        ),
    )
    for i in range(8)
}


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"captioner:{captioner_folder(tmp_path_factory.mktemp('captioner'))}"


@pytest.fixture(autouse=True)
def captions(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(dataset: Path) -> Mapping[str, ClipCaptions]:
        return CAPTIONS

    monkeypatch.setattr(stations_text, "captions_of", found)
    monkeypatch.setattr(stations_dit, "captions_of", found)


def latents(folder: Path, codec: str) -> list[LatentRow]:
    rows = []
    for i in CAPTIONS:
        values = np.random.default_rng(int(i)).standard_normal((16, 2, 3, 4), np.float32)
        size = {"num_frames": 5, "height": 24, "width": 32, "fps": 8.0}
        rows.append(write_latent(LatentVideo(latents=values, codec=codec, **size), folder, i))
    table.create(folder, stage="encode", key="clip_id", fingerprint={})
    table.append(folder, rows)
    return rows


def stored(dataset: Path, spec: str, texts: list[str]) -> TextStore:
    """A store as the station writes it, without Ray."""
    config = EmbedConfig()
    store = stations_text.stored_texts(dataset, text_identity(spec), config.dtype)
    table.create(store.folder, stage="embed", key="shard_id", fingerprint={})
    encoder = load_text_encoder(spec)
    batch = TextBatch(texts=tuple(texts))
    row = embed_shard(batch, encoder=encoder, folder=store.folder, dtype=config.dtype)
    table.append(store.folder, [row])
    return TextStore(store.folder, config.dtype)


def test_only_what_training_may_draw_is_embedded_and_always_the_empty_text() -> None:
    texts = stations_text.usable_texts(CAPTIONS.values())
    own = {f"a {c} ball" for c in COLOURS} | {f"a {c} ball moves right" for c in COLOURS}
    assert texts == sorted(own | {"", "a ball"})
    assert stations_text.usable_texts([]) == [""]


def test_the_verb_embeds_once_and_says_how_many(
    ray_local: None, spec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["embed", str(tmp_path), "--text", spec]
    cli.main([*command, "--dry-run"])
    assert "'embedded': 0" in capsys.readouterr().out
    assert not (tmp_path / "text").exists()
    cli.main(command)
    assert "8 of 8 texts in" in capsys.readouterr().out
    store = stations_text.stored_texts(tmp_path, text_identity(spec), "float32")
    assert len(store) == 8
    files = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.safetensors")}
    cli.main(command)
    assert "8 of 8 texts in" in capsys.readouterr().out
    assert files == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.safetensors")}
    with pytest.raises(SystemExit):
        cli.main(["embed", str(tmp_path), "--text", "t5:/nowhere"])
    assert "text_encoder" in capsys.readouterr().err


def test_the_loss_is_that_of_embedding_on_the_fly(spec: str, tmp_path: Path) -> None:
    rows = latents(tmp_path / "latents", "c")
    texts = stations_text.usable_texts(CAPTIONS.values())
    stored(tmp_path, spec, texts)
    recipe = smoke().denoiser
    losses = {}
    for dataset in (tmp_path, tmp_path / "nothing stored"):
        features = stations_text.embedder(spec, dataset, texts)
        loader = PackLoader(
            rows,
            CAPTIONS,
            read=lambda row: stations_dit.read_latent(row, tmp_path / "latents"),
            embed=features,
            patch=recipe.patch,
            packer=replace(recipe.packer, max_tokens=16),
            mix=recipe.mix,
            seed=0,
        )
        text_dim = features("").shape[1]
        dit = stations_dit.new_denoiser(recipe, channels=16, text_dim=text_dim, seed=0)
        model = DenoiserLoss(dit, recipe.task.flow)
        for parameter in dit.head.parameters():
            parameter.data.fill_(0.1)  # at zero the text would make no difference
        batches = [corrupt_batch(loader.next_batch(), DenoiserTaskConfig()) for _ in range(6)]
        losses[dataset] = [float(model(batch)[0].detach()) for batch in batches]
        counts = (features.num_read, features.num_encoded)
        if dataset == tmp_path:
            assert counts[0] > 6
            assert counts[1] == 0, "a stored text was embedded again"
        else:
            assert counts[0] == 0
            assert 1 < counts[1] <= 8, "each text is embedded once"
        assert np.std([len(b.batch.text) for b in batches]) > 0, "all texts are of one length"
    one, other = losses.values()
    np.testing.assert_allclose(one, other, rtol=1e-6)
    assert np.std(one) > 0.01


def test_what_is_missing_is_counted_in_words(
    spec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = stations_text.usable_texts(CAPTIONS.values())
    stored(tmp_path, spec, texts[:6])
    reader: FeatureReader = stations_text.embedder(spec, tmp_path, texts)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert (lines[-1]["done"], lines[-1]["total"]) == (6, 8)
    assert lines[-1]["note"].startswith("2 are embedded as they are drawn")
    encoder = load_text_encoder(spec)
    for text in texts:
        np.testing.assert_allclose(reader(text), encoder.encode([text])[0], atol=1e-5)
    assert (reader.num_read, reader.num_encoded) == (6, 2)


@pytest.mark.slow
def test_the_denoiser_trains_on_stored_texts_and_no_run_changes_their_dtype(
    spec: str, tmp_path: Path
) -> None:
    vae = tmp_path / "vae"
    vae.mkdir()
    autoencoder = new_autoencoder(tiny(), seed=0)
    save_autoencoder(vae, autoencoder.config, autoencoder.state_dict())
    latents(tmp_path / "latents", load_autoencoder(vae).codec)
    settings = {"autoencoder": vae, "text_encoder": spec, "seed": 0}
    recipe, sampling = smoke().denoiser, smoke().sample

    def losses(run: str) -> list[float]:
        stations_dit.train_denoiser(recipe, tmp_path, tmp_path / run, **settings, sampling=sampling)
        lines = (tmp_path / run / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line)["loss"] for line in lines]

    texts = stations_text.usable_texts(CAPTIONS.values())
    before = losses("on the fly")
    stored(tmp_path, spec, texts)
    np.testing.assert_allclose(losses("stored"), before, rtol=1e-5)
    card = tmp_path / "stored" / "recipe.json"
    assert json.loads(card.read_text())["text_dtype"] == "float32"
    card.write_text(card.read_text().replace('"float32"', '"float16"'))
    with pytest.raises(InputError, match="text_dtype: got 'float32'"):
        losses("stored")
