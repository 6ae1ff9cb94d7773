"""The demo: the whole road on this machine, ending in three videos, a contact sheet and a page.

    world/ -> dataset/ -> captioner/ -> autoencoder/ -> denoiser/ -> model/ -> videos/, index.html

Every station goes on where it stopped, so an interrupted demo is continued by the same command.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from openreel.deploy import stations, stations_dit, stations_text
from openreel.deploy.bundle import Bundle, load_bundle
from openreel.deploy.checker import PROMPTS, Score, Summary, score, summarise
from openreel.deploy.generate import Made, Order, decode, generate, read_made
from openreel.deploy.recipes import Recipe, fingerprint, recipe
from openreel.deploy.sizes import Size
from openreel.deploy.stations_dit import new_denoiser
from openreel.deploy.world_files import write_world
from openreel.dit.sample import Request, sample
from openreel.dit.weights import Denoiser
from openreel.pipeline.commit import write_text
from openreel.pipeline.curate import curate
from openreel.pipeline.errors import InputError
from openreel.pipeline.progress import progress
from openreel.vae.latent import LatentVideo

ORDERS = (
    ("a red ball moves right", "128x72"),
    ("a green triangle moves up", "96x96"),
    ("a blue bar moves down", "72x128"),
)
"""what is generated: landscape, square, portrait"""
FPS = 10.0
NUM_FRAMES = 13
CHECK_SIZE = "72x72"


@dataclass(frozen=True)
class Place:
    """Where the demo's parts lie."""

    root: Path

    @property
    def world(self) -> Path:
        return self.root / "world"

    @property
    def dataset(self) -> Path:
        return self.root / "dataset"

    @property
    def captioner(self) -> Path:
        return self.root / "captioner"

    @property
    def autoencoder(self) -> Path:
        return self.root / "autoencoder"

    @property
    def denoiser(self) -> Path:
        return self.root / "denoiser"

    @property
    def model(self) -> Path:
        return self.root / "model"

    @property
    def videos(self) -> Path:
        return self.root / "videos"

    @property
    def checks(self) -> Path:
        return self.root / "checks.json"

    @property
    def seconds(self) -> Path:
        return self.root / "seconds.json"


def run_demo(root: Path, videos: Path | None, recipe_name: str) -> None:
    """Run every station that is not done yet and write the page."""
    from openreel.deploy.demo_page import write_page

    config, place = recipe(recipe_name), Place(root)
    _same_as_before(root, videos, config)
    inputs = [place.world] if videos is None else [place.world, videos]
    world, seed = config.world, config.seed
    road: list[tuple[str, Callable[[], object]]] = [
        (
            "world",
            lambda: write_world(
                place.world, num_videos=world.num_videos, num_images=world.num_images, seed=seed
            ),
        ),
        ("curate", lambda: curate(inputs, place.dataset, config.curate, retry_failed=True)),
        (
            "train captioner",
            lambda: stations_text.train_captioner(
                config.captioner, place.dataset, place.captioner, seed=seed
            ),
        ),
        (
            "recaption",
            lambda: stations_text.recaption(
                config.recaption, place.dataset, place.captioner / "model", retry_failed=True
            ),
        ),
        (
            "train autoencoder",
            lambda: stations.train_autoencoder(
                config.autoencoder, place.dataset, place.autoencoder, seed=seed
            ),
        ),
        (
            "encode",
            lambda: stations.encode(
                config.encode, place.dataset, place.autoencoder / "model", retry_failed=True
            ),
        ),
        ("train denoiser", lambda: _train_denoiser(config, place)),
        ("generate", lambda: make_videos(config, place)),
        ("check", lambda: check(config, place)),
    ]
    for name, station in road:
        with _timed(name, place):
            station()
    write_page(place, videos, config)


def _same_as_before(root: Path, videos: Path | None, config: Recipe) -> None:
    """Raises InputError for a folder that was begun otherwise or would become its own input."""
    if videos is not None and root.resolve().is_relative_to(videos.resolve()):
        raise InputError("output", str(root), f"a folder outside the videos' folder {videos}")
    begun = root / "demo.json"
    own = {
        "videos": None if videos is None else str(videos.resolve()),
        "recipe": fingerprint(config),
    }
    if begun.exists() and (before := json.loads(begun.read_text())) != own:
        raise InputError("output", str(root), f"another folder: this one was begun with {before}")
    write_text(begun, json.dumps(own))


