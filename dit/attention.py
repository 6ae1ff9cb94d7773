"""Variable-length attention over contiguous segments: one interface, four backends.

Query segment i sees key segment i and nothing else. A pattern inside a sample is a permutation that
makes its groups contiguous (openreel.packing.plan), so no backend ever sees a mask; where queries
see more than their own group, as in causal attention, keys are laid out once for each group.

    varlen      torch.nn.attention.varlen      CUDA, half precision
    flash       flash-attn's varlen kernel     CUDA, half precision, the [flash] extra
    sdpa        scaled_dot_product_attention, segments of equal length stacked: any device
    reference   one masked dense attention: what a test holds the others to

    L query tokens   M key tokens   N heads   K values of a head   G segments of one length
"""

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from openreel.packing.plan import AttentionPlan

Backend = Literal["varlen", "flash", "sdpa", "reference"]


@dataclass(frozen=True, eq=False)
class Segments:
    """Which contiguous queries see which contiguous keys. Lengths stay on the host."""

    q_lengths: tuple[int, ...]
    k_lengths: tuple[int, ...]
    device: torch.device
    permutation: Tensor | None = None
    """(L,) token at each place of the segments' order; None is the identity. Self-attention only"""
    key_order: Tensor | None = None
    """(M,) token at each place of the keys, any number of times; None: as the queries"""

    @classmethod
    def of(cls, plan: AttentionPlan, device: torch.device) -> Self:
        """Self-attention after a plan."""
        orders = (plan.permutation, plan.key_order)
        permutation, keys = (None if o is None else torch.from_numpy(o).to(device) for o in orders)
        key_lengths = plan.lengths if plan.key_lengths is None else plan.key_lengths
        return cls(plan.lengths, key_lengths, device, permutation, keys)

    @cached_property
    def inverse(self) -> Tensor | None:
        """(L,) the place of each token."""
        return None if self.permutation is None else torch.argsort(self.permutation)

    @cached_property
    def cu_q(self) -> Tensor:
        """(S + 1,) int32"""
        return self._offsets(self.q_lengths)

    @cached_property
    def cu_k(self) -> Tensor:
        """(S + 1,) int32"""
        return self._offsets(self.k_lengths)

    def _offsets(self, lengths: tuple[int, ...]) -> Tensor:
        offsets = list(accumulate(lengths, initial=0))
        return torch.tensor(offsets, dtype=torch.int32, device=self.device)

    @cached_property
    def stacks(self) -> "Stacks":
        """Segments of equal lengths brought together."""
        return _stack(self)


@dataclass(frozen=True, eq=False)
class Stacks:
    """Tokens reordered so that segments of equal (query, key) lengths are neighbours."""

    shapes: tuple[tuple[int, int, int], ...]
    """(G, query length, key length) of each stack"""
    q_order: Tensor
    q_inverse: Tensor
    k_order: Tensor
    k_inverse: Tensor


def _stack(segments: Segments) -> Stacks:
    members: dict[tuple[int, int], list[int]] = defaultdict(list)
    for i, lengths in enumerate(zip(segments.q_lengths, segments.k_lengths, strict=True)):
        members[lengths].append(i)
    device = segments.device
    q_starts = list(accumulate(segments.q_lengths, initial=0))
    k_starts = list(accumulate(segments.k_lengths, initial=0))
    order = [i for group in members.values() for i in group]

    def tokens(starts: list[int]) -> Tensor:
        spans = [torch.arange(starts[i], starts[i + 1], device=device) for i in order]
        return torch.cat(spans)

    q_order, k_order = tokens(q_starts), tokens(k_starts)
    shapes = tuple((len(group), q, k) for (q, k), group in members.items())
    return Stacks(shapes, q_order, torch.argsort(q_order), k_order, torch.argsort(k_order))


class _Permute(torch.autograd.Function):
    """Rows in another order. The gradient is the inverse permutation, not a slow scatter-add."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(order, inverse)
        return x.index_select(0, order)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        _, inverse = ctx.saved_tensors
        return gradients[0].index_select(0, inverse), None, None


def permuted(x: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
    """The rows of x in a given order; inverse is that permutation's inverse."""
    out: Tensor = _Permute.apply(x, order, inverse)
    return out


