"""Quantisers against the papers' formulas written out, and entropies against all 2^C codes."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from openreel.vae.heads import FSQ, LFQ
from openreel.vae.quantise import (
    book_entropy,
    codes,
    commitment,
    digits,
    nearest,
    straight_through,
    token_entropy,
    usage,
)

LEVELS = [(8, 8, 8, 5, 5, 5), (3, 4, 6, 7), (16,)]


def fsq_of_the_paper(z: Tensor, levels: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Codes, and the numbers before rounding, in float64."""
    size = torch.tensor(levels, dtype=torch.float64)
    height = (size - 1) * (1 + 1e-3) / 2
    offset = torch.where(size % 2 == 0, 0.5, 0.0)
    bounded = torch.tanh(z.double() + torch.atanh(offset / height)) * height - offset
    return bounded.round() / (size // 2), bounded / (size // 2)


@pytest.mark.parametrize("levels", LEVELS)
def test_fsq_is_the_papers(levels: tuple[int, ...]) -> None:
    book = FSQ(levels=levels)
    z = torch.linspace(-9, 9, 90_001)[:, None].repeat(1, len(levels))
    found = codes(digits(z, book), book)
    expected, bounded = fsq_of_the_paper(z, levels)
    half = torch.tensor(levels) // 2
    undecided = ((bounded * half).frac().abs() - 0.5).abs() < 1e-5
    assert undecided.float().mean() < 0.01
    assert torch.equal(found[~undecided], expected.float()[~undecided])
    assert [len(found[:, c].unique()) for c in range(len(levels))] == list(levels)


@pytest.mark.parametrize("levels", LEVELS)
def test_fsq_passes_the_gradient_of_its_tanh(levels: tuple[int, ...]) -> None:
    z = torch.randn(500, len(levels), requires_grad=True)
    z64 = z.detach().double().requires_grad_()
    weight = torch.randn(500, len(levels))
    quantised = straight_through(z, FSQ(levels=levels))
    (quantised * weight).sum().backward()
    (fsq_of_the_paper(z64, levels)[1] * weight).sum().backward()
    assert z.grad is not None
    assert z64.grad is not None
    torch.testing.assert_close(z.grad.double(), z64.grad, atol=1e-5, rtol=1e-4)
    assert torch.equal(quantised, codes(digits(z, FSQ(levels=levels)), FSQ(levels=levels)))


def test_lfq_is_the_sign_and_passes_the_gradient() -> None:
    z = torch.randn(500, 12, requires_grad=True)
    quantised = straight_through(z, LFQ(bits=12))
    assert torch.equal(quantised, z.detach().sign())
    weight = torch.randn(500, 12)
    (quantised * weight).sum().backward()
    assert z.grad is not None
    assert torch.equal(z.grad, weight)
    torch.testing.assert_close(commitment(z), ((z - z.sign()) ** 2).mean())
    index = LFQ(bits=12).index(digits(z, LFQ(bits=12)).numpy())
    assert (index == ((z > 0) * 2 ** torch.arange(12)).sum(-1).numpy()).all()


@pytest.mark.parametrize("book", [FSQ(), LFQ(), FSQ(levels=(3, 4))], ids=str)
def test_the_nearest_code_of_a_code_is_itself(book: FSQ | LFQ) -> None:
    index = np.arange(book.size)
    own = torch.from_numpy(book.digits(index))
    values = codes(own, book)
    assert values.abs().max() <= 1
    assert torch.equal(nearest(values, book), own)
    blurred = values + 0.4 / torch.tensor(book.radices) * (torch.rand_like(values) - 0.5)
    assert not torch.equal(blurred, values)
    assert torch.equal(nearest(blurred, book), own)
    far = nearest(values * 100, book)
    assert (far >= 0).all()
    assert (far < torch.tensor(book.radices)).all()


def all_probabilities(z_NC: Tensor, temperature: float) -> Tensor:
    """softmax(2 z.c / temperature) over all 2^C codes c."""
    bits = z_NC.shape[1]
    codes_KC = ((torch.arange(2**bits)[:, None] >> torch.arange(bits)) & 1).double() * 2 - 1
    return (2 * z_NC.double() @ codes_KC.T / temperature).softmax(-1)


@pytest.mark.parametrize("temperature", [1.0, 0.1, 0.01])
def test_entropies_are_those_of_all_codes(temperature: float) -> None:
    z = torch.randn(300, 10, dtype=torch.float64) * 0.3
    z[:, 9] = z[:, 0]  # bits that depend on one another, within and across groups
    p_NK = all_probabilities(z, temperature)
    token = torch.special.entr(p_NK).sum(-1).mean().float()
    book = torch.special.entr(p_NK.mean(0)).sum().float()
    torch.testing.assert_close(token_entropy(z, temperature), token, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(book_entropy(z, temperature, 10), book, atol=1e-5, rtol=1e-5)
    groups = [
        torch.special.entr(all_probabilities(part, temperature).mean(0)).sum()
        for part in z.split(9, dim=1)
    ]
    found = book_entropy(z, temperature)
    torch.testing.assert_close(found, torch.stack(groups).sum().float(), atol=1e-5, rtol=1e-5)
    assert found > book + 0.01


def test_entropy_gradients_are_those_of_all_codes() -> None:
    z = (torch.randn(40, 8) * 0.3).requires_grad_()
    other = z.detach().double().requires_grad_()
    (token_entropy(z, 0.2) - book_entropy(z, 0.2)).backward()
    p_NK = all_probabilities(other, 0.2)
    token, book = torch.special.entr(p_NK).sum(-1).mean(), torch.special.entr(p_NK.mean(0)).sum()
    (token - book).backward()
    assert z.grad is not None
    assert other.grad is not None
    torch.testing.assert_close(z.grad.double(), other.grad, atol=1e-6, rtol=1e-4)
    assert z.grad.abs().max() > 1e-3


def test_extreme_numbers_have_finite_entropies() -> None:
    z = torch.tensor([[0.0, 1e6, -1e6], [1e6, 0.0, -1e6]], requires_grad=True)
    total = token_entropy(z, 0.01) - book_entropy(z, 0.01)
    total.backward()
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()
    assert token_entropy(z, 0.01).item() == pytest.approx(math.log(2))


def test_usage_counts_codes() -> None:
    even = usage(np.arange(100) % 10, 1000)
    assert even["codes_used"] == pytest.approx(0.1)
    assert even["perplexity"] == pytest.approx(10)
    assert usage(np.arange(100) % 10, 10)["codes_used"] == 1
    single = usage(np.zeros((3, 4), int), 1000)
    assert single["perplexity"] == 1
    assert usage(np.array([0, 0, 0, 1]), 2)["perplexity"] < 2
