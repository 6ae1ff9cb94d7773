"""The text layers of CoCa over growing captions: each id passes once, keys and values are kept.

The result equals the forward of the whole sequence. Caches are laid out once for the whole context;
a caption that has ended gives its rows away, so that nothing is computed for it again.

    B clips, W beams a clip, R = B*W rows, Q the clip's tokens, K context length, V vocabulary,
    E width, N heads, D width of a head, L layers, S 2: keys and values
"""

from typing import Any

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from openreel.recaption.videococa import VideoCoCa


def _finished(block: Any, x_RE: Tensor, mixed_RE: Tensor) -> Tensor:
    """The rest of an open_clip block once its heads have mixed."""
    x_RE = x_RE + block.ls_1(block.attn.out_proj(mixed_RE))
    out_RE: Tensor = x_RE + block.ls_2(block.mlp(block.ln_2(x_RE)))
    return out_RE


class _SelfLayer:
    """A causal layer: looks at the new id and at all before it."""

    def __init__(self, block: Any, kept_SRNKD: Tensor) -> None:
        self.block, self.kept_SRNKD = block, kept_SRNKD

    def __call__(self, x_RE: Tensor, length: int) -> Tensor:
        attention, rows = self.block.attn, len(x_RE)
        mixed = F.linear(self.block.ln_1(x_RE), attention.in_proj_weight, attention.in_proj_bias)
        mixed = rearrange(mixed, "r (s n d) -> s r n 1 d", s=3, n=attention.num_heads)
        self.kept_SRNKD[:, :rows, :, length : length + 1] = mixed[1:]
        key, value = self.kept_SRNKD[:, :rows, :, : length + 1]
        mixed = F.scaled_dot_product_attention(mixed[0], key, value)
        return _finished(self.block, x_RE, rearrange(mixed, "r n 1 d -> r (n d)"))


class _CrossLayer:
    """A layer that looks at the clip's tokens, whose keys and values never change."""

    def __init__(self, block: Any, kept_SBNQD: Tensor) -> None:
        self.block, self.kept_SBNQD = block, kept_SBNQD
        width = block.attn.embed_dim
        self.weight, self.bias = block.attn.in_proj_weight[:width], block.attn.in_proj_bias[:width]

    def see(self, seen_BQE: Tensor) -> None:
        """Fill the cache."""
        attention, width = self.block.attn, self.block.attn.embed_dim
        weight, bias = attention.in_proj_weight[width:], attention.in_proj_bias[width:]
        mixed = F.linear(self.block.ln_1_kv(seen_BQE), weight, bias)
        heads = attention.num_heads
        self.kept_SBNQD.copy_(rearrange(mixed, "b q (s n d) -> s b n q d", s=2, n=heads))

    def __call__(self, x_RE: Tensor, clips: int) -> Tensor:
        query = F.linear(self.block.ln_1(x_RE), self.weight, self.bias)
        heads = self.block.attn.num_heads
        query = rearrange(query, "(b w) (n d) -> b n w d", b=clips, n=heads)
        key, value = self.kept_SBNQD[:, :clips]
        mixed = F.scaled_dot_product_attention(query, key, value)
        return _finished(self.block, x_RE, rearrange(mixed, "b n w d -> (b w) (n d)"))


class CachedReader:
    """The text layers over growing captions of clips, `beams` of them for each."""

    def __init__(self, model: VideoCoCa, seen_BQE: Tensor, beams: int = 1) -> None:
        coca = model.coca
        self.text, self.decoder = coca.text, coca.text_decoder
        self.clips, self.beams, self.length = len(seen_BQE), beams, 0
        self.context_length = model.config.context_length
        plain, crossed = self.text.transformer.resblocks, self.decoder.resblocks
        sizes = model.config
        shape = (sizes.heads, sizes.context_length, sizes.width // sizes.heads)
        self.own_LSRNKD = seen_BQE.new_empty(
            len(plain) + len(crossed), 2, self.clips * beams, *shape
        )
        shape = (sizes.heads, seen_BQE.shape[1], sizes.width // sizes.heads)
        self.seen_LSBNQD = seen_BQE.new_empty(len(crossed), 2, self.clips, *shape)
        self.layers: list[_SelfLayer | _CrossLayer] = [
            _SelfLayer(block, self.own_LSRNKD[i]) for i, block in enumerate(plain)
        ]
        for i, block in enumerate(crossed):
            looking = _CrossLayer(self.decoder.cross_attn[i], self.seen_LSBNQD[i])
            looking.see(seen_BQE)
            self.layers += [_SelfLayer(block, self.own_LSRNKD[len(plain) + i]), looking]

    def step(self, ids_R: Tensor) -> Tensor:
        """Logits (R, V) of the id after this one."""
        position_E = self.text.positional_embedding[self.length]
        x_RE = self.text.token_embedding(ids_R) + position_E
        for layer in self.layers:
            x_RE = layer(x_RE, self.length if isinstance(layer, _SelfLayer) else self.clips)
        self.length += 1
        logits_RV: Tensor = self.decoder.ln_final(x_RE) @ self.decoder.text_projection
        return logits_RV

    def keep(self, clips_B: Tensor) -> None:
        """Go on with these clips alone, in this order; the others' rows are given away."""
        self.clips = len(clips_B)
        _move(self.seen_LSBNQD, clips_B)
        beams_W = torch.arange(self.beams, device=clips_B.device)
        rows_BW = clips_B[:, None] * self.beams + beams_W
        _move(self.own_LSRNKD[..., : self.length, :], rows_BW.flatten())

    def follow(self, parents_BW: Tensor) -> None:
        """Each beam goes on from this beam of its clip."""
        first_B = torch.arange(self.clips, device=parents_BW.device) * self.beams
        rows_R = (first_B[:, None] + parents_BW).flatten()
        _move(self.own_LSRNKD[..., : self.length, :], rows_R)


def _move(kept_LSR: Tensor, rows_R: Tensor) -> None:
    """Row i becomes what row rows_R[i] was; those that stay in their place are not touched."""
    target_R = (rows_R != torch.arange(len(rows_R), device=rows_R.device)).nonzero()[:, 0]
    if len(target_R):
        kept_LSR[:, :, target_R] = kept_LSR[:, :, rows_R[target_R]]
