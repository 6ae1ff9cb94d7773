"""The road's stations as functions: what the command line's verbs and the demo both call.

Each reads tables or folders, writes one, and goes on where it stopped when it is called again.
"""

import json
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from openreel.deploy.bundle import write_bundle
from openreel.deploy.recipes import (
    AutoencoderRecipe,
    CaptionerRecipe,
    DenoiserRecipe,
    described,
    fingerprint,
    lasting,
)
from openreel.dit.checkpoint import Resume
from openreel.dit.config import DiTConfig
from openreel.dit.distributed import initialise
from openreel.dit.model import DiT
from openreel.dit.sample import SampleConfig
from openreel.dit.train import DenoiserTask
from openreel.dit.trainer import Task, TrainConfig, train
from openreel.packing.loader import PackLoader
from openreel.pipeline import table
from openreel.pipeline.clip import Clip, digest
from openreel.pipeline.commit import write_text
from openreel.pipeline.curate import usable_clips
from openreel.pipeline.errors import InputError
from openreel.pipeline.media import read_clip, stream_clip
from openreel.pipeline.progress import progress
from openreel.pipeline.stage import Stage, run_stage
from openreel.recaption.caption import ClipCaptions
from openreel.recaption.run import RecaptionConfig, recaption_stage
from openreel.recaption.text import TextEncoder, load_text_encoder
from openreel.recaption.train import CaptionerTask
from openreel.recaption.weights import new_captioner
from openreel.vae.latent import LatentRow
from openreel.vae.model import Autoencoder
from openreel.vae.run import EncodeConfig, encode_stage, read_latent, scaled_size
from openreel.vae.train import VaeTask, new_autoencoder
from openreel.vae.weights import load_autoencoder


def clips_of(dataset: Path) -> list[Clip]:
    """The usable clips of a dataset. Raises InputError when it has none."""
    clips = usable_clips(dataset)
    if not clips:
        raise InputError("dataset", str(dataset), "a dataset with at least one usable clip")
    return clips


def run_on_clips(
    stage: Stage[Clip, Any], dataset: Path, folder: Path, retry_failed: bool = False
) -> None:
    """Run a stage over a dataset's usable clips, with progress."""
    clips = clips_of(dataset)
    with progress(stage.name, total=len(clips)) as report:
        run_stage(
            stage,
            clips,
            folder,
            retry_failed=retry_failed,
            on_row=lambda key, status: report(),
        )


def run_training(
    name: str,
    recipe: Any,
    task: Task,
    config: TrainConfig,
    run: Path,
    resume: Resume,
    inputs: Mapping[str, object],
) -> Path:
    """Train a task under a run's folder, which remembers what it was begun with.

    inputs: what the result depends on beside the recipe, such as the seed and the data's digest.
    Raises InputError when a run is to be continued with another recipe or other inputs.
    """
    card = run / "recipe.json"
    own = {"recipe": lasting(recipe), **inputs}
    if card.exists():
        begun = json.loads(card.read_text())
        for part, value in own.items():
            if begun[part] != value:
                asked = fingerprint(value) if part == "recipe" else value
                accepted = f"what {run} was begun with, or another folder"
                raise InputError(part, asked, accepted)
    write_text(card, json.dumps(own, indent=1))
    with progress(f"train {name}", total=config.steps) as report:
        reported = 0

        def on_step(step: int, figures: dict[str, float]) -> None:
            nonlocal reported
            report(step - reported, loss=figures["loss"])
            reported = step

        return train(task, config, run, resume=resume, on_step=on_step)


def train_captioner(
    recipe: CaptionerRecipe, dataset: Path, run: Path, *, seed: int, resume: Resume = "auto"
) -> Path:
    """Train on the clips that came with texts; returns the captioner's folder."""
    ranks = initialise(recipe.train.timeout_minutes)
    clips = clips_of(dataset)
    corpus = [text.text for clip in clips for text in clip.texts]
    if not corpus:
        raise InputError(
            "dataset", str(dataset), "clips with captions: a captions.jsonl beside the videos"
        )
    task = CaptionerTask(
        new_captioner(corpus, seed=seed),
        clips,
        stream_clip,
        recipe.task,
        seed=seed,
        rank=ranks.rank,
        world_size=ranks.world_size,
    )
    data = digest(*((clip.clip_id, text.text) for clip in clips for text in clip.texts))
    inputs = {"seed": seed, "data": data}
    return run_training("captioner", recipe, task, recipe.train, run, resume, inputs)


def recaption(
    config: RecaptionConfig, dataset: Path, captioner: Path, retry_failed: bool = False
) -> None:
    """Write captions of every usable clip into DATASET/captions."""
    run_on_clips(recaption_stage(captioner, config), dataset, dataset / "captions", retry_failed)


