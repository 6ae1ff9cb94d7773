"""Samples on the way of a training run, and the run's page."""

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from openreel.deploy import charts, previews
from openreel.deploy.cli import main
from openreel.deploy.previews import LONG_SIDE, NUM_FRAMES, DenoiserPreview, wanted
from openreel.deploy.run_page import render, write_run_page
from openreel.dit import bad_steps
from openreel.dit.metrics import read
from openreel.dit.sample import SampleConfig
from openreel.dit.train import DenoiserTaskConfig
from openreel.dit.weights import Method, load_dit
from openreel.packing.loader import CaptionMix, PackLoader
from openreel.packing.packer import PackerConfig
from openreel.pipeline import table
from openreel.recaption.caption import ClipCaptions
from openreel.recaption.tables import place_of
from openreel.recaption.text import load_text_encoder
from openreel.vae.latent import LatentRow
from tests.deploy.test_pretrained import dataset_in

pytestmark = pytest.mark.slow

HOSTILE = "<script>alert('x')</script>"


@pytest.fixture(scope="module")
def runs(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same training with pictures and without."""
    root = tmp_path_factory.mktemp("previews")
    vae, text = bundle_folder / "autoencoder", f"captioner:{bundle_folder / 'captioner'}"
    dataset = dataset_in(root / "data", str(vae))
    train = ["train", "dit", "smoke", "--dataset", str(dataset), "--vae", str(vae), "--text", text]
    settings = {"with": ["2"], "without": ["0"], "captions": ["4", "--prompts"]}
    for name, (every, *more) in settings.items():
        main([*train, "-o", str(root / name), "--train.preview-every", every, *more])
    return {"data": dataset, **{name: root / name for name in settings}}


def test_a_sheet_every_so_many_steps_and_the_training_is_the_same(runs: dict[str, Path]) -> None:
    sheets = sorted((runs["with"] / "samples").iterdir())
    assert [s.name for s in sheets] == ["step-00000002.png", "step-00000004.png"]
    assert not (runs["without"] / "samples").exists()
    lines = [read(runs[name] / "metrics.jsonl") for name in ("with", "without")]
    losses = [[line["loss"] for line in of_run] for of_run in lines]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 4
    weights = [
        load_file(runs[name] / "model" / "model.safetensors") for name in ("with", "without")
    ]
    assert all(torch.equal(weights[0][name], value) for name, value in weights[1].items())
    before, after = (Image.open(s).convert("RGB").tobytes() for s in sheets)
    assert before != after
    (sheet,) = (runs["captions"] / "samples").iterdir()
    assert Image.open(sheet).size != Image.open(sheets[1]).size


def test_the_settings_of_pictures_may_change_from_call_to_call(runs: dict[str, Path]) -> None:
    cards = [json.loads((runs[n] / "recipe.json").read_text()) for n in ("with", "without")]
    assert cards[0] == cards[1]
    figures = read(runs["with"] / "metrics.jsonl")[-1]
    assert {"fill", "tokens_per_second", "tflops", "read_seconds"} <= set(figures)
    assert "mfu" not in figures


def a_loader(dataset: Path, max_tokens: int) -> PackLoader:
    captions = table.usable(place_of(dataset, "parrot", {}).folder, ClipCaptions)
    return PackLoader(
        table.usable(dataset / "latents", LatentRow),
        {row.clip_id: row for row in captions},
        read=lambda row: pytest.fail("metadata is enough"),
        embed=lambda text: pytest.fail("metadata is enough"),
        patch=(1, 2, 2),
        packer=PackerConfig(max_tokens=max_tokens),
        mix=CaptionMix(),
        seed=0,
    )


def test_what_is_shown_fits_a_pack_twice(runs: dict[str, Path]) -> None:
    ample = wanted(a_loader(runs["data"], 1 << 20), ())
    assert len(ample) == previews.COUNT
    assert len({w.like.clip_id for w in ample}) == previews.COUNT
    loader = a_loader(runs["data"], 1 << 20)
    spoken = {
        w.like.clip_id: {c.text for c in loader.captions[w.like.clip_id].captions} for w in ample
    }
    assert all(w.prompt in spoken[w.like.clip_id] for w in ample)
    tokens = dict(zip((r.clip_id for r in loader.rows), loader.num_tokens, strict=True))
    tight = wanted(a_loader(runs["data"], 5 * max(tokens.values())), ())
    assert len(tight) == 2
    named = wanted(loader, ("one", "two"))
    assert [(w.prompt, w.like) for w in named] == [("one", ample[0].like), ("two", ample[1].like)]
    assert named[0].label.endswith("frames: one")


def a_preview(
    runs: dict[str, Path], bundle_folder: Path
) -> tuple[DenoiserPreview, dict[str, torch.Tensor]]:
    denoiser = load_dit(runs["with"] / "model")
    encoder = load_text_encoder(f"captioner:{bundle_folder / 'captioner'}")
    preview = DenoiserPreview(
        wanted=wanted(a_loader(runs["data"], 1 << 20), ("a red ball", "a blue bar")),
        config=denoiser.dit.config,
        method=Method(flow=DenoiserTaskConfig().flow),
        sampling=SampleConfig(steps=3, guidance=2.0),
        seed=0,
        embed=lambda text: encoder.encode([text])[0],
        autoencoder=bundle_folder / "autoencoder",
        device=torch.device("cpu"),
        precision="fp32",
        backend=None,
    )
    return preview, {f"dit.{k}": v for k, v in denoiser.dit.state_dict().items()}


def test_a_signal_cuts_a_picture_short(
    runs: dict[str, Path], bundle_folder: Path, tmp_path: Path
) -> None:
    preview, weights = a_preview(runs, bundle_folder)
    asked = 0

    def stopping() -> bool:
        nonlocal asked
        asked += 1
        return asked == 2

    preview(weights, tmp_path / "a.png", stopping)
    assert asked == 2
    assert not list(tmp_path.iterdir())


def test_the_weights_are_left_alone_and_sheets_repeat(
    runs: dict[str, Path], bundle_folder: Path, tmp_path: Path
) -> None:
    preview, weights = a_preview(runs, bundle_folder)
    kept = {name: value.clone() for name, value in weights.items()}
    for name in ("a.png", "b.png"):
        preview(weights, tmp_path / name, lambda: False)
    assert all(torch.equal(kept[name], value) for name, value in weights.items())
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    large = torch.zeros(9, 200, 2 * LONG_SIDE, 3, dtype=torch.uint8).numpy()
    assert previews._strip(large).shape == (NUM_FRAMES, 100, LONG_SIDE, 3)


class Seen(HTMLParser):
    """The tags, their addresses and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attributes if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_shows_curves_classes_and_sheets_and_stands_alone(runs: dict[str, Path]) -> None:
    seen = Seen((runs["with"] / "index.html").read_text())
    assert all(s.startswith(("#", "data:image/jpeg;base64,")) for s in seen.sources)
    assert seen.tags.count("img") == 2
    assert seen.tags.count("svg") >= 6
    for title in ("noise level", "latent frames", "patches of a frame"):
        assert title in seen.text
    assert "step 4" in seen.text


def test_a_page_of_a_bad_run_and_of_none(tmp_path: Path) -> None:
    assert "No step has been recorded" in render(tmp_path)
    lines = [{"step": s, "loss": float(s), "loss_by_level/0.0-0.1": 1.0} for s in range(1, 2501)]
    lines[6]["loss"] = float("nan")
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    line = {"step": 7, "rank": 1, "micro_batch": 0, "loss": "nan", "held": [HOSTILE]}
    (tmp_path / bad_steps.NAME).write_text(json.dumps(line) + "\n")
    page = write_run_page(tmp_path).read_text()
    seen = Seen(page)
    assert "script" not in seen.tags
    assert HOSTILE in seen.text
    assert 500 < seen.tags.count("circle") <= 1000
    assert "steps 1–501" in seen.text  # step 7 has no loss: 500 others


def test_ticks_are_short() -> None:
    values = [20_000.0, 2_500_000.0, 5e-4, 0.02, 150.0, 0.0, -30_000.0, 9e-3]
    assert [charts._short(v) for v in values] == [
        *("20k", "2.5M", "5e-4", "0.02", "150", "0", "-30k", "9e-3"),
    ]
