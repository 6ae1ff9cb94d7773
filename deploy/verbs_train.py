"""The verbs `openreel train ...`; after one, --FIELD VALUE changes its part of the recipe."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tyro.conf import Positional

from openreel.deploy.verbs import Output, Resume, Run, described, recipe, show, writable

if TYPE_CHECKING:  # a typo must not wait for torch to load
    from openreel.deploy.recipes import (
        AutoencoderRecipe,
        CaptionerRecipe,
        DenoiserRecipe,
        ExpanderRecipe,
    )


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train the captioner, the vae, the dit or the expander: see openreel train --help."""


@dataclass(frozen=True, kw_only=True)
class TrainVerb:
    """What every `openreel train` accepts; after it, --FIELD VALUE changes the recipe."""

    recipe: Positional[str]
    """demo, smoke, small or large"""
    dataset: Path
    output: Output
    """the run's folder"""
    seed: int = 0
    resume: Resume = "auto"
    """auto goes on where there is something to go on from, must insists, never refuses to"""
    dry_run: bool = False

    def defaults(self) -> Any:
        """The recipe's part that --FIELD VALUE changes."""
        raise TypeError("one of those below")

    def bind(self, changed: Any) -> Run:
        """The run with the changed recipe."""

        def run() -> None:
            if self.dry_run:
                self.plan(changed)
                return
            writable(self.output)
            self.train(changed)

        return run

    def plan(self, changed: Any) -> None:
        """Show what would run."""
        show(described(changed))

    def train(self, changed: Any) -> None:
        """Do it."""


@dataclass(frozen=True, kw_only=True)
class TrainCaptioner(TrainVerb):
    """The captioner, on clips that came with captions."""

    def defaults(self) -> "CaptionerRecipe":
        return recipe(self.recipe).captioner

    def train(self, changed: "CaptionerRecipe") -> None:
        from openreel.deploy.stations_text import train_captioner

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
class TrainExpander(TrainVerb):
    """The model that expands prompts, on the short and dense captions of the same clips."""

    def defaults(self) -> "ExpanderRecipe":
        return recipe(self.recipe).expander

    def train(self, changed: "ExpanderRecipe") -> None:
        from openreel.deploy.stations_expander import train_expander

        folder = train_expander(
            changed, self.dataset, self.output, seed=self.seed, resume=self.resume
        )
        show(f"openreel expand 'a red ball moves right' --model {folder}")


@dataclass(frozen=True, kw_only=True)
class TrainDit(TrainVerb):
    """The denoiser, on latents and captions; ends in a bundle to generate from."""

    vae: str
    """the autoencoder that the latents were encoded with: its folder, or diffusers:FOLDER"""
    text: str
    """captioner:FOLDER, t5:FOLDER, umt5:FOLDER or clip:FOLDER"""
    expander: Path | None = None
    """a folder that `openreel train expander` wrote, which goes into the bundle"""
    gpu_memory_gib: float = 80.0
    """a GPU's, for --dry-run, which says what of it the recipe takes, and refuses what can't fit"""

    def defaults(self) -> "DenoiserRecipe":
        return recipe(self.recipe).denoiser

    def plan(self, changed: "DenoiserRecipe") -> None:
        from openreel.deploy.dry_run import dry_run

        super().plan(changed)
        reckoned = dry_run(
            changed,
            recipe(self.recipe),
            vae=self.vae,
            text=self.text,
            memory_gib=self.gpu_memory_gib,
        )
        reckoned.check()
        show("\n".join(reckoned.lines()))

    def train(self, changed: "DenoiserRecipe") -> None:
        from openreel.deploy.stations_dit import train_denoiser

        bundle = train_denoiser(
            changed,
            self.dataset,
            self.output,
            autoencoder=self.vae,
            text_encoder=self.text,
            seed=self.seed,
            sampling=recipe(self.recipe).sample,
            resume=self.resume,
            expander=self.expander,
        )
        show(f"openreel generate 'a red ball moves right' --model {bundle}")
