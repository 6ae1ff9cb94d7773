"""The recaptioning station: a clip's row in, the row of all its captions out."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import torch

from openreel.pipeline.clip import Clip
from openreel.pipeline.errors import InputError
from openreel.pipeline.media import stream_clip
from openreel.pipeline.stage import Stage
from openreel.recaption.caption import KINDS, Caption, ClipCaptions
from openreel.recaption.checks import CaptionChecks, flaw
from openreel.recaption.decoding import Decoding, write_captions
from openreel.recaption.frames import Frames, collate, normalised, prepare
from openreel.recaption.weights import Captioner, captioner_digest, load_captioner

SOURCE = "videococa"


@dataclass(frozen=True, kw_only=True)
class RecaptionConfig:
    """What is written about each clip."""

    kinds: tuple[str, ...] = ("short", "dense")
    decoding: Decoding = field(default_factory=Decoding)
    checks: CaptionChecks = field(default_factory=CaptionChecks)
    device: str = "cpu"
    """no part of the table's fingerprint: a run may go on elsewhere"""

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in KINDS:
                raise InputError("kinds", kind, ", ".join(KINDS))


def recaption_stage(captioner: Path, config: RecaptionConfig) -> Stage[Clip, ClipCaptions]:
    """The station for a captioner's folder. Raises InputError if it is not one."""
    load_captioner(captioner)  # a mistake is told here, not by every worker
    model = captioner_digest(captioner)
    return Stage(
        name="recaption",
        key="clip_id",
        record=ClipCaptions,
        fingerprint={"captioner": model, **asdict(replace(config, device=""))},
        build=partial(_build, captioner, model, config),
        holds_model=True,
        num_gpus=float(config.device.startswith("cuda")),
        rows_per_block=16,
        commit_block=True,
    )


def _build(folder: Path, model: str, config: RecaptionConfig) -> Callable[[Clip], ClipCaptions]:
    captioner = load_captioner(folder, config.device)
    return partial(recaption, captioner=captioner, model=model, config=config)


def recaption(
    clip: Clip,
    *,
    captioner: Captioner,
    model: str,
    config: RecaptionConfig,
    read: Callable[[Clip], Iterable[Frames]] = stream_clip,
) -> ClipCaptions:
    """All captions of a clip: those that came with it, then one of each kind from the model.

    model: the captioner's digest. read: a clip's frames, each uint8 (H, W, 3). A caption with a
    flaw stays on record with it. Raises MediaError if the clip cannot be read.
    """
    sizes = captioner.model.config
    frames = prepare(read(clip), clip.num_frames, sizes.num_frames, sizes.image_size)
    frames_BTSSC, _ = collate([frames])
    with torch.inference_mode():
        video_BTCSS = normalised(frames_BTSSC.to(config.device))
        _, seen_BQE = captioner.model.encode_video(video_BTCSS)
    captions = [Caption(kind=t.kind, text=t.text, source="manifest") for t in clip.texts]
    for kind in config.kinds:
        (written,) = write_captions(
            captioner.model, captioner.tokenizer, seen_BQE, kind, [clip.clip_id], config.decoding
        )
        captions.append(
            Caption(
                kind=kind,
                text=written.text,
                source=SOURCE,
                model=model,
                logprob=written.logprob,
                flaw=flaw(written.text, ended=written.ended, checks=config.checks),
            )
        )
    return ClipCaptions(clip_id=clip.clip_id, captions=tuple(captions))
