"""The road's stations as functions: what the command line's verbs and the demo both call.

Here what stations share, and those of pixels; stations_text.py has those of words, stations_dit.py
the denoiser's. Each reads tables or folders, writes one, and goes on where it stopped when it is
called again.
"""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from openreel.deploy.previews_vae import AutoencoderPreview
from openreel.deploy.recipes import (
    AutoencoderRecipe,
    fingerprint,
    lasting,
)
from openreel.dit.checkpoint import Resume
from openreel.dit.distributed import initialise
from openreel.dit.task import Preview, Task
from openreel.dit.trainer import TrainConfig, train
from openreel.pipeline import table
from openreel.pipeline.clip import Clip, digest
from openreel.pipeline.commit import write_text
from openreel.pipeline.curate import usable_clips
from openreel.pipeline.errors import InputError
from openreel.pipeline.media import read_clip
from openreel.pipeline.progress import note, progress
from openreel.pipeline.stage import Stage, run_stage
from openreel.vae.codec import load_codec
from openreel.vae.latent import LatentRow
from openreel.vae.run import (
    EncodeConfig,
    damaged,
    encode_stage,
    give_up,
    plan_clip,
    scaled_size,
)
from openreel.vae.train import VaeTask, new_autoencoder


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
    preview: Preview | None = None,
) -> Path:
    """Train a task under a run's folder, which remembers what it was begun with.

    inputs: what the result depends on beside the recipe, such as the seed and the data's digest.
    preview: what is shown on the way.
    Raises InputError when a run is to be continued with another recipe or other inputs.
    """
    card = run / "recipe.json"
    own = {"recipe": lasting(recipe), **inputs}
    if card.exists():
        begun = json.loads(card.read_text())
        for part, value in own.items():
            if begun.get(part) != value:
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

        return train(task, config, run, resume=resume, on_step=on_step, preview=preview)


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
    for sentence in task.left_out if ranks.is_first else ():
        note("train vae", f"without {sentence}")
    inputs = {"seed": seed, "data": digest(*(clip.clip_id for clip in clips))}
    preview = AutoencoderPreview(task=task)
    return run_training("vae", recipe, task, recipe.train, run, resume, inputs, preview)


def read_scaled(clip: Clip, config: EncodeConfig) -> npt.NDArray[np.uint8]:
    """A clip's frames, (T, H, W, 3), as large as they will be encoded."""
    return read_clip(clip, size=scaled_size(clip, config), max_frames=config.max_frames)


def plan_encoding(config: EncodeConfig, dataset: Path, autoencoder: str | Path) -> str:
    """What encoding a dataset takes, for a person.

    Raises InputError if there is no autoencoder, and for the clip that the budget is too small for.
    """
    model, clips = load_codec(autoencoder), clips_of(dataset)
    # The longest of each size: of the others none takes more.
    longest: dict[tuple[int, int], Clip] = {}
    for clip in clips:
        known = longest.setdefault((clip.width, clip.height), clip)
        if clip.num_frames > known.num_frames:
            longest[clip.width, clip.height] = clip
    plans = [(plan_clip(model, clip, config), clip) for clip in longest.values()]
    plan, clip = max(plans, key=lambda one: one[1].width * one[1].height)
    return (
        f"{len(clips)} clips of {len(plans)} sizes, codec {model.codec}, {config.budget_mib} MiB; "
        f"the largest, {clip.width}x{clip.height}: {plan.words}"
    )


def encode(
    config: EncodeConfig, dataset: Path, autoencoder: str | Path, retry_failed: bool = False
) -> None:
    """Write latents of every usable clip into DATASET/latents."""
    folder = dataset / "latents"
    run_on_clips(encode_stage(autoencoder, folder, config), dataset, folder, retry_failed)


def verify_latents(dataset: Path) -> str:
    """Read every file of latents; rows whose files are damaged become failed ones.

    Raises InputError, in one line, if there are any.
    """
    folder = dataset / "latents"
    bad = damaged(folder)
    if bad:
        give_up(folder, bad)
        raise InputError(
            f"{len(bad)} files of latents",
            bad[0][1],
            "files that are as they were written; --retry-failed makes them again",
        )
    return f"{len(table.usable(folder, LatentRow))} files of latents are as they were written"
