"""The stations that deal in words, as functions: training a captioner, captioning, embedding."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from openreel.deploy.recipes import CaptionerRecipe
from openreel.deploy.stations import clips_of, run_on_clips, run_training
from openreel.dit.checkpoint import Resume
from openreel.dit.distributed import initialise
from openreel.pipeline import table
from openreel.pipeline.clip import digest
from openreel.pipeline.errors import InputError
from openreel.pipeline.media import stream_clip
from openreel.recaption.caption import ClipCaptions
from openreel.recaption.run import RecaptionConfig, recaption_stage
from openreel.recaption.train import CaptionerTask
from openreel.recaption.weights import new_captioner


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
