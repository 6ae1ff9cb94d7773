"""What `openreel train dit RECIPE --dry-run` says: the arithmetic of layout.py in words."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from openreel.deploy.layout import (
    GIB,
    RESERVE,
    TEXT_TOKENS,
    Footprint,
    Job,
    Parameters,
    activation_bytes,
    count,
    value_bytes,
)
from openreel.deploy.recipes import DenoiserRecipe, Recipe
from openreel.packing.patches import Patch, patch_grid
from openreel.pipeline.errors import InputError
from openreel.vae.codec import Shape, folder_of, load_shape

RATE = 16
"""frames a second in which durations are told; frames are what counts"""
WIDE = (16, 9)
T5_WIDTH = 4096
"""of T5 XXL's and UMT5 XXL's features, taken where the encoder's folder is not there yet"""


@dataclass(frozen=True, kw_only=True)
class Example:
    """A sample to tell sizes with."""

    width: int
    height: int
    num_frames: int
    num_tokens: int

    @property
    def words(self) -> str:
        size = f"{self.width}x{self.height}"
        if self.num_frames == 1:
            return f"{size}, an image"
        return f"{size}, {self.num_frames} frames ({(self.num_frames - 1) / RATE:g} s at {RATE})"


def examples(whole: Recipe, pixels: Shape, patch: Patch) -> list[Example]:
    """The largest wide image and the largest wide clip that the recipe encodes."""
    area = whole.encode.max_area or 1280 * 720
    height = round(math.sqrt(area * WIDE[1] / WIDE[0]) / 2) * 2
    width = area // height // 2 * 2
    found = []
    for num_frames in (1, whole.encode.max_frames or 5 * RATE + 1):
        _, *size = pixels.latent_shape(num_frames, height, width)
        grid = patch_grid((size[0], size[1], size[2]), patch)
        example = Example(
            width=width, height=height, num_frames=num_frames, num_tokens=math.prod(grid)
        )
        found.append(example)
    return found


def text_width(spec: str, whole: Recipe) -> int:
    """E of a text encoder: its folder's, else the recipe's captioner's or T5 XXL's.

    Raises InputError for a folder that does not tell.
    """
    kind, _, folder = spec.partition(":")
    if not Path(folder).exists():
        return whole.captioner.model.width if kind == "captioner" else T5_WIDTH
    try:
        stored = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
        own = stored.get("text_config", stored)
        return int(next(own[name] for name in ("d_model", "hidden_size", "width") if name in own))
    except (OSError, ValueError, AttributeError, StopIteration) as error:
        accepted = "a folder whose config.json tells the width of its features"
        raise InputError("text", spec, accepted) from error


