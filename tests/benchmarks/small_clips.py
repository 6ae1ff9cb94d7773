"""Small real clips with known words, and captioners for them, for benchmarks of recaptioning."""

from dataclasses import replace
from pathlib import Path

from openreel.deploy.world import describe, draw_scene, render
from openreel.pipeline import table
from openreel.pipeline.clip import Clip, TimedText, digest
from openreel.pipeline.curate import CLIPS
from openreel.pipeline.media import Span, probe, write_video
from openreel.recaption.tokenizer import CaptionTokenizer
from openreel.recaption.videococa import VideoCoCa, VideoCoCaConfig, tiny
from openreel.recaption.weights import save_captioner

WORDS = 400
"""scenes whose sentences make a captioner's vocabulary"""


def small_clips(folder: Path, count: int, seed: int = 0) -> list[Clip]:
    """Scenes of the procedural world, an MP4 each, with their truth."""
    return [_clip(folder / f"{i:04d}.mp4", seed, i) for i in range(count)]


def _clip(path: Path, seed: int, index: int) -> Clip:
    path.parent.mkdir(parents=True, exist_ok=True)
    scene = draw_scene(seed, index, num_frames=None)
    if not path.exists():
        write_video(path, render(scene), fps=scene.fps, crf=12)
    span, said = Span.whole(probe(path)), describe(scene)
    return Clip(
        clip_id=digest("clip", seed, index),
        video_id=digest("video", seed, index),
        uri=str(path),
        kind="video",
        start_frame=0,
        num_frames=span.num_frames,
        start_pts=span.start_pts,
        end_pts=span.end_pts,
        time_base=span.time_base,
        fps=scene.fps,
        width=span.width,
        height=span.height,
        container=span.container,
        texts=(TimedText(kind="original", text=said.dense),),
    )


def dataset_of(folder: Path, clips: list[Clip]) -> Path:
    """A dataset's folder that holds these clips."""
    table.create(folder / CLIPS, stage="clips", key="clip_id", fingerprint={})
    table.append(folder / CLIPS, clips)
    return folder


def untrained(folder: Path, *, larger: bool = False) -> Path:
    """A captioner with random weights: the tiny one, or one of some 25 million parameters."""
    import torch

    said = [describe(draw_scene(1, i)) for i in range(WORDS)]
    texts = sorted({text for one in said for text in (one.short, one.dense)})
    tokenizer = CaptionTokenizer.fit(texts, context_length=32)
    config = tiny(tokenizer.vocab_size, tokenizer.context_length)
    if larger:
        config = _larger(config)
    torch.manual_seed(0)
    model = VideoCoCa(config)
    folder.mkdir(parents=True, exist_ok=True)
    save_captioner(folder, config, tokenizer, model.state_dict())
    return folder


def _larger(config: VideoCoCaConfig) -> VideoCoCaConfig:
    vision = {"image_size": 112, "patch_size": 14, "vision_width": 384, "vision_layers": 8}
    text = {"width": 256, "heads": 8, "pooler_heads": 8, "text_layers": 3, "multimodal_layers": 3}
    return replace(config, **vision, vision_heads=6, num_queries=64, **text)
