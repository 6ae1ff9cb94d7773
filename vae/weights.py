"""An autoencoder on disk: model.safetensors and config.json. Nothing is unpickled."""

import json
from collections.abc import Mapping, Set
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from openreel.pipeline.errors import InputError
from openreel.vae.config import AutoencoderConfig, from_stored
from openreel.vae.model import Autoencoder

WEIGHTS, CONFIG = "model.safetensors", "config.json"


def save_autoencoder(
    folder: Path, config: AutoencoderConfig, weights: Mapping[str, Tensor]
) -> None:
    """Write both files into an existing folder; weights is Autoencoder's state_dict, with its
    statistics."""
    save_file({k: v.detach().cpu().contiguous() for k, v in weights.items()}, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(config.stored(), indent=1), encoding="utf-8")


def load_autoencoder(folder: Path, device: str = "cpu") -> Autoencoder:
    """The autoencoder of a folder, in evaluation mode. Raises InputError if it is not one."""
    missing = [name for name in (WEIGHTS, CONFIG) if not (folder / name).is_file()]
    if missing:
        raise InputError("vae", str(folder), f"a folder with {' and '.join(missing)}")
    try:
        model = Autoencoder(from_stored(json.loads((folder / CONFIG).read_text(encoding="utf-8"))))
        weights = load_file(folder / WEIGHTS)
        if fault := _mismatch(weights.keys(), model.state_dict().keys()):
            raise ValueError(fault)
        model.load_state_dict(weights, strict=True)
    except (RuntimeError, TypeError, KeyError, ValueError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError("vae", str(folder), f"an openreel autoencoder ({reason})") from error
    return model.to(device).eval().requires_grad_(False)


def _mismatch(found: Set[str], expected: Set[str]) -> str:
    """Which tensors are missing or too many; empty if none."""

    def named(names: Set[str], fault: str) -> list[str]:
        return [f"{len(names)} tensors {fault}, such as {min(names)}"] if names else []

    return "; ".join(named(expected - found, "missing") + named(found - expected, "too many"))


def load_config(folder: Path) -> AutoencoderConfig:
    """A stored autoencoder's shape, without its weights. Raises InputError if there is none."""
    try:
        return from_stored(json.loads((folder / CONFIG).read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError) as error:
        raise InputError("vae", str(folder), f"a folder with {CONFIG} ({error})") from error
