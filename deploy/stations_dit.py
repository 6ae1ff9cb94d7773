"""The denoiser's station: from the tables of latents and captions to a bundle."""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from openreel.deploy.bundle import write_bundle
from openreel.deploy.previews import DenoiserPreview, wanted
from openreel.deploy.recipes import DenoiserRecipe, described
from openreel.deploy.run_page import write_run_page
from openreel.deploy.stations import run_training
from openreel.deploy.stations_text import captions_of, embedder, usable_texts
from openreel.dit.checkpoint import Resume
from openreel.dit.distributed import initialise
from openreel.dit.model import DiT
from openreel.dit.sample import SampleConfig
from openreel.dit.train import DenoiserTask
from openreel.dit.weights import Method
from openreel.packing.loader import PackLoader
from openreel.pipeline import table
from openreel.pipeline.clip import digest
from openreel.pipeline.errors import InputError
from openreel.recaption.caption import ClipCaptions
from openreel.recaption.pairs import pairs_of
from openreel.recaption.text import text_identity
from openreel.vae.codec import load_codec
from openreel.vae.latent import LatentRow
from openreel.vae.run import read_latent

if TYPE_CHECKING:
    import torch


def train_denoiser(
    recipe: DenoiserRecipe,
    dataset: Path,
    run: Path,
    *,
    autoencoder: str | Path,
    text_encoder: str,
    seed: int,
    sampling: SampleConfig,
    bundle: Path | None = None,
    expander: Path | None = None,
    resume: Resume = "auto",
) -> Path:
    """Train on latents and captions; returns the bundle's folder, ready to generate from.

    autoencoder: load_codec's name of it. bundle: where it goes; None is RUN/bundle. sampling: the
    bundle's defaults. expander: a trained expander's folder, which goes into the bundle.
    """
    ranks = initialise(recipe.train.timeout_minutes)
    codec, channels = _codec_of(autoencoder)
    made_with = {"codec": codec, "text_encoder": text_identity(text_encoder)}
    latents, captions = _latents_of(dataset, codec), captions_of(dataset)
    features = embedder(text_encoder, dataset, usable_texts(captions.values()), say=ranks.is_first)
    loader = PackLoader(
        latents,
        captions,
        read=partial(read_latent, folder=dataset / "latents"),
        embed=features,
        patch=recipe.patch,
        packer=recipe.packer,
        mix=recipe.mix,
        seed=seed,
        drop=recipe.drop,
        workers=recipe.workers,
        rank=ranks.rank,
        world_size=ranks.world_size,
    )
    said = [(row.clip_id, row.sha256, captions[row.clip_id].captions) for row in loader.rows]
    inputs = {"seed": seed, "data": digest(*said), **made_with, "text_dtype": features.dtype}
    card = {**made_with, "recipe": described(recipe), **_told(loader)}
    dit = new_denoiser(recipe, channels=channels, text_dim=features("").shape[1], seed=seed)
    task = DenoiserTask(dit, loader, recipe.task, card=card)
    preview = _preview(task, recipe, autoencoder, sampling, ranks.device)
    model = run_training("dit", recipe, task, recipe.train, run, resume, inputs, preview)
    if ranks.is_first:
        write_run_page(run)
    bundle = bundle or run / "bundle"
    if ranks.is_first and not bundle.exists():
        write_bundle(
            bundle,
            denoiser=model,
            autoencoder=autoencoder,
            text_encoder=text_encoder,
            corpus=_dense(captions),
            sample=sampling,
            pairs=pairs_of(captions.values()).usable,
            expander=expander,
        )
    return bundle


def _latents_of(dataset: Path, codec: str) -> list[LatentRow]:
    """Raises InputError for latents of another autoencoder."""
    rows = table.usable(dataset / "latents", LatentRow)
    other = next((row for row in rows if row.codec != codec), None)
    if other is not None:
        raise InputError("vae", codec, f"{other.codec}, which the latents were encoded with")
    return rows


def _preview(
    task: DenoiserTask,
    recipe: DenoiserRecipe,
    autoencoder: str | Path,
    sampling: SampleConfig,
    device: "torch.device",
) -> DenoiserPreview:
    loader, dit = task.loader, task.model.dit
    return DenoiserPreview(
        wanted=wanted(loader, recipe.prompts),
        config=dit.config,
        method=Method(flow=recipe.task.flow, shift=recipe.task.shift),
        sampling=sampling,
        seed=loader.seed,
        embed=loader.embed,
        autoencoder=autoencoder,
        device=device,
        precision=recipe.train.engine.precision,
        backend=dit.backend,
    )


def _codec_of(autoencoder: str | Path) -> tuple[str, int]:
    """Its identity and the channels of its latents; training needs no memory for its weights."""
    loaded = load_codec(autoencoder)
    return loaded.codec, loaded.config.channels


def _told(loader: PackLoader) -> dict[str, object]:
    """What a run's card says of its data."""
    return {
        "clips": len(loader.rows),
        "left_out": loader.left_out,
        "captions": asdict(loader.proportions()),
    }


def _dense(captions: Mapping[str, ClipCaptions]) -> list[str]:
    found = (row.of_kind("dense") for row in captions.values())
    return [caption.text for caption in found if caption is not None]


def new_denoiser(recipe: DenoiserRecipe, *, channels: int, text_dim: int, seed: int) -> DiT:
    """An untrained denoiser whose weights depend on the seed alone."""
    import torch

    config = recipe.model(channels=channels, text_dim=text_dim)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        dit = DiT(config)
    dit.checkpoint_activations = recipe.checkpoint_activations
    dit.backend = recipe.attention
    return dit
