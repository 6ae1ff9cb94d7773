"""Generation: prompts of any sizes in one pack -> latents on disk -> verified MP4s with sidecars.

Nothing is lost on the way: latents are committed before decoding begins and go only when the video
has been probed; `openreel decode` finishes from them.

    NAME.latents.safetensors   after sampling, until the video is verified
    NAME.mp4                   probed under a temporary name, then renamed
    NAME.json                  the sidecar: everything needed to make it again
"""

import hashlib
import importlib.metadata
import json
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from openreel.deploy.bundle import Bundle
from openreel.deploy.sizes import Plan
from openreel.dit.sample import Request, SampleConfig, sample
from openreel.pipeline.commit import committed_file, sha256, write_text
from openreel.pipeline.errors import InputError
from openreel.pipeline.media import write_video
from openreel.recaption.expansion import Expansion
from openreel.vae.latent import LatentVideo


@dataclass(frozen=True, kw_only=True)
class Order:
    """One video that a person asked for."""

    prompt: str
    plan: Plan
    seed: int
    expansion: Expansion | None = None
    """made beforehand, or None: by the bundle's expander"""


@dataclass(frozen=True, kw_only=True)
class Made:
    """One video that was made."""

    video: Path
    sidecar: Path
    facts: dict[str, Any]
    """the sidecar's content"""

    @property
    def prompt(self) -> str:
        return str(self.facts["prompt"])

    @property
    def size(self) -> str:
        return str(self.facts["size"])


def read_made(folder: Path) -> list[Made]:
    """The finished videos of a folder: those whose sidecar and file are both there."""
    made = []
    for sidecar in sorted(folder.glob("*.json")):
        facts = json.loads(sidecar.read_text())
        video = sidecar.with_name(facts["video"])
        if video.exists():
            made.append(Made(video=video, sidecar=sidecar, facts=facts))
    return made


def tidy(prompt: str, limit: int = 48) -> str:
    """A file name from a prompt: letters and digits of any script, no path, never empty."""
    text = unicodedata.normalize("NFKC", prompt).lower()
    words = re.findall(r"[^\W_]+", text)
    name = "-".join(words)[:limit].strip("-")
    while len(name.encode()) > 120:
        name = name[:-1]
    return name or "video"


def free_name(folder: Path, order: Order) -> str:
    """A name in folder that no earlier output has."""
    size = order.plan.size
    base = f"{tidy(order.prompt)}-{size}-seed{order.seed}"
    taken = (".mp4", ".json", ".latents.safetensors")
    for count in range(1, 100_000):
        name = base if count == 1 else f"{base}-{count}"
        if not any((folder / f"{name}{suffix}").exists() for suffix in taken):
            return name
    raise InputError("output", str(folder), "a folder with fewer videos of one name")


def generate(
    bundle: Bundle,
    orders: Sequence[Order],
    folder: Path,
    config: SampleConfig,
    on_step: Callable[[int], None] | None = None,
) -> list[Made]:
    """Make the videos of all orders, denoised together in one pack, under folder."""
    folder.mkdir(parents=True, exist_ok=True)
    expansions = [_expansion(bundle, order) for order in orders]
    requests = [_request(bundle, o, e) for o, e in zip(orders, expansions, strict=True)]
    latents = sample(bundle.denoiser, requests, config, on_step)
    waiting = []
    for order, expansion, array in zip(orders, expansions, latents, strict=True):
        path = folder / f"{free_name(folder, order)}.latents.safetensors"
        _write_latents(path, array, _sidecar(bundle, order, expansion, config))
        waiting.append(path)
    return [decode(bundle, path) for path in waiting]


def _expansion(bundle: Bundle, order: Order) -> Expansion:
    return order.expansion or bundle.expander.expand(order.prompt, seed=order.seed)


def _request(bundle: Bundle, order: Order, expansion: Expansion) -> Request:
    text, negative = bundle.text_encoder.encode([expansion.text, ""])
    return Request(
        name="video",
        seed=order.seed,
        size=order.plan.latent_size,
        fps=order.plan.fps if order.plan.num_frames > 1 else 0.0,
        text=text,
        negative=negative,
    )


def _sidecar(
    bundle: Bundle, order: Order, expansion: Expansion, config: SampleConfig
) -> dict[str, Any]:
    plan = order.plan
    return {
        "prompt": order.prompt,
        "expansion": asdict(expansion),
        "size": str(plan.size),
        "size_in_words": plan.size.words,
        "width": plan.size.width,
        "height": plan.size.height,
        "num_frames": plan.num_frames,
        "fps": plan.fps,
        "seed": order.seed,
        "sampling": asdict(config),
        "model": {
            "codec": bundle.autoencoder.codec,
            "text_encoder": bundle.text_encoder.identity,
            "denoiser": sha256(bundle.folder / "denoiser" / "model.safetensors"),
        },
        "software": f"openreel {importlib.metadata.version('openreel')}",
    }


def _write_latents(path: Path, latents: npt.NDArray[np.float32], sidecar: dict[str, Any]) -> None:
    with committed_file(path) as scratch:
        tensors = {"latents": np.ascontiguousarray(latents)}
        save_file(tensors, scratch, metadata={"sidecar": json.dumps(sidecar)})


def read_latents(path: Path) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
    """Latents that wait to be decoded, and their sidecar. Raises InputError for another file."""
    try:
        with safe_open(path, framework="numpy") as file:
            sidecar: dict[str, Any] = json.loads(file.metadata()["sidecar"])
            return file.get_tensor("latents"), sidecar
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        accepted = f"a NAME.latents.safetensors that `openreel generate` left ({error})"
        raise InputError("latents", str(path), accepted) from error


def decode(bundle: Bundle, path: Path) -> Made:
    """Latents -> a verified video and its sidecar; the latents go last."""
    latents, sidecar = read_latents(path)
    video = LatentVideo(
        latents=latents,
        num_frames=sidecar["num_frames"],
        height=sidecar["height"],
        width=sidecar["width"],
        fps=sidecar["fps"],
        codec=sidecar["model"]["codec"],
    )
    frames = bundle.autoencoder.decode_video(video)
    base = path.name.removesuffix(".latents.safetensors")
    target, sidecar_path = path.with_name(f"{base}.mp4"), path.with_name(f"{base}.json")
    public = {k: sidecar[k] for k in ("size", "seed", "sampling", "model", "software")}
    public["prompt_sha256"] = hashlib.sha256(sidecar["prompt"].encode()).hexdigest()
    write_video(
        target,
        frames,
        fps=sidecar["fps"],
        metadata={"title": "AI-generated video", "comment": json.dumps(public)},
    )
    facts = {**sidecar, "video": target.name}
    write_text(sidecar_path, json.dumps(facts, indent=1))
    path.unlink()
    return Made(video=target, sidecar=sidecar_path, facts=facts)