def attend(
    q_LNK: Tensor, k_MNK: Tensor, v_MNK: Tensor, segments: Segments, backend: Backend
) -> Tensor:
    """Attention inside each segment: (L, N, K), in the tokens' own order."""
    order, inverse, keys = segments.permutation, segments.inverse, segments.key_order
    if order is not None and inverse is not None:
        q_LNK = permuted(q_LNK, order, inverse)
        if keys is None:
            k_MNK, v_MNK = (permuted(x, order, inverse) for x in (k_MNK, v_MNK))
    if keys is not None:
        k_MNK, v_MNK = (x.index_select(0, keys) for x in (k_MNK, v_MNK))
    out_LNK = _attend_in_order(q_LNK, k_MNK, v_MNK, segments, backend)
    if order is None or inverse is None:
        return out_LNK
    return permuted(out_LNK, inverse, order)


def _attend_in_order(
    q_LNK: Tensor, k_MNK: Tensor, v_MNK: Tensor, segments: Segments, backend: Backend
) -> Tensor:
    match backend:
        case "sdpa":
            return _sdpa(q_LNK, k_MNK, v_MNK, segments.stacks)
        case "varlen":
            return _varlen(q_LNK, k_MNK, v_MNK, segments)
        case "flash":
            return _flash(q_LNK, k_MNK, v_MNK, segments)
        case "reference":
            return _reference(q_LNK, k_MNK, v_MNK, segments)


def _sdpa(q_LNK: Tensor, k_MNK: Tensor, v_MNK: Tensor, stacks: Stacks) -> Tensor:
    q_LNK = permuted(q_LNK, stacks.q_order, stacks.q_inverse)
    k_MNK, v_MNK = (permuted(x, stacks.k_order, stacks.k_inverse) for x in (k_MNK, v_MNK))
    q_sizes = [count * q for count, q, _ in stacks.shapes]
    k_sizes = [count * k for count, _, k in stacks.shapes]
    parts = (torch.split(q_LNK, q_sizes), torch.split(k_MNK, k_sizes), torch.split(v_MNK, k_sizes))
    outs = []
    for (count, _, _), *qkv in zip(stacks.shapes, *parts, strict=True):
        q, k, v = (rearrange(x, "(g l) n k -> g n l k", g=count) for x in qkv)
        outs.append(rearrange(F.scaled_dot_product_attention(q, k, v), "g n l k -> (g l) n k"))
    return permuted(torch.cat(outs), stacks.q_inverse, stacks.q_order)


def _varlen(q_LNK: Tensor, k_MNK: Tensor, v_MNK: Tensor, segments: Segments) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    longest = max(segments.q_lengths), max(segments.k_lengths)
    out = varlen_attn(q_LNK, k_MNK, v_MNK, segments.cu_q, segments.cu_k, *longest)
    assert isinstance(out, Tensor)
    return out


def _flash(q_LNK: Tensor, k_MNK: Tensor, v_MNK: Tensor, segments: Segments) -> Tensor:
    from flash_attn import flash_attn_varlen_func

    longest = max(segments.q_lengths), max(segments.k_lengths)
    out = flash_attn_varlen_func(q_LNK, k_MNK, v_MNK, segments.cu_q, segments.cu_k, *longest)
    assert isinstance(out, Tensor)
    return out


def _reference(q_LNK: Tensor, k_MNK: Tensor, v_MNK: Tensor, segments: Segments) -> Tensor:
    def owner(lengths: tuple[int, ...]) -> Tensor:
        repeats = torch.tensor(lengths, device=segments.device)
        return torch.repeat_interleave(torch.arange(len(lengths), device=segments.device), repeats)

    mask_LM = owner(segments.q_lengths)[:, None] == owner(segments.k_lengths)[None, :]
    q, k, v = (rearrange(x, "l n k -> n l k") for x in (q_LNK, k_MNK, v_MNK))
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask_LM)
    return rearrange(out, "n l k -> l n k")


def choose_backend(device: torch.device, dtype: torch.dtype) -> Backend:
    """The fastest backend that runs: the variable-length kernel on CUDA in half precision."""
    if device.type == "cuda" and dtype in (torch.bfloat16, torch.float16):
        return "varlen"
    return "sdpa"
