"""Numbers to codes and back, with gradients for training, and what keeps a codebook in use.

N C   positions, channels; ... any shape
"""

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from openreel.vae.heads import FSQ, LFQ, Codebook, Integers


def digits(z: Tensor, book: Codebook) -> Tensor:
    """The encoder's numbers (..., C) -> int64 digits (..., C). Comparisons only, hence exact."""
    edges_CL = torch.as_tensor(book.edges_CL, device=z.device)
    return (z.float()[..., None] > edges_CL).sum(-1)


def codes(digits: Tensor, book: Codebook) -> Tensor:
    """Digits (..., C) -> the float32 values (..., C) that the decoder sees, in [-1, 1]."""
    halves_C = torch.as_tensor(book.halves_C, device=digits.device)
    return (digits - halves_C) / halves_C


def nearest(values: Tensor, book: Codebook) -> Tensor:
    """Values (..., C), about those of codes() -> the digits of the closest code."""
    halves_C = torch.as_tensor(book.halves_C, device=values.device)
    largest_C = torch.tensor(book.radices, device=values.device) - 1
    rounded = (values.float() * halves_C + halves_C).round()
    return torch.minimum(rounded.clamp(min=0).long(), largest_C)


def straight_through(z: Tensor, book: FSQ | LFQ) -> Tensor:
    """Codes of z, (..., C), through which the gradient passes as if nothing were rounded.

    FSQ's passes through the tanh, LFQ's unchanged.
    """
    smooth = z.float()
    if isinstance(book, FSQ):
        height, offset, shift = torch.as_tensor(book.bound_3C, dtype=smooth.dtype, device=z.device)
        halves_C = torch.as_tensor(book.halves_C, device=z.device)
        smooth = ((smooth + shift).tanh() * height - offset) / halves_C
    return codes(digits(z, book), book) + (smooth - smooth.detach())


def commitment(z: Tensor) -> Tensor:
    """Mean over elements of (z - sign z)^2: keeps a bit's number near what the decoder sees."""
    return (z.float().abs() - 1).square().mean()


def token_entropy(z_NC: Tensor, temperature: float) -> Tensor:
    """Mean entropy, in nats, of a position's choice among all 2^C codes.

    Code c is chosen with probability softmax(2 z.c / temperature). That is a product over bits,
    each 1 with probability sigmoid(4 z / temperature), so the entropy is the sum of the bits'. This
    is exact and takes O(C), where materialised logits take O(2^C).
    """
    logit = (4 / temperature) * z_NC.float().abs()
    return (F.softplus(-logit) + logit * torch.sigmoid(-logit)).sum(-1).mean()


def book_entropy(z_NC: Tensor, temperature: float, group: int = 9) -> Tensor:
    """Entropy, in nats, of the positions' average choice: high when all codes are in use.

    The average is no product over bits. It is exact within groups of at most `group` bits, and the
    groups' entropies are added: an upper bound of the whole book's. A group's 2^group probabilities
    are one matrix product of two halves' tables, (N, 2^(group / 2)) each.
    """
    probability_NC = torch.sigmoid((4 / temperature) * z_NC.float())
    found = []
    for bits in torch.split(probability_NC, group, dim=1):
        low, high = bits.tensor_split(2, dim=1)
        average = _table(low).T @ _table(high) / len(z_NC)
        # A code that nobody chooses would have an infinite slope, times no gradient: not a number.
        logarithm = average.clamp(min=torch.finfo(average.dtype).tiny).log()
        found.append(-(average * logarithm).sum())
    return torch.stack(found).sum()


def _table(probability_NC: Tensor) -> Tensor:
    """The probability of each of the 2^C settings of some bits: (N, C) -> (N, 2^C)."""
    table = probability_NC.new_ones(len(probability_NC), 1)
    for one_N in probability_NC.unbind(1):
        pair_N2 = torch.stack([1 - one_N, one_N], dim=1)
        table = rearrange(table[:, :, None] * pair_N2[:, None], "n a b -> n (a b)")
    return table


def usage(index: Integers, size: int) -> dict[str, float]:
    """How widely a batch's positions spread over a book of `size` codes.

    codes_used: different codes, over as many as there could be (positions, or the book);
    perplexity: exp of the entropy of the codes' frequencies, in codes.
    """
    _, counts = np.unique(index, return_counts=True)
    share = counts / counts.sum()
    return {
        "codes_used": len(counts) / min(index.size, size),
        "perplexity": float(np.exp(-(share * np.log(share)).sum())),
    }
