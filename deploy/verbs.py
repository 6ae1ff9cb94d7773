"""The verbs: what each accepts (its dataclass is its command line) and what it does."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from rich.console import Console
from tyro.conf import Positional

from openreel.pipeline.errors import InputError

if TYPE_CHECKING:  # a typo must not wait for torch to load
    from openreel.deploy.recipes import (
        AutoencoderRecipe,
        CaptionerRecipe,
        DenoiserRecipe,
        Recipe,
    )
    from openreel.pipeline.curate import CurateConfig

Run = Callable[[], None]
Output = Annotated[Path, tyro.conf.arg(aliases=("-o",))]
Resume = Literal["auto", "must", "never"]


def show(content: Any) -> None:
    """Print a result for a person."""
    Console(highlight=False, soft_wrap=True).print(content)


def recipe(name: str) -> "Recipe":
    """The recipe of a name. Raises InputError with the names there are."""
    from openreel.deploy import recipes

    return recipes.recipe(name)


def described(config: Any) -> dict[str, Any]:
    """A config as plain values."""
    from openreel.deploy import recipes

    return recipes.described(config)


def existing(field: str, path: Path) -> Path:
    """Raises InputError when a path is missing."""
    if not path.exists():
        raise InputError(field, str(path), "a path that exists")
    return path


def writable(folder: Path) -> Path:
    """Make an output folder. Raises InputError when nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(
            "output", str(folder), f"a folder to write to ({error.strerror})"
        ) from error
    return folder


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """What is installed, what will be used, what is missing."""

    def run(self) -> None:
        from openreel.deploy.doctor import examine

        findings = list(examine(Path.cwd()))
        for finding in findings:
            show(f"{'ok  ' if finding.ok else 'MISS'}  {finding.what:16} {finding.found}")
        if not all(f.ok for f in findings):
            missing = ", ".join(f.what for f in findings if not f.ok)
            raise InputError("installation", f"without {missing}", "all of the above")


@dataclass(frozen=True, kw_only=True)
class Demo:
    """The whole road on this machine: curate, recaption, encode, train, generate, one page."""

    videos: Path | None = None
    """a folder of your own videos, added to the procedural world"""
    output: Output = Path("demo-out")
    """where everything goes; the same command with the same folder goes on"""
    recipe: str = "demo"
    """demo, or smoke for a trial in a minute whose pictures are noise"""

    def run(self) -> None:
        from openreel.deploy.demo import run_demo

        videos = None if self.videos is None else existing("videos", self.videos)
        run_demo(writable(self.output), videos, self.recipe)


@dataclass(frozen=True, kw_only=True)
class Curate:
    """Raw videos and images to the sources, videos and clips tables; after it, --FIELD VALUE
    changes the recipe, such as --filters.min-motion 0.01 or --copies.enabled."""

    inputs: Positional[tuple[str, ...]]
    """folders, files, manifests (.csv, .jsonl, .parquet), s3:// and gs:// URIs"""
    output: Output
    """the dataset's folder"""
    recipe: str | None = None
    """a recipe to begin with instead of the defaults"""
    retry_failed: bool = False
    preview: int = 0
    """curate this many of the files, show what would become of them, keep nothing"""
    dry_run: bool = False
    """list the files, print the resolved configuration and do nothing"""

    def defaults(self) -> "CurateConfig":
        """What --FIELD VALUE changes."""
        from openreel.pipeline.curate import CurateConfig

        return CurateConfig() if self.recipe is None else recipe(self.recipe).curate

    def bind(self, changed: "CurateConfig") -> Run:
        """The run with the changed recipe."""

        def run() -> None:
            from openreel.deploy.curation import planned, previewed
            from openreel.pipeline.curate import curate
            from openreel.pipeline.report import rendered, report

            if self.dry_run:
                show(planned(self.inputs, changed))
            elif self.preview:
                show(previewed(self.inputs, changed, self.preview))
            else:
                curate(self.inputs, writable(self.output), changed, retry_failed=self.retry_failed)
                show(rendered(report(self.output)))

        return run


@dataclass(frozen=True, kw_only=True)
class Recaption:
    """Clips to captions."""

    dataset: Positional[Path]
    captioner: Path
    """a captioner's folder, such as RUN/model"""
    recipe: str = "demo"
    retry_failed: bool = False
    dry_run: bool = False

    def run(self) -> None:
        from openreel.deploy.stations import clips_of, recaption

        config = recipe(self.recipe).recaption
        if self.dry_run:
            show(described(config) | {"clips": len(clips_of(self.dataset))})
            return
        recaption(config, self.dataset, self.captioner, self.retry_failed)


