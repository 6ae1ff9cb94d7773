"""Dense against short captions for the denoiser: `python -m tests.benchmarks.bench_dense`.

Two arms on five seeds. Everything is the same – clips, latents, text encoder, model, first weights,
steps, order, levels and noise – but the captions: the truth of the world's scenes in short, or
dense. Then both get the demo's 24 prompts and the same noise, the short arm as they are and the
dense arm as the expander makes them of its captions, as the product does; and the demo's checker
judges the pixels.

    clips    single objects, 48 x 48, 9 frames, with the world's own pans, pillars and textures
    latents  of one tiny autoencoder, trained first on the same clips; what the checker sees of the
             true clips through it is printed
    text     an untrained captioner's text layers, whose words are those of both arms

`... bench_dense STEPS` gives both arms another budget than 2500 steps, at which both are at the
autoencoder's ceiling. Each finished (seed, arm) is kept in $OPENREEL_BENCH_DENSE (or a temporary
folder), so that the same command goes on; two run at a time, a thread each.
"""

import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from openreel.deploy.checker import PROMPTS, Summary, score, summarise
from openreel.deploy.recipes import demo
from openreel.deploy.world import Description, Scene, describe, draw_scene, render
from openreel.dit.conditioning import TaskMix
from openreel.dit.config import DiTConfig
from openreel.dit.engine import EngineConfig
from openreel.dit.flow import Flow, ShiftConfig
from openreel.dit.model import DiT
from openreel.dit.sample import Request, SampleConfig, sample
from openreel.dit.train import DenoiserTask, DenoiserTaskConfig
from openreel.dit.trainer import TrainConfig, train
from openreel.dit.weights import Denoiser, load_dit
from openreel.packing.loader import CaptionMix, PackLoader
from openreel.packing.packer import PackerConfig
from openreel.pipeline.commit import committed_file, write_text
from openreel.recaption.caption import Caption, ClipCaptions
from openreel.recaption.expand import OfflineExpander
from openreel.recaption.text import load_text_encoder
from openreel.recaption.text_store import FeatureReader
from openreel.recaption.weights import new_captioner, save_captioner
from openreel.vae.config import tiny
from openreel.vae.latent import LatentRow, LatentVideo
from openreel.vae.model import Autoencoder
from openreel.vae.train import VaeTask, VaeTrainConfig
from openreel.vae.weights import load_autoencoder
from tests.benchmarks.captions import clip_of
from tests.benchmarks.timing import report

Array = npt.NDArray[np.float32]

ARMS = ("short", "dense")
SEEDS = range(5)
CLIPS = 2000
SIZE, NUM_FRAMES, FPS = (48, 48), 9, 10.0
NOISES = 2
"""videos of each prompt"""


@dataclass(frozen=True)
class Budget:
    """What an arm may spend; the same for both."""

    steps: int = 2500
    tokens: int = 540
    """of a step, at most; a clip has 27"""
    level_mean: float = 0.5
    """of the logit of a noise level: what is asked for is decided where there is much noise"""
    learning_rate: float = 4e-3
    dim: int = 128
    depth: int = 4
    guidance: float = 3.0
    autoencoder_steps: int = 1000


@dataclass(frozen=True)
class Toy:
    """The clips, as far as both arms share them."""

    autoencoder: Autoencoder
    latents: dict[str, Array]
    said: dict[str, Description]


def scenes_of(count: int) -> dict[str, Scene]:
    """The same clips for every seed and arm."""
    return {
        f"{i:04}": draw_scene(
            0, ("dense", i), size=SIZE, fps=FPS, num_frames=NUM_FRAMES, num_objects=1
        )
        for i in range(count)
    }


def autoencoder_of(root: Path, budget: Budget) -> Path:
    """Trained once, on the demo's recipe but for the steps."""
    scenes, recipe = scenes_of(CLIPS), demo().autoencoder
    torch.manual_seed(0)
    task = VaeTask(
        Autoencoder(tiny()),
        [clip_of(name, scene) for name, scene in scenes.items()],
        lambda clip: render(scenes[clip.clip_id]),
        VaeTrainConfig(batch_pixels=1, loss=recipe.task.loss),
        seed=0,
    )
    steps = budget.autoencoder_steps
    config = TrainConfig(steps=steps, engine=recipe.train.engine, ema_decay=0.98, save_every=steps)
    return train(task, config, root / "autoencoder")