def pixel_shape(spec: str, whole: Recipe) -> Shape:
    """The autoencoder's extents: its folder's, else the recipe's own. Raises as load_shape does."""
    return load_shape(spec) if folder_of(spec).exists() else whole.autoencoder.model


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """A recipe's training, reckoned."""

    recipe: DenoiserRecipe
    job: Job
    counted: Parameters
    examples: list[Example]
    memory_gib: float
    assumed: tuple[str, ...]
    """of --vae and --text, those that are not there yet"""

    @property
    def num_text(self) -> int:
        """Text tokens of a pack of the largest images, which has more of them than one of clips."""
        return round(self.recipe.packer.max_tokens * self._text_share)

    @property
    def _text_share(self) -> float:
        return TEXT_TOKENS / self.examples[0].num_tokens

    @property
    def footprint(self) -> Footprint:
        return self.job.footprint(self.counted, self.recipe.packer.max_tokens, self.num_text)

    def check(self) -> None:
        """Raises InputError, with what would fit, for packs that do not."""
        memory = self.memory_gib * GIB
        if self.footprint.total <= memory:
            return
        num_tokens = self.job.fitting_tokens(self.counted, memory, self._text_share)
        where = f"of {self.memory_gib:g} GiB"
        accepted = f"at most {num_tokens} on GPUs {where}"
        if not num_tokens:
            needed = self.job.footprint(self.counted, 0, 0).total / GIB
            accepted = f"none on GPUs {where}: before the first token {needed:.1f} are needed"
        if not self.job.checkpointed:
            lighter = Job(
                config=self.job.config,
                engine=self.job.engine,
                checkpointed=True,
                gpus=self.job.gpus,
            )
            more = lighter.fitting_tokens(self.counted, memory, self._text_share)
            accepted += f"; {more} with --checkpoint-activations"
        needed = self.footprint.total / GIB
        value = f"{self.recipe.packer.max_tokens}, which takes {needed:.1f} GiB"
        raise InputError("packer.max_tokens", value, accepted)

    def lines(self) -> Iterator[str]:
        """The report."""
        yield from self._model()
        yield from self._step()
        yield from self._memory()

    def _model(self) -> Iterator[str]:
        config = self.job.config
        yield (
            f"denoiser     {self.counted.total:,} parameters: {config.depth} layers of"
            f" {config.dim}, {config.num_heads} heads, MLP {int(config.dim * config.mlp_ratio)}"
        )
        latents, text = config.latent_channels, config.text_dim
        yield f"             latents of {latents} channels, text features of {text}"
        if self.assumed:
            yield f"             assumed from the recipe, not there yet: {', '.join(self.assumed)}"

    def _step(self) -> Iterator[str]:
        gpus, engine, packer = self.job.gpus, self.job.engine, self.recipe.packer
        packs = gpus * engine.accumulation
        yield (
            f"layout       {gpus} GPUs, all data parallel; ZeRO-{engine.zero_stage},"
            f" {engine.precision}, {engine.accumulation} micro-step(s)"
        )
        yield f"a step       {packs * packer.max_tokens:,} tokens: {packs} x {packer.max_tokens:,}"
        for example in self.examples:
            in_pack = packer.max_tokens // example.num_tokens
            fits = f"{in_pack} a pack, {in_pack * packs:,} a step" if in_pack else "fits no pack"
            yield f"             {example.words}: {example.num_tokens:,} tokens, {fits}"

    def _memory(self) -> Iterator[str]:
        found, packer = self.footprint, self.recipe.packer
        width = value_bytes(self.job.engine.precision)
        other = activation_bytes(
            self.job.config,
            packer.max_tokens,
            self.num_text,
            width,
            checkpointed=not self.job.checkpointed,
        )
        how = ("without", "with") if self.job.checkpointed else ("with", "without")
        rows = {
            "weights": (found.weights, ""),
            "gradients": (found.gradients, ""),
            "optimizer": (found.optimizer, "moments, and under ZeRO the float32 master's share"),
            "average": (found.average, "float32, whole on every GPU"),
            "bucket": (found.bucket, "gradients on their way"),
            "activations": (
                found.activations,
                f"{how[1]} checkpointing; {other / GIB:.2f} {how[0]}",
            ),
            "working": (found.working, "gradients of one layer's activations"),
            "pack": (found.pack, f"latents and features, {self.num_text:,} text tokens"),
            "step": (found.gathered, "float32 weights made whole, when activations are gone"),
            "reserve": (RESERVE, "CUDA, NCCL, fragments"),
            "in all": (found.total, "the larger of backward and step"),
        }
        yield f"memory       GiB of each GPU's {self.memory_gib:g}"
        for name, (size, why) in rows.items():
            yield f"  {name:11}{size / GIB:8.2f}  {why}".rstrip()
        memory = self.memory_gib * GIB
        most = self.job.fitting_tokens(self.counted, memory, self._text_share)
        room = (memory - found.total) / GIB
        yield f"  {'left':11}{room:8.2f}  packs of up to {most:,} tokens fit"


def dry_run(
    recipe: DenoiserRecipe, whole: Recipe, *, vae: str, text: str, memory_gib: float
) -> DryRun:
    """The reckoning of a recipe's denoiser. Raises InputError for a memory of nothing.

    recipe: whole's denoiser as it was changed. vae, text: as a run names them; folders that are not
    there yet are taken to hold what the recipe makes.
    """
    if memory_gib <= 0:
        raise InputError("gpu_memory_gib", memory_gib, "above 0")
    pixels = pixel_shape(vae, whole)
    config = recipe.model(channels=pixels.channels, text_dim=text_width(text, whole))
    return DryRun(
        recipe=recipe,
        job=Job(
            config=config,
            engine=recipe.train.engine,
            checkpointed=recipe.checkpoint_activations,
            gpus=recipe.gpus,
        ),
        counted=count(config),
        examples=examples(whole, pixels, recipe.patch),
        memory_gib=memory_gib,
        assumed=tuple(
            spec
            for spec, folder in ((vae, folder_of(vae)), (text, Path(text.partition(":")[2])))
            if not folder.exists()
        ),
    )
