"""Beam search: of many unfinished captions the likeliest few go on at each step.

As fairseq does it, and transformers with early_stopping=True: a clip is done once as many captions
have ended as there are beams; the one with the highest

    sum of its ids' log-probabilities / (their number, the end included) ** length_penalty

is its result. Only what is among the likeliest `beams` continuations may end, so that one beam is
the greedy decoder. A caption that the full context cuts off counts only where none has ended.

    B clips, W beams, R = B*W rows, C = 2W continuations, K ids, V vocabulary
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from einops import rearrange
from torch import Tensor


class Reader(Protocol):
    """What turns ids into logits and can follow beams (reader.CachedReader)."""

    def step(self, ids_R: Tensor) -> Tensor: ...

    def keep(self, clips_B: Tensor) -> None: ...

    def follow(self, parents_BW: Tensor) -> None: ...


@dataclass(frozen=True, kw_only=True)
class BeamResult:
    """The best caption of each clip."""

    ids_BK: Tensor
    """after the start; -1 behind the end"""
    total_B: Tensor
    """sum of log-probabilities"""


def closed_up(ended_B: Tensor) -> Tensor:
    """The clips that have not ended; where one has, the last takes its place: few rows move."""
    live_B = (~ended_B).nonzero()[:, 0]
    count = len(live_B)
    rows_B = torch.arange(count, device=ended_B.device)
    rows_B[ended_B[:count]] = live_B[live_B >= count]
    return rows_B


class _Found:
    """The captions that have ended so far: the best of each clip, and how many there are."""

    def __init__(self, clips: int, steps: int, device: torch.device) -> None:
        self.score_B = torch.full((clips,), float("-inf"), device=device)
        self.total_B = torch.full((clips,), float("-inf"), device=device)
        self.ids_BK = torch.full((clips, steps), -1, device=device)
        self.count_B = torch.zeros(clips, dtype=torch.long, device=device)

    def offer(
        self, clips_B: Tensor, ids_BWK: Tensor, total_BW: Tensor, length: int, penalty: float
    ) -> None:
        """Captions of these clips, all `length` long; those with a total of -inf do not count."""
        total_B, best_B = total_BW.max(1)
        score_B = total_B / length**penalty
        self.count_B[clips_B] += (total_BW > float("-inf")).sum(1)
        better_B = score_B > self.score_B[clips_B]
        clips_B, best_B = clips_B[better_B], best_B[better_B]
        self.score_B[clips_B] = score_B[better_B]
        self.total_B[clips_B] = total_B[better_B]
        self.ids_BK[clips_B] = ids_BWK[better_B, best_B]


def beam_search(
    reader: Reader,
    latest_R: Tensor,
    *,
    beams: int,
    length_penalty: float,
    end: int,
    unspeakable: Tensor,
    steps: int,
) -> BeamResult:
    """The best caption of each of B clips, of at most `steps` ids.

    latest_R: the first ids, `beams` equal ones a clip. unspeakable: ids that are never written.
    """
    device, rows = latest_R.device, len(latest_R)
    live_B = torch.arange(rows // beams, device=device)
    total_BW = torch.full((len(live_B), beams), float("-inf"), device=device)
    total_BW[:, 0] = 0  # all beams are equal as yet: one of them counts
    ids_BWK = torch.full((len(live_B), beams, steps), -1, device=device)
    found = _Found(len(live_B), steps, device)
    for k in range(steps):
        logits_RV = reader.step(latest_R).float().index_fill_(1, unspeakable, float("-inf"))
        chance_RV = logits_RV.log_softmax(-1) + total_BW.reshape(-1, 1)
        flat_BC = rearrange(chance_RV, "(b w) v -> b (w v)", w=beams)
        total_BC, index_BC = flat_BC.topk(2 * beams, dim=1)
        parents_BC, word_BC = index_BC // chance_RV.shape[1], index_BC % chance_RV.shape[1]
        ids_BCK = ids_BWK.take_along_dim(parents_BC[:, :, None], 1)
        ids_BCK[:, :, k] = word_BC
        ended_BC = word_BC == end
        total_BW = total_BC.masked_fill(~ended_BC, float("-inf"))[:, :beams]
        found.offer(live_B, ids_BCK[:, :beams], total_BW, k + 1, length_penalty)
        # No beam ends twice in a step: half of the continuations at least go on.
        chosen_BW = ended_BC.to(torch.uint8).argsort(dim=1, stable=True)[:, :beams]
        total_BW = total_BC.gather(1, chosen_BW)
        ids_BWK = ids_BCK.take_along_dim(chosen_BW[:, :, None], 1)
        reader.follow(parents_BC.gather(1, chosen_BW))
        done_B = found.count_B[live_B] >= beams
        if bool(done_B.any()):
            rest_B = closed_up(done_B)
            live_B, total_BW, ids_BWK = live_B[rest_B], total_BW[rest_B], ids_BWK[rest_B]
            if not len(rest_B):
                break
            reader.keep(rest_B)
        latest_R = ids_BWK[:, :, k].flatten()
    missing_B = found.count_B[live_B] == 0
    found.offer(live_B[missing_B], ids_BWK[missing_B], total_BW[missing_B], steps, length_penalty)
    return BeamResult(ids_BK=found.ids_BK, total_B=found.total_B)