@dataclass(frozen=True, kw_only=True)
class Encode:
    """Clips to latents."""

    dataset: Positional[Path]
    vae: Path
    """an autoencoder's folder, such as RUN/model"""
    recipe: str | None = None
    """a recipe whose limits on area and frames are kept to; None encodes at native size"""
    retry_failed: bool = False
    dry_run: bool = False

    def run(self) -> None:
        from openreel.deploy.stations import clips_of, encode
        from openreel.vae.run import EncodeConfig

        config = EncodeConfig() if self.recipe is None else recipe(self.recipe).encode
        if self.dry_run:
            show(described(config) | {"clips": len(clips_of(self.dataset))})
            return
        encode(config, self.dataset, self.vae, self.retry_failed)


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train the captioner, the vae or the dit: see openreel train --help."""


@dataclass(frozen=True, kw_only=True)
class TrainVerb:
    """What every `openreel train` accepts; after it, --FIELD VALUE changes the recipe."""

    recipe: Positional[str]
    """demo, smoke or small"""
    dataset: Path
    output: Output
    """the run's folder"""
    seed: int = 0
    resume: Resume = "auto"
    """auto goes on where there is something to go on from, must insists, never refuses to"""
    dry_run: bool = False

    def defaults(self) -> Any:
        """The recipe's part that --FIELD VALUE changes."""
        raise TypeError("one of the three")

    def bind(self, changed: Any) -> Run:
        """The run with the changed recipe."""

        def run() -> None:
            if self.dry_run:
                show(described(changed))
                return
            writable(self.output)
            self.train(changed)

        return run

    def train(self, changed: Any) -> None:
        """Do it."""


@dataclass(frozen=True, kw_only=True)
class TrainCaptioner(TrainVerb):
    """The captioner, on clips that came with captions."""

    def defaults(self) -> "CaptionerRecipe":
        return recipe(self.recipe).captioner

    def train(self, changed: "CaptionerRecipe") -> None:
        from openreel.deploy.stations import train_captioner

        train_captioner(changed, self.dataset, self.output, seed=self.seed, resume=self.resume)


@dataclass(frozen=True, kw_only=True)
class TrainVae(TrainVerb):
    """The autoencoder, on the clips' pixels."""

    def defaults(self) -> "AutoencoderRecipe":
        return recipe(self.recipe).autoencoder

    def train(self, changed: "AutoencoderRecipe") -> None:
        from openreel.deploy.stations import train_autoencoder

        train_autoencoder(changed, self.dataset, self.output, seed=self.seed, resume=self.resume)


@dataclass(frozen=True, kw_only=True)
class TrainDit(TrainVerb):
    """The denoiser, on latents and captions; ends in a bundle to generate from."""

    vae: Path
    """the autoencoder that the latents were encoded with"""
    text: str
    """captioner:FOLDER or t5:FOLDER"""

    def defaults(self) -> "DenoiserRecipe":
        return recipe(self.recipe).denoiser

    def train(self, changed: "DenoiserRecipe") -> None:
        from openreel.deploy.stations import train_denoiser

        bundle = train_denoiser(
            changed,
            self.dataset,
            self.output,
            autoencoder=self.vae,
            text_encoder=self.text,
            seed=self.seed,
            sampling=recipe(self.recipe).sample,
            resume=self.resume,
        )
        show(f"openreel generate 'a red ball moves right' --model {bundle}")


@dataclass(frozen=True, kw_only=True)
class Generate:
    """A prompt to a video of exactly the size asked for."""

    prompt: Positional[str]
    model: Path = Path("demo-out/model")
    """a bundle's folder"""
    size: str = "128x72"
    """WIDTHxHEIGHT in pixels"""
    seconds: float | None = None
    frames: int | None = None
    fps: float = 10.0
    seed: int = 0
    steps: int | None = None
    guidance: float | None = None
    expand: bool = True
    """make the prompt look like the training captions"""
    output: Output = Path("videos")
    dry_run: bool = False
    """print the plan and its cost without loading weights"""

    def run(self) -> None:
        from openreel.deploy.bundle import load_bundle, load_costs
        from openreel.deploy.generate import Order, generate
        from openreel.deploy.sizes import Size, available_memory, frames_for
        from openreel.pipeline.progress import progress

        if not self.prompt.strip():
            raise InputError("prompt", self.prompt, "some words")
        size = Size.parse(self.size)
        seconds = 1.7 if self.seconds is None and self.frames is None else self.seconds
        num_frames = frames_for(seconds, self.frames, self.fps)
        costs = load_costs(self.model)
        plan = costs.checked(size, num_frames, self.fps, available_memory())
        show(plan.words)
        if self.dry_run:
            return
        bundle = load_bundle(self.model)
        config = replace(
            bundle.sample,
            steps=bundle.sample.steps if self.steps is None else self.steps,
            guidance=bundle.sample.guidance if self.guidance is None else self.guidance,
        )
        writable(self.output)
        order = Order(prompt=self.prompt, plan=plan, seed=self.seed, expand=self.expand)
        with progress("sample", total=config.steps) as report:
            made = generate(bundle, [order], self.output, config, lambda step: report())
        show(f"{made[0].video}  (sidecar {made[0].sidecar.name})")


@dataclass(frozen=True, kw_only=True)
class Decode:
    """Finish videos whose latents were made but not yet decoded or written."""

    latents: Positional[tuple[Path, ...]]
    """NAME.latents.safetensors, as `openreel generate` leaves them when it is interrupted"""
    model: Path = Path("demo-out/model")

    def run(self) -> None:
        from openreel.deploy.bundle import load_bundle
        from openreel.deploy.generate import decode

        bundle = load_bundle(self.model)
        for path in self.latents:
            show(str(decode(bundle, path).video))


@dataclass(frozen=True, kw_only=True)
class Inspect:
    """The truth about a dataset, a training run or a video."""

    path: Positional[Path]
    row: str | None = None
    """of a dataset: a clip's id, whose way back to its source's bytes is shown and verified"""

    def run(self) -> None:
        from openreel.deploy.inspection import inspect

        show(inspect(existing("path", self.path), self.row))