@contextmanager
def _timed(name: str, place: Place) -> Iterator[None]:
    """Add a station's seconds to those of earlier calls."""
    start = time.monotonic()
    try:
        yield
    finally:
        spent = read_seconds(place)
        spent[name] = spent.get(name, 0.0) + time.monotonic() - start
        write_text(place.seconds, json.dumps(spent, indent=1))


def read_seconds(place: Place) -> dict[str, float]:
    """Seconds spent in each station so far."""
    if not place.seconds.exists():
        return {}
    spent: dict[str, float] = json.loads(place.seconds.read_text())
    return spent


def _train_denoiser(config: Recipe, place: Place) -> None:
    stations_dit.train_denoiser(
        config.denoiser,
        place.dataset,
        place.denoiser,
        autoencoder=place.autoencoder / "model",
        text_encoder=f"captioner:{place.captioner / 'model'}",
        seed=config.seed,
        sampling=config.sample,
        bundle=place.model,
    )


def make_videos(config: Recipe, place: Place) -> list[Made]:
    """The three videos, in one pack; those that are there already are left as they are."""
    bundle = load_bundle(place.model)
    for path in sorted(place.videos.glob("*.latents.safetensors")):
        decode(bundle, path)
    made = {(m.prompt, m.size): m for m in read_made(place.videos)}
    orders = [
        Order(
            prompt=prompt,
            plan=bundle.costs.plan(Size.parse(size), NUM_FRAMES, FPS),
            seed=config.seed,
        )
        for prompt, size in ORDERS
        if (prompt, size) not in made
    ]
    if orders:
        with progress("generate", total=config.sample.steps) as report:
            generate(bundle, orders, place.videos, config.sample, lambda step: report())
    return read_made(place.videos)


@dataclass(frozen=True)
class Checked:
    """How a model did on the checker's prompts."""

    scores: tuple[Score, ...]
    summary: Summary


def check(config: Recipe, place: Place) -> None:
    """Score the trained and an untrained denoiser on the same prompts and noise."""
    if place.checks.exists():
        return
    bundle = load_bundle(place.model)
    dit = bundle.denoiser.dit.config
    untrained = new_denoiser(
        config.denoiser, channels=dit.latent_channels, text_dim=dit.text_dim, seed=config.seed + 1
    )
    models = {
        "trained": bundle.denoiser,
        "untrained": Denoiser(untrained.eval(), bundle.denoiser.method, {}),
    }
    results = {name: _scores(bundle, model, config, name) for name, model in models.items()}
    write_text(place.checks, json.dumps(results, indent=1))


def _scores(bundle: Bundle, model: Denoiser, config: Recipe, name: str) -> list[dict[str, Any]]:
    plan = bundle.costs.plan(Size.parse(CHECK_SIZE), NUM_FRAMES, FPS)
    empty = bundle.text_encoder.encode([""])[0]
    requests = []
    for i, prompt in enumerate(PROMPTS):
        text = bundle.expander.expand(prompt, seed=i).text
        requests.append(
            Request(
                name=f"check {i}",
                seed=config.seed,
                size=plan.latent_size,
                fps=FPS,
                text=bundle.text_encoder.encode([text])[0],
                negative=empty,
            )
        )
    with progress(f"check {name}", total=config.sample.steps) as report:
        latents = sample(model, requests, config.sample, lambda step: report())
    scores = []
    for prompt, array in zip(PROMPTS, latents, strict=True):
        video = LatentVideo(
            latents=array,
            num_frames=plan.num_frames,
            height=plan.size.height,
            width=plan.size.width,
            fps=FPS,
            codec=bundle.autoencoder.codec,
        )
        scores.append(asdict(score(bundle.autoencoder.decode_video(video), prompt)))
    return scores


def read_checks(place: Place) -> dict[str, Checked]:
    """The scores of both models."""
    stored = json.loads(place.checks.read_text())
    checked = {}
    for name, rows in stored.items():
        scores = tuple(Score(**row) for row in rows)
        checked[name] = Checked(scores, summarise(scores))
    return checked
