"""What ten minutes on two cores teach a captioner about motion, and what its parts are worth.

Trained from scratch with openreel's own task and trainer on scenes of the procedural world, then
judged on scenes drawn from other seeds: the captions' claims against the scenes' truth, forwards
and played backwards. Beside it, with the same trainer, scenes and seed:

    middle frame    plain CoCa, shown one frame: as many steps
    plain           VideoCoCa as in the paper, no additions: half of the steps
    temporal        with the temporal embedding alone: half of the steps

Wall time and this process's processor time are printed; on a shared machine the second is the one
to read (two cores for ten minutes are 1,200 s).
"""

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from openreel.deploy.recipes import demo
from openreel.deploy.world import Scene, render
from openreel.dit.trainer import TrainConfig, train
from openreel.pipeline.clip import Clip
from openreel.recaption.frames import Frames
from openreel.recaption.train import CaptionerTask, CaptionerTrainConfig
from openreel.recaption.videococa import tiny
from openreel.recaption.weights import Captioner, load_captioner, new_captioner
from tests.benchmarks.captions import (
    Said,
    captioned,
    clip_of,
    colours,
    directions,
    drawn,
    moves,
    pans,
    retrieval,
    shapes,
)
from tests.benchmarks.timing import report

TRAIN_SEED, TEST_SEED, PAIRS_SEED = 0, 998, 999
NUM_TRAIN, NUM_TEST, NUM_PAIRS = 6000, 400, 200
STEPS = 1200


def whole(frames: Frames) -> Frames:
    return frames


def middle(frames: Frames) -> Frames:
    return frames[len(frames) // 2][None]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A captioner to train."""

    temporal: bool = False
    stem: bool = False
    view: Callable[[Frames], Frames] = whole
    share: float = 1.0
    """of the steps"""


VARIANTS = {
    "VideoCoCa, temporal embedding and stem": Variant(temporal=True, stem=True),
    "plain CoCa, middle frame": Variant(view=middle),
    "plain VideoCoCa": Variant(share=0.5),
    "VideoCoCa, temporal embedding": Variant(temporal=True, share=0.5),
}


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A captioner and what it cost, in seconds."""

    captioner: Captioner
    steps: int
    wall: float
    processor: float


def trained(variant: Variant, scenes: dict[str, Scene], steps: int) -> Trained:
    """Rendering is part of the cost."""
    wall, processor = time.perf_counter(), time.process_time()
    clips = [clip_of(name, scene) for name, scene in scenes.items()]
    corpus = [text.text for clip in clips for text in clip.texts]
    if variant.view is middle:
        clips = [replace(clip, num_frames=1) for clip in clips]
    recipe = demo().captioner
    sizes = replace(tiny(), temporal=variant.temporal, stem=variant.stem)
    task = CaptionerTask(
        new_captioner(corpus, seed=0, sizes=sizes),
        clips,
        partial(shown, scenes, variant.view),
        CaptionerTrainConfig(variation=0.0, cache_mib=4096),
        seed=0,
    )
    steps = max(1, round(steps * variant.share))
    config = TrainConfig(
        steps=steps, engine=recipe.train.engine, ema_decay=recipe.train.ema_decay, save_every=steps
    )
    with tempfile.TemporaryDirectory() as folder:
        model = train(task, config, Path(folder), resume="never")
        captioner = load_captioner(model)
    return Trained(
        captioner=captioner,
        steps=steps,
        wall=time.perf_counter() - wall,
        processor=time.process_time() - processor,
    )


def shown(scenes: dict[str, Scene], view: Callable[[Frames], Frames], clip: Clip) -> Frames:
    return view(render(scenes[clip.clip_id]))


def figures(forwards: Said, backwards: Said, pairs: Said) -> dict[str, float]:
    """Each row's name and its figure, 0 to 1."""
    return {
        "objects F1 (colour and shape)": forwards.f1("thing"),
        "colour exact": forwards.equal(colours),
        "shape exact": forwards.equal(shapes),
        "size F1": forwards.f1("size"),
        "direction exact": forwards.equal(directions),
        "direction exact, where something moves": forwards.equal(directions, moves),
        "camera exact": forwards.equal(lambda text: text.camera),
        "camera exact, where it pans": forwards.equal(lambda text: text.camera, pans),
        "background exact": forwards.equal(lambda text: (text.shade, text.texture)),
        "whole caption right": forwards.equal(lambda text: text.claims()),
        "backwards: direction exact, where something moves": backwards.equal(directions, moves),
        "backwards: camera exact, where it pans": backwards.equal(lambda text: text.camera, pans),
        "backwards: direction and camera exact": backwards.equal(
            lambda text: (directions(text), text.camera)
        ),
        "two objects: objects F1": pairs.f1("thing"),
        "two objects: direction exact": pairs.equal(directions),
        "two objects: motion F1, bound to colour and shape": pairs.f1("motion"),
        "two objects: whole caption right": pairs.equal(lambda text: text.claims()),
    }


def rows_of(name: str, variant: Variant, steps: int) -> list[tuple[str, str, str]]:
    made = trained(variant, drawn(TRAIN_SEED, NUM_TRAIN, pairs=0.3, pans=0.2), steps)
    test, two = drawn(TEST_SEED, NUM_TEST), drawn(PAIRS_SEED, NUM_PAIRS, pairs=1.0)
    see = partial(captioned, made.captioner, view=variant.view)
    forwards = see(test)
    found = figures(forwards, see(test, backwards=True), see(two))
    first, fifth = retrieval(made.captioner, test, forwards.clip_BE)
    found |= {"retrieval R@1, caption to clip": first, "retrieval R@5": fifth}
    cost = f"{made.steps} steps, {made.wall:.0f} s wall, {made.processor:.0f} s processor"
    return [("training", name, cost), *((what, name, f"{v:.3f}") for what, v in found.items())]


def main(steps: int = STEPS) -> None:
    torch.set_num_threads(2)
    rows = []
    for name, variant in VARIANTS.items():
        rows += rows_of(name, variant, steps)
        for what, against, figure in rows[-20:]:
            print(f"{against:40} {what:52} {figure}", file=sys.stderr, flush=True)
    report("captioner", rows)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
