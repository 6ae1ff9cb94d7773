"""The verbs: what each accepts (its dataclass is its command line) and what it does.

Those of training are in verbs_train.py, of words in verbs_text.py, of making videos in
verbs_generate.py.
"""

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
class Encode:
    """Clips to latents; those that are there already, of the same autoencoder, are kept."""

    dataset: Positional[Path]
    vae: str
    """an autoencoder's folder, such as RUN/model, or diffusers:FOLDER"""
    recipe: str | None = None
    """a recipe whose limits on area and frames are kept to; None encodes at native size"""
    budget_mib: int | None = None
    """memory for activations; a frame that needs more is encoded in tiles, with the same result"""
    verify: bool = False
    """read what is there and say whether it is as it was written, and do nothing else"""
    retry_failed: bool = False
    dry_run: bool = False

    def run(self) -> None:
        from openreel.deploy.stations import encode, plan_encoding, verify_latents
        from openreel.vae.run import EncodeConfig

        if self.verify:
            show(verify_latents(self.dataset))
            return
        config = EncodeConfig() if self.recipe is None else recipe(self.recipe).encode
        if self.budget_mib is not None:
            config = replace(config, budget_mib=self.budget_mib)
        show(plan_encoding(config, self.dataset, self.vae))
        if self.dry_run:
            show(described(config))
            return
        encode(config, self.dataset, self.vae, self.retry_failed)


@dataclass(frozen=True, kw_only=True)
class Inspect:
    """The truth about a dataset, a training run or a video."""

    path: Positional[Path]
    row: str | None = None
    """of a dataset: a clip's id, whose way back to its source's bytes is shown and verified"""

    def run(self) -> None:
        from openreel.deploy.inspection import inspect

        show(inspect(existing("path", self.path), self.row))
