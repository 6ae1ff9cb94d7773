"""Scenes of the procedural world as clips to caption, and what captions of them are worth.

Truth and captions go through one reader (openreel.deploy.facts), so that a caption is judged by
what it claims and never by how it is put.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from openreel.deploy.facts import Facts, agreement, facts, reversed_in_time
from openreel.deploy.world import Scene, describe, draw_scene, render
from openreel.pipeline.clip import Clip, TimedText
from openreel.recaption.decoding import Decoding, write_captions
from openreel.recaption.frames import Frames, collate, normalised, prepare
from openreel.recaption.weights import Captioner

BATCH = 32


def drawn(seed: int, count: int, *, pairs: float = 0.0, pans: float = 0.0) -> dict[str, Scene]:
    """Scenes by clip id, drawn in the world's own proportions but for two shares.

    pairs: of scenes with two objects. pans: of scenes whose camera moves.
    """
    scenes: dict[str, Scene] = {}
    for i in range(count):
        if i < pairs * count:
            scene = draw_scene(seed, i, num_objects=2)
        elif i < (pairs + pans) * count:
            tries = (draw_scene(seed, f"{i} {again}", num_objects=1) for again in itertools.count())
            scene = next(one for one in tries if one.camera != "still")
        else:
            scene = draw_scene(seed, i)
        scenes[f"{seed}-{i}"] = scene
    return scenes


def clip_of(clip_id: str, scene: Scene) -> Clip:
    """A clip whose frames are rendered when they are read."""
    truth = describe(scene)
    return Clip(
        **{"clip_id": clip_id, "video_id": "v", "uri": clip_id, "kind": "video"},
        **{"start_frame": 0, "num_frames": scene.num_frames, "start_pts": 0, "end_pts": 1},
        **{"time_base": "1/1", "fps": scene.fps, "width": scene.width, "height": scene.height},
        texts=(
            TimedText(kind="short", text=truth.short),
            TimedText(kind="dense", text=truth.dense),
        ),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Said:
    """What a captioner says of some scenes."""

    said: Sequence[Facts]
    truth: Sequence[Facts]
    clip_BE: Tensor
    """the contrastive head's features"""

    def f1(self, kind: str) -> float:
        """Of one kind of claim, over all scenes; what is said of a thing needs the right thing."""
        return agreement(zip(self.said, self.truth, strict=True), kind).f1

    def equal(
        self,
        part: Callable[[Facts], object],
        where: Callable[[Facts], bool] = lambda truth: True,
    ) -> float:
        """Share of the scenes, among those whose truth is as asked, that have a part right."""
        pairs = [(s, t) for s, t in zip(self.said, self.truth, strict=True) if where(t)]
        return float(np.mean([part(s) == part(t) for s, t in pairs]))


def colours(text: Facts) -> list[str]:
    return sorted(thing.colour for thing in text.things)


def shapes(text: Facts) -> list[str]:
    return sorted(thing.shape for thing in text.things)


def directions(text: Facts) -> list[tuple[str, str]]:
    """Which way each thing moves; two things are told apart by their colours."""
    several = len(text.things) > 1
    return sorted((thing.colour if several else "", thing.motion) for thing in text.things)


def moves(truth: Facts) -> bool:
    return any(thing.motion != "still" for thing in truth.things)


def pans(truth: Facts) -> bool:
    return truth.camera != "still"


@torch.inference_mode()
def captioned(
    captioner: Captioner,
    scenes: dict[str, Scene],
    view: Callable[[Frames], Frames],
    *,
    backwards: bool = False,
) -> Said:
    """Dense captions, greedy. view: what of a clip's frames the captioner is shown."""
    model, texts, features = captioner.model.eval(), [], []
    names = list(scenes)
    for start in range(0, len(names), BATCH):
        part = names[start : start + BATCH]
        clips = []
        for name in part:
            frames = render(scenes[name])
            frames = view(frames[::-1] if backwards else frames)
            clips.append(prepare(frames, len(frames), model.config.sight))
        frames_BTHWC, sizes_B3 = collate(clips)
        clip_BE, seen_BQE = model.encode_video(normalised(frames_BTHWC), sizes_B3)
        features.append(clip_BE)
        written = write_captions(model, captioner.tokenizer, seen_BQE, "dense", part, Decoding())
        texts += [caption.text for caption in written]
    truth = [facts(describe(scene).dense) for scene in scenes.values()]
    if backwards:
        truth = [reversed_in_time(one) for one in truth]
    return Said(said=[facts(t) for t in texts], truth=truth, clip_BE=torch.cat(features))


@torch.inference_mode()
def retrieval(captioner: Captioner, scenes: dict[str, Scene], clip_BE: Tensor) -> list[float]:
    """R@1 and R@5, caption to clip; equal captions are one query, and any of its clips a hit."""
    texts = [describe(scene).dense for scene in scenes.values()]
    queries = sorted(set(texts))
    text_QK = captioner.tokenizer.encode(queries, ["dense"] * len(queries))
    text_QE, _ = captioner.model.encode_text(text_QK)
    best_Q5 = (text_QE @ clip_BE.T).topk(5, dim=-1).indices.tolist()
    hits = [[texts[b] == query for b in best] for query, best in zip(queries, best_Q5, strict=True)]
    return [float(np.mean([any(hit[:k]) for hit in hits])) for k in (1, 5)]
