"""The verbs that make videos."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

from tyro.conf import Positional

from openreel.deploy.expanders import ExpandOptions, expanded
from openreel.deploy.verbs import Output, show, writable
from openreel.deploy.verbs_expand import readable
from openreel.pipeline.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Generate(ExpandOptions):
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
        readable("prompt", self.prompt)
        size = Size.parse(self.size)
        seconds = 1.7 if self.seconds is None and self.frames is None else self.seconds
        num_frames = frames_for(seconds, self.frames, self.fps)
        costs = load_costs(self.model)
        plan = costs.checked(size, num_frames, self.fps, available_memory())
        show(plan.words)
        if self.dry_run:
            return
        # Before the bundle: a language model must not take the denoiser's memory.
        expansion = expanded(self, self.prompt, seed=self.seed, folder=self.model)
        bundle = load_bundle(self.model)
        config = replace(
            bundle.sample,
            steps=bundle.sample.steps if self.steps is None else self.steps,
            guidance=bundle.sample.guidance if self.guidance is None else self.guidance,
        )
        writable(self.output)
        order = Order(prompt=self.prompt, plan=plan, seed=self.seed, expansion=expansion)
        with progress("sample", total=config.steps) as report:
            made = generate(bundle, [order], self.output, config, lambda step: report())
        if expansion.status == "fell back":
            print(f"prompt not expanded: {expansion.reason}", file=sys.stderr)
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
