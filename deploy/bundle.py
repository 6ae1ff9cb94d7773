"""A bundle: one folder with everything that generation needs, portable as it is.

denoiser/       the diffusion transformer
autoencoder/    latents to pixels: ours or one of diffusers'
captioner/      its text tower reads the prompts (absent when a T5 folder does)
expander/       the model that expands prompts (absent where the grammar does)
expander.json   the captions whose style short prompts are expanded into
bundle.json     which text encoder, and the identities that must match
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import torch

from openreel.deploy.expanders import OWN, ExpandOptions, expander_of
from openreel.deploy.sizes import Costs
from openreel.dit.sample import SampleConfig
from openreel.dit.weights import Denoiser, load_dit
from openreel.pipeline.commit import committed_folder
from openreel.pipeline.errors import InputError
from openreel.recaption.expander_model import Style
from openreel.recaption.expansion import GuardedExpander
from openreel.recaption.pairs import Pair
from openreel.recaption.text import TextEncoder, load_text_encoder
from openreel.vae.codec import Codec, folder_of, load_codec


@dataclass(frozen=True)
class Bundle:
    """Everything loaded and checked against one another."""

    denoiser: Denoiser
    autoencoder: Codec
    text_encoder: TextEncoder
    sample: SampleConfig
    """how it is sampled by default"""
    folder: Path

    @cached_property
    def expander(self) -> GuardedExpander:
        """Its own if it has one, else the grammar."""
        return expander_of(ExpandOptions(), self.folder)

    @property
    def costs(self) -> Costs:
        model = self.denoiser.dit.config
        return Costs(
            pixels=self.autoencoder.config, patch=model.patch, dim=model.dim, depth=model.depth
        )


def write_bundle(
    folder: Path,
    *,
    denoiser: Path,
    autoencoder: str | Path,
    text_encoder: str,
    corpus: Sequence[str],
    sample: SampleConfig,
    pairs: Sequence[Pair] = (),
    expander: Path | None = None,
) -> None:
    """Copy the parts into one committed folder; a captioner named as text encoder comes along.

    autoencoder: load_codec's name of it; one of diffusers' is copied too, a fraction of its
    denoiser's size, so that the bundle can be moved. corpus: dense captions. pairs: of a short and
    a dense one, to show a language model the style. expander: a folder that
    `openreel train expander` wrote. sample: how videos are sampled unless somebody asks for
    something else.
    """
    kind, _, text_folder = text_encoder.partition(":")
    with committed_folder(folder) as scratch:
        shutil.copytree(denoiser, scratch / "denoiser")
        shutil.copytree(folder_of(autoencoder), scratch / "autoencoder")
        if kind == "captioner":
            shutil.copytree(text_folder, scratch / "captioner")
        if expander is not None:
            shutil.copytree(expander, scratch / OWN)
        Style.of(corpus, pairs).write(scratch)
        spec = "captioner" if kind == "captioner" else text_encoder
        described = {"text_encoder": spec, "sample": asdict(sample)}
        (scratch / "bundle.json").write_text(json.dumps(described))


def load_bundle(folder: Path) -> Bundle:
    """Load everything onto the GPU if there is one, the denoiser in bfloat16, else onto the CPU.

    Raises InputError when the folder is no bundle or its parts do not belong together.
    """
    try:
        described = json.loads((folder / "bundle.json").read_text())
        spec, config = described["text_encoder"], SampleConfig(**described["sample"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            "model", str(folder), f"a bundle, such as `openreel demo` writes ({error})"
        ) from error
    cuda = torch.cuda.is_available()
    device = "cuda" if cuda else "cpu"
    denoiser = load_dit(folder / "denoiser")
    denoiser.dit.to(device, torch.bfloat16 if cuda else torch.float32)
    autoencoder = load_codec(folder / "autoencoder", device)
    spec = f"captioner:{folder / 'captioner'}" if spec == "captioner" else spec
    text = load_text_encoder(spec, device=device)
    for name, own in (("codec", autoencoder.codec), ("text_encoder", text.identity)):
        if denoiser.card[name] != own:
            raise InputError(name, own, f"{denoiser.card[name]}, which the denoiser was trained on")
    return Bundle(denoiser, autoencoder, text, config, folder)


def load_costs(folder: Path) -> Costs:
    """What the size planner needs, read from the configs alone: no weights are loaded."""
    try:
        model = json.loads((folder / "denoiser" / "config.json").read_text())["model"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            "model", str(folder), f"a bundle, such as `openreel demo` writes ({error})"
        ) from error
    from openreel.vae.codec import load_shape

    return Costs(
        pixels=load_shape(folder / "autoencoder"),
        patch=tuple(model["patch"]),
        dim=model["dim"],
        depth=model["depth"],
    )
