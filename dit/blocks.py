"""The transformer block: a superset of Wan 2.1's (arXiv 2503.20314, section 4.2).

Self-attention with rotary positions and normalised queries and keys, cross-attention to the packed
text, a GELU MLP; scales, shifts and gates come from a table of (sample, known or not) rows.

    L packed tokens   M packed text tokens   R modulation rows   D width   N heads   K = D / N
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from openreel.dit.attention import Backend, Segments, attend
from openreel.dit.rope import rotate


def modulate(x_LD: Tensor, shift_LD: Tensor, scale_LD: Tensor) -> Tensor:
    """Adaptive layer norm's affine map (Peebles and Xie, arXiv 2212.09748, section 3.2)."""
    return x_LD * (1 + scale_LD) + shift_LD


class Attention(nn.Module):
    """Multi-head attention; the root mean square of queries and keys is taken over all heads."""

    def __init__(self, dim: int, num_heads: int, eps: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.to_q, self.to_k, self.to_v, self.to_out = (nn.Linear(dim, dim) for _ in range(4))
        self.norm_q, self.norm_k = nn.RMSNorm(dim, eps), nn.RMSNorm(dim, eps)

    def forward(
        self,
        x_LD: Tensor,
        context_MD: Tensor,
        segments: Segments,
        backend: Backend,
        rotations_LP: Tensor | None = None,
    ) -> Tensor:
        """(L, D); with rotations, context must be x itself."""
        q, k, v = (
            rearrange(x, "l (n k) -> l n k", n=self.num_heads)
            for x in (
                self.norm_q(self.to_q(x_LD)),
                self.norm_k(self.to_k(context_MD)),
                self.to_v(context_MD),
            )
        )
        if rotations_LP is not None:
            q, k = rotate(q, rotations_LP), rotate(k, rotations_LP)
        out_LD = rearrange(attend(q, k, v, segments, backend), "l n k -> l (n k)")
        out: Tensor = self.to_out(out_LD)
        return out


class Block(nn.Module):
    """One layer. modulation is added to every row of the shared table, as in Wan 2.1."""

    def __init__(self, dim: int, num_heads: int, mlp_dim: int, eps: float) -> None:
        super().__init__()
        self.attention = Attention(dim, num_heads, eps)
        self.cross_attention = Attention(dim, num_heads, eps)
        self.cross_norm = nn.LayerNorm(dim, eps)
        self.mlp = nn.Sequential(
            nn.Linear(dim, mlp_dim), nn.GELU(approximate="tanh"), nn.Linear(mlp_dim, dim)
        )
        self.modulation = nn.Parameter(torch.randn(6, dim) / dim**0.5)
        self.dim, self.eps = dim, eps

    def forward(
        self,
        x_LD: Tensor,
        text_MD: Tensor,
        rows_R6D: Tensor,
        row_of_token_L: Tensor,
        self_segments: Segments,
        cross_segments: Segments,
        rotations_LP: Tensor,
        backend: Backend,
    ) -> Tensor:
        # R is a few dozen rows, gathered to tokens: nothing is projected per token.
        table = rearrange(rows_R6D + self.modulation, "r six d -> r (six d)")
        gathered = F.embedding(row_of_token_L, table).chunk(6, dim=-1)
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = gathered
        h = modulate(self._norm(x_LD), shift_a, scale_a)
        x_LD = x_LD + gate_a * self.attention(h, h, self_segments, backend, rotations_LP)
        h = self.cross_norm(x_LD)
        x_LD = x_LD + self.cross_attention(h, text_MD, cross_segments, backend)
        h = modulate(self._norm(x_LD), shift_m, scale_m)
        out: Tensor = x_LD + gate_m * self.mlp(h)
        return out

    def _norm(self, x_LD: Tensor) -> Tensor:
        return F.layer_norm(x_LD, (self.dim,), eps=self.eps)