def toy(root: Path) -> Toy:
    """The clips through the trained autoencoder, which all arms share."""
    autoencoder, scenes = load_autoencoder(root / "autoencoder" / "model"), scenes_of(CLIPS)
    kept = root / "latents.npz"
    if not kept.exists():
        latents = {i: autoencoder.encode_video(render(s), FPS).latents for i, s in scenes.items()}
        with committed_file(kept) as scratch, scratch.open("wb") as file:
            np.savez(file, **latents)
    said = {i: describe(s) for i, s in scenes.items()}
    return Toy(autoencoder, dict(np.load(kept)), said)


def shown(found: Toy, latents: Array) -> npt.NDArray[np.uint8]:
    """(C, T, H, W) latents as frames."""
    size = {"num_frames": NUM_FRAMES, "height": SIZE[1], "width": SIZE[0], "fps": FPS}
    video = LatentVideo(latents=latents, codec=found.autoencoder.codec, **size)
    return found.autoencoder.decode_video(video)


def ceiling(found: Toy) -> Summary:
    """What the checker sees of the true clips through their latents."""
    moving = {
        i: said.short
        for i, said in list(found.said.items())[:400]
        if "moves" in said.short and "camera is still" in said.dense and "pillar" not in said.dense
    }
    return summarise(score(shown(found, found.latents[i]), said) for i, said in moving.items())


def captioner_spec(found: Toy, folder: Path) -> str:
    """An untrained captioner's text tower, with the words of both arms."""
    corpus = [text for said in found.said.values() for text in (said.short, said.dense)]
    captioner = new_captioner(corpus, seed=0)
    folder.mkdir(parents=True, exist_ok=True)
    weights = captioner.model.state_dict()
    save_captioner(folder, captioner.model.config, captioner.tokenizer, weights)
    return f"captioner:{folder}"


def loader(
    found: Toy, arm: str, seed: int, embed: Callable[[str], Array], budget: Budget
) -> PackLoader:
    """The clips with the captions of an arm; order and what is dropped depend on the seed alone."""
    size = {"num_frames": NUM_FRAMES, "height": SIZE[1], "width": SIZE[0], "fps": FPS}
    codec = found.autoencoder.codec
    rows = [
        LatentRow(clip_id=i, codec=codec, shape=latents.shape, **size)
        for i, latents in found.latents.items()
    ]
    captions = {
        i: ClipCaptions(
            clip_id=i, captions=(Caption(kind=arm, text=getattr(said, arm), source="world"),)
        )
        for i, said in found.said.items()
    }
    return PackLoader(
        rows,
        captions,
        read=lambda row: LatentVideo(latents=found.latents[row.clip_id], codec=codec, **size),
        embed=embed,
        patch=(1, 2, 2),
        packer=PackerConfig(max_tokens=budget.tokens, look_ahead=64),
        mix=CaptionMix(**{**dict.fromkeys(("original", *ARMS), 0.0), arm: 1.0}),
        seed=seed,
    )


