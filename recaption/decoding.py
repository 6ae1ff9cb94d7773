"""Writing captions: greedy, nucleus sampling or beam search over CoCa's text layers.

Many clips at once, with a key-value cache (reader.py). A clip whose caption has ended leaves the
batch. What is written about a clip does not depend on its neighbours, up to the rounding of sums.

    B clips, Q the clip's tokens, K ids of the longest caption, V vocabulary, E width
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from openreel.pipeline.errors import InputError
from openreel.pipeline.keyed import generator
from openreel.recaption.beam import beam_search, closed_up
from openreel.recaption.reader import CachedReader
from openreel.recaption.tokenizer import CaptionTokenizer
from openreel.recaption.videococa import VideoCoCa


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How ids are chosen."""

    top_p: float = 0.0
    """0: always the likeliest id; else drawn from the smallest set with this probability"""
    temperature: float = 1.0
    """of the draw; above 1 flattens it"""
    seed: int = 0
    beams: int = 1
    """unfinished captions that are kept in view; 1: the likeliest id is final"""
    length_penalty: float = 1.0
    """beams are compared by their log-probability / length ** this; 1: by its mean"""

    def __post_init__(self) -> None:
        if not 0 <= self.top_p <= 1:
            raise InputError("top_p", self.top_p, "0 (greedy) to 1")
        if not self.temperature > 0:
            raise InputError("temperature", self.temperature, "above 0")
        if self.beams < 1:
            raise InputError("beams", self.beams, "1 or more")
        if self.beams > 1 and self.top_p:
            raise InputError("beams", self.beams, "1 with top_p: beams are not drawn")
        if not 0 <= self.length_penalty < float("inf"):
            raise InputError("length_penalty", self.length_penalty, "0 or more")


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """One caption as decoded."""

    text: str
    ids: tuple[int, ...]
    """without start, with the end if it was reached"""
    logprob: float
    """mean log-probability of an id, the end included, under the model itself (temperature 1)"""
    ended: bool
    """False: the context was full before the caption ended"""


def nucleus(logits_BV: Tensor, decoding: Decoding, uniform_B: Tensor) -> Tensor:
    """The ids (B,) at these quantiles of the likeliest ids that hold top_p of the probability."""
    chance_BV, order_BV = (
        (logits_BV / decoding.temperature).softmax(-1).sort(descending=True, stable=True)
    )
    before_BV = chance_BV.cumsum(-1) - chance_BV
    kept_BV = torch.where(before_BV < decoding.top_p, chance_BV, 0.0).double()
    reached_B1 = uniform_B[:, None] * kept_BV.sum(-1, keepdim=True)
    index_B = (kept_BV.cumsum(-1) <= reached_B1).sum(-1)
    index_B = index_B.minimum((kept_BV > 0).sum(-1) - 1)
    return order_BV.gather(1, index_B[:, None])[:, 0]


@torch.inference_mode()
def write_captions(
    model: VideoCoCa,
    tokenizer: CaptionTokenizer,
    seen_BQE: Tensor,
    kind: str,
    clip_ids: Sequence[str],
    decoding: Decoding,
) -> list[Decoded]:
    """One caption of a kind for each clip, from the tokens of VideoCoCa.encode_video.

    A draw depends on (seed, clip id, kind, position) alone, never on the batch. The model should be
    in evaluation mode.
    """
    if not clip_ids:
        return []
    device, steps = seen_BQE.device, model.config.context_length - 1
    reader = CachedReader(model, seen_BQE, decoding.beams)
    unspeakable = torch.tensor(tokenizer.unspeakable, device=device)
    start_R = torch.full((len(clip_ids) * decoding.beams,), tokenizer.start(kind), device=device)
    if decoding.beams > 1:
        best = beam_search(
            reader,
            start_R,
            beams=decoding.beams,
            length_penalty=decoding.length_penalty,
            end=tokenizer.end,
            unspeakable=unspeakable,
            steps=steps,
        )
        ids_BK, total_B = best.ids_BK, best.total_B
    else:
        uniform_BK = None
        if decoding.top_p:
            draws = [generator(decoding.seed, "caption", i, kind).random(steps) for i in clip_ids]
            uniform_BK = torch.tensor(np.array(draws), device=device)
        ids_BK, total_B = _walk(reader, start_R, decoding, uniform_BK, tokenizer.end, unspeakable)
    return [
        _decoded(tokenizer, [i for i in ids if i >= 0], total)
        for ids, total in zip(ids_BK.tolist(), total_B.tolist(), strict=True)
    ]


def _walk(
    reader: CachedReader,
    latest_B: Tensor,
    decoding: Decoding,
    uniform_BK: Tensor | None,
    end: int,
    unspeakable: Tensor,
) -> tuple[Tensor, Tensor]:
    """One id after the other: ids (B, K), -1 behind the end, and their log-probabilities' sums."""
    live_B = torch.arange(len(latest_B), device=latest_B.device)
    steps = reader.context_length - 1
    ids_BK = torch.full((len(latest_B), steps), -1, device=latest_B.device)
    total_B = torch.zeros(len(latest_B), dtype=torch.float64, device=latest_B.device)
    for k in range(steps):
        logits_BV = reader.step(latest_B).float().index_fill_(1, unspeakable, float("-inf"))
        if uniform_BK is None:
            latest_B = logits_BV.argmax(-1)
        else:
            latest_B = nucleus(logits_BV, decoding, uniform_BK[live_B, k])
        ids_BK[live_B, k] = latest_B
        total_B[live_B] += logits_BV.log_softmax(-1).gather(1, latest_B[:, None])[:, 0]
        ended_B = latest_B == end
        if bool(ended_B.any()):
            rest_B = closed_up(ended_B)
            if not len(rest_B):
                break
            reader.keep(rest_B)
            live_B, latest_B = live_B[rest_B], latest_B[rest_B]
    return ids_BK, total_B


def _decoded(tokenizer: CaptionTokenizer, ids: list[int], total: float) -> Decoded:
    return Decoded(
        text=tokenizer.decode(ids),
        ids=tuple(ids),
        logprob=total / len(ids),
        ended=ids[-1] == tokenizer.end,
    )
