"""A published denoiser: a folder with model.safetensors, config.json and card.json."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from openreel.dit.config import DiTConfig
from openreel.dit.flow import Flow, ShiftConfig
from openreel.dit.model import DiT
from openreel.pipeline.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Method:
    """How a model was trained, as far as sampling must do the same."""

    flow: Flow = field(default_factory=Flow)
    shift: ShiftConfig = field(default_factory=ShiftConfig)


@dataclass(frozen=True)
class Denoiser:
    """A loaded model and what sampling must know about it."""

    dit: DiT
    method: Method
    card: dict[str, Any]


def save_dit(
    folder: Path,
    config: DiTConfig,
    weights: dict[str, Tensor],
    method: Method,
    card: dict[str, Any],
) -> None:
    """Fill an existing folder; the caller commits it."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    save_file(tensors, folder / "model.safetensors")
    described = {"model": asdict(config), "method": asdict(method)}
    (folder / "config.json").write_text(json.dumps(described, indent=2))
    (folder / "card.json").write_text(json.dumps(card, indent=2))


def load_dit(folder: Path) -> Denoiser:
    """Raises InputError when the folder is no published denoiser."""
    try:
        described = json.loads((folder / "config.json").read_text())
        card = json.loads((folder / "card.json").read_text())
        weights = load_file(folder / "model.safetensors")
        dit = DiT(_config(described["model"]))
        dit.load_state_dict(weights)
        flow, shift = described["method"]["flow"], described["method"]["shift"]
        method = Method(flow=Flow(**flow), shift=ShiftConfig(**shift))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        cause = str(error).splitlines()[0]
        raise InputError("model", str(folder), f"a published denoiser ({cause})") from error
    return Denoiser(dit.eval(), method, card)


def _config(described: dict[str, Any]) -> DiTConfig:
    windows = tuple(w if isinstance(w, str) else tuple(w) for w in described["windows"])
    return DiTConfig(**{**described, "patch": tuple(described["patch"]), "windows": windows})