def train_autoencoder(
    recipe: AutoencoderRecipe, dataset: Path, run: Path, *, seed: int, resume: Resume = "auto"
) -> Path:
    """Train on the usable clips' pixels; returns the autoencoder's folder."""
    ranks = initialise(recipe.train.timeout_minutes)
    clips = clips_of(dataset)
    task = VaeTask(
        new_autoencoder(recipe.model, seed=seed),
        clips,
        partial(read_scaled, config=recipe.read),
        recipe.task,
        seed=seed,
        rank=ranks.rank,
        world_size=ranks.world_size,
    )
    inputs = {"seed": seed, "data": digest(*(clip.clip_id for clip in clips))}
    return run_training("vae", recipe, task, recipe.train, run, resume, inputs)


def read_scaled(clip: Clip, config: EncodeConfig) -> npt.NDArray[np.uint8]:
    """A clip's frames, (T, H, W, 3), as large as they will be encoded."""
    return read_clip(clip, size=scaled_size(clip, config), max_frames=config.max_frames)


def encode(
    config: EncodeConfig, dataset: Path, autoencoder: Path, retry_failed: bool = False
) -> None:
    """Write latents of every usable clip into DATASET/latents."""
    folder = dataset / "latents"
    run_on_clips(encode_stage(autoencoder, folder, config), dataset, folder, retry_failed)


def captions_of(dataset: Path) -> Mapping[str, ClipCaptions]:
    """The captions of each clip."""
    return {row.clip_id: row for row in table.usable(dataset / "captions", ClipCaptions)}


def embedder(text_encoder: Any) -> Callable[[str], npt.NDArray[np.float32]]:
    """Text features, each text encoded once."""

    @lru_cache(maxsize=100_000)
    def embed(text: str) -> npt.NDArray[np.float32]:
        features: npt.NDArray[np.float32] = text_encoder.encode([text])[0]
        return features

    return embed


def train_denoiser(
    recipe: DenoiserRecipe,
    dataset: Path,
    run: Path,
    *,
    autoencoder: Path,
    text_encoder: str,
    seed: int,
    sampling: SampleConfig,
    bundle: Path | None = None,
    resume: Resume = "auto",
) -> Path:
    """Train on latents and captions; returns the bundle's folder, ready to generate from.

    bundle: where it goes; None is RUN/bundle. sampling: the bundle's defaults.
    """
    ranks = initialise(recipe.train.timeout_minutes)
    codec, text = load_autoencoder(autoencoder), load_text_encoder(text_encoder)
    latents, captions = table.usable(dataset / "latents", LatentRow), captions_of(dataset)
    other = next((row for row in latents if row.codec != codec.codec), None)
    if other is not None:
        raise InputError("vae", codec.codec, f"{other.codec}, which the latents were encoded with")
    loader = PackLoader(
        latents,
        captions,
        read=partial(read_latent, folder=dataset / "latents"),
        embed=embedder(text),
        patch=recipe.patch,
        packer=recipe.packer,
        mix=recipe.mix,
        seed=seed,
        rank=ranks.rank,
        world_size=ranks.world_size,
    )
    said = [(row.clip_id, row.sha256, captions[row.clip_id].captions) for row in loader.rows]
    inputs = {"seed": seed, "data": digest(*said), **identities(codec, text)}
    card = {
        **identities(codec, text),
        "recipe": described(recipe),
        "clips": len(loader.rows),
        "too_long": loader.too_long,
        "uncaptioned": loader.uncaptioned,
    }
    dit = new_denoiser(recipe, channels=codec.config.channels, text_dim=text.dim, seed=seed)
    task = DenoiserTask(dit, loader, recipe.task, card=card)
    model = run_training("dit", recipe, task, recipe.train, run, resume, inputs)
    bundle = bundle or run / "bundle"
    if ranks.is_first and not bundle.exists():
        dense = (row.of_kind("dense") for row in captions.values())
        write_bundle(
            bundle,
            denoiser=model,
            autoencoder=autoencoder,
            text_encoder=text_encoder,
            corpus=[caption.text for caption in dense if caption is not None],
            sample=sampling,
        )
    return bundle


def identities(codec: Autoencoder, text: TextEncoder) -> dict[str, str]:
    """What a denoiser's latents and prompts must be made with."""
    return {"codec": codec.codec, "text_encoder": text.identity}


def new_denoiser(recipe: DenoiserRecipe, *, channels: int, text_dim: int, seed: int) -> DiT:
    """An untrained denoiser whose weights depend on the seed alone."""
    import torch

    config = DiTConfig(
        latent_channels=channels,
        text_dim=text_dim,
        dim=recipe.dim,
        depth=recipe.depth,
        num_heads=recipe.num_heads,
        patch=recipe.patch,
        windows=recipe.windows,
        pooled_text=recipe.pooled_text,
        shape_condition=recipe.shape_condition,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        dit = DiT(config)
    dit.checkpoint_activations = recipe.checkpoint_activations
    dit.backend = recipe.attention
    return dit
