"""Folders that hold no autoencoder are refused in one line that says what is wrong."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from openreel.pipeline.errors import InputError
from openreel.vae.model import Autoencoder
from openreel.vae.weights import load_autoencoder, load_config, save_autoencoder


def test_what_was_saved_is_loaded(
    model: Autoencoder, discrete: Autoencoder, tmp_path: Path
) -> None:
    for made in (model, discrete):
        save_autoencoder(tmp_path, made.config, made.state_dict())
        assert load_autoencoder(tmp_path).codec == made.codec
        assert load_config(tmp_path) == made.config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("decoder.leave.bias"), r"1 tensors missing, such as decoder\.leave\.bias"),
        (lambda w: w.update(extra=torch.zeros(1)), "1 tensors too many, such as extra"),
        (lambda w: w.update(latent_std=torch.zeros(9)), "size mismatch for latent_std"),
    ],
)
def test_other_weights_are_refused(
    model: Autoencoder, tmp_path: Path, change: object, message: str
) -> None:
    save_autoencoder(tmp_path, model.config, model.state_dict())
    weights = load_file(tmp_path / "model.safetensors")
    change(weights)  # type: ignore[operator]
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=rf"^vae: got .* autoencoder \(.*{message}") as caught:
        load_autoencoder(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        "not json",
        "[1, 2]",
        "{}",
        json.dumps({"channels": 5}),
        json.dumps({"levels": [8, 8], "patch": 3, "widths": [8], "blocks": [1], "folds": []}),
        json.dumps({"bits": 5, "new": 1, "patch": 2, "widths": [8], "blocks": [1], "folds": []}),
    ],
)
def test_other_configs_are_refused(model: Autoencoder, tmp_path: Path, content: str) -> None:
    save_autoencoder(tmp_path, model.config, model.state_dict())
    (tmp_path / "config.json").write_text(content)
    for load in (load_autoencoder, load_config):
        with pytest.raises(InputError, match=r"^vae: got ") as caught:
            load(tmp_path)
        assert "\n" not in str(caught.value)


def test_an_empty_folder_and_a_cut_file_are_refused(model: Autoencoder, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a folder with model\.safetensors and config\.json"):
        load_autoencoder(tmp_path)
    save_autoencoder(tmp_path, model.config, model.state_dict())
    content = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"^vae: got .*an openreel autoencoder \("):
        load_autoencoder(tmp_path)
