"""Writing captions: greedy or nucleus sampling over CoCa's text layers, with a key-value cache.

Each new id passes through the layers once; keys and values of the ids before it, and of the clip's
tokens, are kept. The result equals the uncached forward of the whole sequence.

    B clips, Q the clip's tokens, K ids so far, V vocabulary, E width, N heads, D width of a head
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from openreel.pipeline.errors import InputError
from openreel.pipeline.keyed import generator
from openreel.recaption.tokenizer import CaptionTokenizer
from openreel.recaption.videococa import VideoCoCa


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How ids are chosen."""

    top_p: float = 0.0
    """0: always the likeliest id; else drawn from the smallest set with this probability"""
    temperature: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.top_p <= 1:
            raise InputError("top_p", self.top_p, "0 (greedy) to 1")
        if self.temperature <= 0:
            raise InputError("temperature", self.temperature, "above 0")


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


class _Attention:
    """One nn.MultiheadAttention, read off its weights, with keys and values that can be kept."""

    def __init__(self, module: nn.MultiheadAttention) -> None:
        self.num_heads = module.num_heads
        self.query, self.key, self.value = module.in_proj_weight.chunk(3)
        self.query_bias, self.key_bias, self.value_bias = module.in_proj_bias.chunk(3)
        self.out = module.out_proj

    def _heads(self, x_BKE: Tensor) -> Tensor:
        return rearrange(x_BKE, "b k (n d) -> b n k d", n=self.num_heads)

    def keys_values(self, x_BKE: Tensor) -> tuple[Tensor, Tensor]:
        key = F.linear(x_BKE, self.key, self.key_bias)
        value = F.linear(x_BKE, self.value, self.value_bias)
        return self._heads(key), self._heads(value)

    def __call__(self, x_BKE: Tensor, key_BNKD: Tensor, value_BNKD: Tensor) -> Tensor:
        query_BNKD = self._heads(F.linear(x_BKE, self.query, self.query_bias))
        mixed_BNKD = F.scaled_dot_product_attention(query_BNKD, key_BNKD, value_BNKD)
        mixed_BKE: Tensor = self.out(rearrange(mixed_BNKD, "b n k d -> b k (n d)"))
        return mixed_BKE


def _residual(block: Any, x_BKE: Tensor, attended_BKE: Tensor) -> Tensor:
    """The rest of an open_clip block once its attention is known."""
    x_BKE = x_BKE + block.ls_1(attended_BKE)
    out_BKE: Tensor = x_BKE + block.ls_2(block.mlp(block.ln_2(x_BKE)))
    return out_BKE


class _SelfLayer:
    """A causal layer: looks at the new id and at all before it."""

    def __init__(self, block: Any) -> None:
        self.block, self.attention = block, _Attention(block.attn)
        self.kept: tuple[Tensor, Tensor] | None = None

    def __call__(self, x_BKE: Tensor) -> Tensor:
        normed_BKE = self.block.ln_1(x_BKE)
        new = self.attention.keys_values(normed_BKE)
        if self.kept is not None:
            new = (torch.cat([self.kept[0], new[0]], 2), torch.cat([self.kept[1], new[1]], 2))
        self.kept = new
        return _residual(self.block, x_BKE, self.attention(normed_BKE, *new))


class _CrossLayer:
    """A layer that looks at the clip's tokens, whose keys and values never change."""

    def __init__(self, block: Any, seen_BQE: Tensor) -> None:
        self.block, self.attention = block, _Attention(block.attn)
        self.kept = self.attention.keys_values(block.ln_1_kv(seen_BQE))

    def __call__(self, x_BKE: Tensor) -> Tensor:
        attended_BKE = self.attention(self.block.ln_1(x_BKE), *self.kept)
        return _residual(self.block, x_BKE, attended_BKE)


class CachedReader:
    """The text layers over growing captions of a fixed batch of clips."""

    def __init__(self, model: VideoCoCa, seen_BQE: Tensor) -> None:
        coca = model.coca
        self.text, self.decoder = coca.text, coca.text_decoder
        self.layers: list[_SelfLayer | _CrossLayer] = [
            _SelfLayer(block) for block in coca.text.transformer.resblocks
        ]
        for block, cross in zip(self.decoder.resblocks, self.decoder.cross_attn, strict=True):
            self.layers += [_SelfLayer(block), _CrossLayer(cross, seen_BQE)]
        self.length = 0

    def step(self, ids_B: Tensor) -> Tensor:
        """Logits (B, V) of the id after this one."""
        position_E = self.text.positional_embedding[self.length]
        x_BKE = rearrange(self.text.token_embedding(ids_B) + position_E, "b e -> b 1 e")
        for layer in self.layers:
            x_BKE = layer(x_BKE)
        self.length += 1
        logits_BV: Tensor = self.decoder.ln_final(x_BKE[:, 0]) @ self.decoder.text_projection
        return logits_BV


def nucleus(logits_V: Tensor, decoding: Decoding, uniform: float) -> int:
    """The id at quantile `uniform` of the likeliest ids that hold top_p of the probability."""
    chance_V, order_V = (logits_V / decoding.temperature).softmax(0).sort(descending=True)
    before_V = chance_V.cumsum(0) - chance_V
    kept_V = torch.where(before_V < decoding.top_p, chance_V, 0.0).double()
    index = int((kept_V.cumsum(0) <= uniform * kept_V.sum()).sum())
    return int(order_V[min(index, int((kept_V > 0).sum()) - 1)])


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
    reader = CachedReader(model, seen_BQE)
    draws = [generator(decoding.seed, "caption", clip_id, kind) for clip_id in clip_ids]
    ids: list[list[int]] = [[] for _ in clip_ids]
    total = np.zeros(len(clip_ids))
    latest_B = torch.full((len(clip_ids),), tokenizer.start(kind), device=seen_BQE.device)
    for _ in range(model.config.context_length - 1):
        logits_BV = reader.step(latest_B).float()
        logits_BV[:, list(tokenizer.unspeakable)] = float("-inf")
        logprob_BV = logits_BV.log_softmax(-1)
        chosen = logits_BV.argmax(-1)
        if decoding.top_p:
            uniform = [float(draw.random()) for draw in draws]
            chosen = chosen.new_tensor(
                [nucleus(row, decoding, u) for row, u in zip(logits_BV, uniform, strict=True)]
            )
        for b, (i, logprob) in enumerate(zip(chosen.tolist(), logprob_BV, strict=True)):
            if tokenizer.end not in ids[b][-1:]:
                ids[b].append(i)
                total[b] += float(logprob[i])
        if all(row[-1] == tokenizer.end for row in ids):
            break
        latest_B = chosen
    return [
        Decoded(
            text=tokenizer.decode(row),
            ids=tuple(row),
            logprob=float(score / len(row)),
            ended=row[-1] == tokenizer.end,
        )
        for row, score in zip(ids, total, strict=True)
    ]