def run_arm(seed: int, arm: str, folder: Path, budget: Budget) -> dict[str, Any]:
    """Train, generate, judge; the same numbers on every call."""
    started = time.process_time()
    found = toy(folder.parent)
    encoder = load_text_encoder(captioner_spec(found, folder / "text"))
    embed = FeatureReader(encoder.encode)
    flow = Flow(predicts="data")
    shift = ShiftConfig(base_tokens=4)
    none = TaskMix(image=0, prefix=0, suffix=0, both_ends=0)
    task_config = DenoiserTaskConfig(
        seed=seed, level_mean=budget.level_mean, flow=flow, shift=shift, tasks=none
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        dit = DiT(
            DiTConfig(
                latent_channels=found.autoencoder.config.channels,
                text_dim=encoder.dim,
                dim=budget.dim,
                depth=budget.depth,
                num_heads=4,
                pooled_text=True,
                shape_condition=True,
                fractional_places=True,
            )
        )
    task = DenoiserTask(dit, loader(found, arm, seed, embed, budget), task_config, card={})
    engine = EngineConfig(learning_rate=budget.learning_rate, optimizer="muon", warmup_steps=20)
    config = TrainConfig(steps=budget.steps, engine=engine, ema_decay=0.995, save_every=500)
    model = load_dit(train(task, config, folder / "run"))
    dense = sorted({said.dense for said in found.said.values()})
    expander = OfflineExpander(dense)
    prompts = {
        p: p if arm == "short" else expander.expand(p, seed=i).text for i, p in enumerate(PROMPTS)
    }
    summary = judged(found, model, prompts, embed, budget)
    return {
        "seed": seed,
        "arm": arm,
        **asdict(summary),
        "mean": (summary.colour + summary.shape + summary.direction) / 3,
        "cpu_seconds": round(time.process_time() - started),
        "example": prompts[PROMPTS[0]],
    }


def judged(
    found: Toy,
    model: Denoiser,
    prompts: dict[str, str],
    embed: Callable[[str], Array],
    budget: Budget,
) -> Summary:
    """The checker's shares over NOISES videos of each prompt; the noise is the same for both."""
    asked = [(prompt, n) for prompt in prompts for n in range(NOISES)]
    shape = next(iter(found.latents.values())).shape[1:]
    requests = [
        Request(
            name=f"{prompt} {n}",
            seed=0,
            size=shape,
            fps=FPS,
            text=embed(prompts[prompt]),
            negative=embed(""),
        )
        for prompt, n in asked
    ]
    sampling = SampleConfig(steps=16, guidance=budget.guidance)
    videos = [shown(found, latents) for latents in sample(model, requests, sampling)]
    return summarise(score(v, prompt) for v, (prompt, _) in zip(videos, asked, strict=True))


def kept(seed: int, arm: str, root: Path, budget: Budget) -> dict[str, Any]:
    """The result of a seed and arm, from its file or from a process of its own."""
    place = root / f"{seed}-{arm}"
    result = place / "result.json"
    if not result.exists():
        module, steps = "tests.benchmarks.bench_dense", str(budget.steps)
        command = [sys.executable, "-m", module, steps, str(seed), arm, str(place)]
        one = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run(command, check=True, env=one, stdout=sys.stderr)
    found: dict[str, Any] = json.loads(result.read_text())
    print(json.dumps(found), file=sys.stderr, flush=True)
    return found


def rows_of(results: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """What is printed: mean and spread over the seeds, and the paired difference."""
    rows = []
    for measure in ("mean", "colour", "shape", "direction", "all"):
        values = {arm: [r[measure] for r in results if r["arm"] == arm] for arm in ARMS}
        told = {
            arm: f"{statistics.mean(v):.3f} ± {statistics.stdev(v):.3f} "
            f"({min(v):.2f} to {max(v):.2f})"
            for arm, v in values.items()
        }
        apart = [d - s for s, d in zip(values["short"], values["dense"], strict=True)]
        won = sum(a > 0 for a in apart)
        figure = f"{told['dense']}; {statistics.mean(apart):+.3f} ± {statistics.stdev(apart):.3f}"
        figure += f", higher on {won} of {len(apart)} seeds"
        rows.append((f"{measure}, dense captions", f"short: {told['short']}", figure))
    return rows


def main(budget: Budget) -> None:
    code = json.dumps([asdict(budget), CLIPS, SIZE, NUM_FRAMES, NOISES])
    begun = hashlib.sha256(code.encode()).hexdigest()[:8]
    default = str(Path(tempfile.gettempdir()) / "openreel-bench-dense")
    root = Path(os.environ.get("OPENREEL_BENCH_DENSE", default)) / begun
    torch.set_num_threads(2)
    autoencoder_of(root, budget)
    seen = ceiling(toy(root))
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(kept, seed, arm, root, budget) for seed in SEEDS for arm in ARMS]
        results = [job.result() for job in jobs]
    top = f"{(seen.colour + seen.shape + seen.direction) / 3:.3f}"
    spent = statistics.mean(r["cpu_seconds"] for r in results)
    report(
        "dense",
        [
            ("steps of an arm", "", str(budget.steps)),
            *rows_of(results),
            ("mean, the true clips through their latents", "", top),
            ("CPU seconds of an arm", "", f"{spent:.0f}"),
        ],
    )


def one(budget: Budget, seed: str, arm: str, folder: str) -> None:
    """One seed and arm, in this process."""
    torch.set_num_threads(1)
    place = Path(folder)
    write_text(place / "result.json", json.dumps(run_arm(int(seed), arm, place, budget)))


if __name__ == "__main__":
    asked = Budget(steps=int(sys.argv[1])) if sys.argv[1:] else Budget()
    one(asked, *sys.argv[2:]) if sys.argv[2:] else main(asked)
