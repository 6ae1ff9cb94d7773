"""An autoencoder on disk: model.safetensors and config.json. Nothing is unpickled."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from openreel.pipeline.errors import InputError
from openreel.vae.config import AutoencoderConfig
from openreel.vae.model import Autoencoder

WEIGHTS, CONFIG = "model.safetensors", "config.json"


def save_autoencoder(
    folder: Path, config: AutoencoderConfig, weights: Mapping[str, Tensor]
) -> None:
    """Write both files into an existing folder; weights is Autoencoder's state_dict, with its
    statistics."""
    save_file({k: v.detach().cpu().contiguous() for k, v in weights.items()}, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(dataclasses.asdict(config), indent=1), encoding="utf-8")


def load_autoencoder(folder: Path, device: str = "cpu") -> Autoencoder:
    """The autoencoder of a folder, in evaluation mode. Raises InputError if it is not one."""
    missing = [name for name in (WEIGHTS, CONFIG) if not (folder / name).is_file()]
    if missing:
        raise InputError("vae", str(folder), f"a folder with {' and '.join(missing)}")
    try:
        model = Autoencoder(_config(json.loads((folder / CONFIG).read_text(encoding="utf-8"))))
        model.load_state_dict(load_file(folder / WEIGHTS), strict=True)
    except (RuntimeError, TypeError, KeyError, ValueError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError("vae", str(folder), f"an openreel autoencoder ({reason})") from error
    return model.to(device).eval().requires_grad_(False)


def load_config(folder: Path) -> AutoencoderConfig:
    """A stored autoencoder's shape, without its weights. Raises InputError if there is none."""
    try:
        return _config(json.loads((folder / CONFIG).read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError) as error:
        raise InputError("vae", str(folder), f"a folder with {CONFIG} ({error})") from error


def _config(stored: Mapping[str, object]) -> AutoencoderConfig:
    """JSON has lists where the config has tuples."""

    def as_tuples(value: object) -> object:
        return tuple(map(as_tuples, value)) if isinstance(value, list) else value

    return AutoencoderConfig(**{k: as_tuples(v) for k, v in stored.items()})  # type: ignore[arg-type]
