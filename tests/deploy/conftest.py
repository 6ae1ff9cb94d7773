"""A bundle of small untrained models, saved and loaded like any other."""

from pathlib import Path

import pytest
import torch

from openreel.deploy.bundle import Bundle, load_bundle, write_bundle
from openreel.deploy.recipes import smoke
from openreel.deploy.stations_dit import new_denoiser
from openreel.dit.weights import Method, save_dit
from openreel.recaption.text import load_text_encoder
from openreel.recaption.weights import new_captioner, save_captioner
from openreel.vae.config import tiny
from openreel.vae.train import new_autoencoder
from openreel.vae.weights import save_autoencoder

CORPUS = [
    "A large red ball moves right across a dark striped background. The camera is still.",
    "A small blue bar stays still in front of a light plain background. The camera pans left.",
]


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bundle")
    parts = {name: root / name for name in ("captioner", "autoencoder", "denoiser")}
    for part in parts.values():
        part.mkdir()
    captioner = new_captioner(CORPUS, seed=0)
    weights = captioner.model.state_dict()
    save_captioner(parts["captioner"], captioner.model.config, captioner.tokenizer, weights)
    autoencoder = new_autoencoder(tiny(), seed=0)
    save_autoencoder(parts["autoencoder"], autoencoder.config, autoencoder.state_dict())
    text = load_text_encoder(f"captioner:{parts['captioner']}")
    dit = new_denoiser(smoke().denoiser, channels=16, text_dim=text.dim, seed=0)
    torch.nn.init.normal_(dit.head.weight, std=0.02, generator=torch.Generator().manual_seed(0))
    card = {"codec": autoencoder.codec, "text_encoder": text.identity}
    save_dit(parts["denoiser"], dit.config, dit.state_dict(), Method(), card)
    write_bundle(
        root / "model",
        denoiser=parts["denoiser"],
        autoencoder=parts["autoencoder"],
        text_encoder=f"captioner:{parts['captioner']}",
        corpus=CORPUS,
        sample=smoke().sample,
    )
    return root / "model"


@pytest.fixture(scope="session")
def bundle(bundle_folder: Path) -> Bundle:
    return load_bundle(bundle_folder)
