"""A bundle: one folder with everything that generation needs, portable as it is.

denoiser/       the diffusion transformer
autoencoder/    latents to pixels
captioner/      its text tower reads the prompts (absent when a T5 folder does)
expander.json   the dense captions whose style short prompts are expanded into
bundle.json     which text encoder, and the identities that must match
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from openreel.deploy.sizes import Costs
from openreel.dit.sample import SampleConfig
from openreel.dit.weights import Denoiser, load_dit
from openreel.pipeline.commit import committed_folder
from openreel.pipeline.errors import InputError
from openreel.recaption.expand import OfflineExpander
from openreel.recaption.text import TextEncoder, load_text_encoder
from openreel.vae.model import Autoencoder
from openreel.vae.weights import load_autoencoder

CORPUS_SIZE = 2000
"""dense captions kept for the expander"""


@dataclass(frozen=True)
class Bundle:
    """Everything loaded and checked against one another."""

    denoiser: Denoiser
    autoencoder: Autoencoder
    text_encoder: TextEncoder
    expander: OfflineExpander
    sample: SampleConfig
    """how it is sampled by default"""
    folder: Path

    @property
    def costs(self) -> Costs:
        model, pixels = self.denoiser.dit.config, self.autoencoder.config
        return Costs(
            time_factor=pixels.time_factor,
            space_factor=pixels.space_factor,
            patch=model.patch,
            dim=model.dim,
            depth=model.depth,
        )


def write_bundle(
    folder: Path,
    *,
    denoiser: Path,
    autoencoder: Path,
    text_encoder: str,
    corpus: Sequence[str],
    sample: SampleConfig,
) -> None:
    """Copy the parts into one committed folder; a captioner named as text encoder comes along.

    sample: how videos are sampled unless somebody asks for something else.
    """
    kind, _, text_folder = text_encoder.partition(":")
    with committed_folder(folder) as scratch:
        shutil.copytree(denoiser, scratch / "denoiser")
        shutil.copytree(autoencoder, scratch / "autoencoder")
        if kind == "captioner":
            shutil.copytree(text_folder, scratch / "captioner")
        kept = sorted(set(corpus))[:CORPUS_SIZE]
        (scratch / "expander.json").write_text(json.dumps(kept, indent=0))
        spec = "captioner" if kind == "captioner" else text_encoder
        described = {"text_encoder": spec, "sample": asdict(sample)}
        (scratch / "bundle.json").write_text(json.dumps(described))


def load_bundle(folder: Path) -> Bundle:
    """Load everything onto the GPU if there is one, the denoiser in bfloat16, else onto the CPU.

    Raises InputError when the folder is no bundle or its parts do not belong together.
    """
    try:
        described = json.loads((folder / "bundle.json").read_text())
        corpus = json.loads((folder / "expander.json").read_text())
        spec, config = described["text_encoder"], SampleConfig(**described["sample"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            "model", str(folder), f"a bundle, such as `openreel demo` writes ({error})"
        ) from error
    cuda = torch.cuda.is_available()
    device = "cuda" if cuda else "cpu"
    denoiser = load_dit(folder / "denoiser")
    denoiser.dit.to(device, torch.bfloat16 if cuda else torch.float32)
    autoencoder = load_autoencoder(folder / "autoencoder", device)
    spec = f"captioner:{folder / 'captioner'}" if spec == "captioner" else spec
    text = load_text_encoder(spec, device=device)
    for name, own in (("codec", autoencoder.codec), ("text_encoder", text.identity)):
        if denoiser.card[name] != own:
            raise InputError(name, own, f"{denoiser.card[name]}, which the denoiser was trained on")
    return Bundle(denoiser, autoencoder, text, OfflineExpander(corpus), config, folder)


def load_costs(folder: Path) -> Costs:
    """What the size planner needs, read from the configs alone: no weights are loaded."""
    try:
        model = json.loads((folder / "denoiser" / "config.json").read_text())["model"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            "model", str(folder), f"a bundle, such as `openreel demo` writes ({error})"
        ) from error
    from openreel.vae.weights import load_config

    pixels = load_config(folder / "autoencoder")
    return Costs(
        time_factor=pixels.time_factor,
        space_factor=pixels.space_factor,
        patch=tuple(model["patch"]),
        dim=model["dim"],
        depth=model["depth"],
    )
