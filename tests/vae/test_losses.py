"""Losses against slow or independent references."""

import math

import pytest
import torch

from openreel.pipeline.errors import InputError
from openreel.vae.losses import LossWeights, bands, charbonnier, flicker, kl, loss, multiscale_ssim


def test_a_perfect_decoding_costs_nothing() -> None:
    x = torch.rand(3, 24, 20, 3) * 2 - 1
    unit = torch.zeros(1, 3, 3, 4)
    total, figures = loss(x, x, {"kl": kl(unit, unit)}, LossWeights())
    assert total.abs() < 1e-6
    assert figures["psnr"] > 90


def test_the_psnr_is_of_the_range_of_two() -> None:
    x = torch.zeros(2, 8, 8, 3)
    _, figures = loss(x, x + 0.2, {}, LossWeights(ssim=0))
    assert figures["psnr"].item() == pytest.approx(20 * math.log10(2 / 0.2), abs=1e-4)


def test_kl_is_that_of_torch() -> None:
    mean, log_variance = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    posterior = torch.distributions.Normal(mean, (log_variance / 2).exp())
    expected = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0, 1)).mean()
    torch.testing.assert_close(kl(mean, log_variance), expected)


def test_each_term_sees_its_own_error() -> None:
    flat = torch.ones(4, 8, 8, 3)
    checks = flat.clone()
    checks[:, ::2] *= -1
    flashing = flat.clone()
    flashing[::2] *= -1
    assert bands(flat) == 0 == flicker(flat)
    assert bands(checks) > 0 == flicker(checks)
    assert flicker(flashing) > 0 == bands(flashing)
    assert charbonnier(flat, 1e-3) == pytest.approx(1, abs=0.01)
    assert charbonnier(flat * 1e-2) == pytest.approx(1e-4 / (2 * 0.3), rel=0.01)


def test_one_pixel_and_one_frame_are_legal() -> None:
    x = torch.zeros(1, 1, 1, 3, requires_grad=True)
    total, _ = loss(x.detach(), x, {}, LossWeights())
    total.backward()
    assert torch.isfinite(x.grad).all()  # type: ignore[arg-type]


def test_ssim_is_the_textbook_formula() -> None:
    x, y = torch.rand(2, 1, 5, 5, 1).expand(-1, -1, -1, -1, 3) * 2 - 1
    a, b = x[0, ..., 0], y[0, ..., 0]
    covariance = ((a - a.mean()) * (b - b.mean())).mean()
    c1, c2 = 0.02**2, 0.06**2
    luminance = (2 * a.mean() * b.mean() + c1) / (a.mean() ** 2 + b.mean() ** 2 + c1)
    structure = (2 * covariance + c2) / (a.var(correction=0) + b.var(correction=0) + c2)
    torch.testing.assert_close(multiscale_ssim(x, y), luminance * structure)
    torch.testing.assert_close(multiscale_ssim(x, x), torch.tensor(1.0))


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(InputError, match="flicker: got -1"):
        LossWeights(flicker=-1)
