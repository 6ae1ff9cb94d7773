"""The discriminator: each side gets its own gradient, and off is as if there were none."""

import copy
import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from openreel.pipeline.errors import InputError
from openreel.vae.adversary import Adversary, AdversaryConfig
from openreel.vae.config import AutoencoderConfig
from openreel.vae.losses import LossWeights, bands, charbonnier, flicker, kl, multiscale_ssim
from openreel.vae.objective import Sample, VaeBatch, VaeObjective
from openreel.vae.train import new_autoencoder


@pytest.fixture
def batch() -> VaeBatch:
    random = torch.Generator().manual_seed(0)

    def sample(num_frames: int, height: int, width: int) -> Sample:
        t, h, w = 1 + -(-(num_frames - 1) // 4), -(-height // 8), -(-width // 8)
        frames = torch.randint(0, 256, (num_frames, height, width, 3), generator=random)
        noise = torch.randn(t, h, w, 5, generator=random)
        return Sample(frames_THWC=frames.to(torch.uint8), noise_thwC=noise)

    return VaeBatch(samples=(sample(6, 19, 33), sample(1, 8, 8), sample(9, 24, 16)), first=10)


def objective(config: AutoencoderConfig, **adversary: float) -> VaeObjective:
    settings = AdversaryConfig(width=8, **adversary)  # type: ignore[arg-type]
    return VaeObjective(new_autoencoder(config, seed=0), LossWeights(), adversary=settings)


def gradients(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def plain_loss(model: VaeObjective, sample: Sample) -> Tensor:
    """The objective of a continuous autoencoder, term by term."""
    coder, weights = model.autoencoder, model.weights
    x = sample.frames_THWC.float() / 127.5 - 1
    num_frames, height, width = x.shape[:3]
    pad = F.pad(x.permute(3, 0, 1, 2), (0, -width % 8, 0, -height % 8), mode="replicate")
    pad = torch.cat([pad, pad[:, -1:].expand(-1, -(num_frames - 1) % 4, -1, -1)], 1)
    mean, log_variance, _ = coder.moments(pad.permute(1, 2, 3, 0), None)
    z = mean + sample.noise_thwC * (log_variance / 2).exp()
    y = coder.decoder(z, None)[0][:num_frames, :height, :width]
    terms = [
        weights.charbonnier * charbonnier(y - x),
        weights.bands * bands(y - x),
        weights.flicker * flicker(y - x),
        weights.kl * kl(mean, log_variance),
        weights.ssim * (1 - multiscale_ssim(x, y)),
    ]
    return torch.stack(terms).sum()


def test_off_is_the_plain_loss_bit_for_bit(config: AutoencoderConfig, batch: VaeBatch) -> None:
    off, late = objective(config), objective(config, weight=0.1, start=11)
    reference = copy.deepcopy(off)
    assert list(off.state_dict()) == [f"autoencoder.{k}" for k in off.autoencoder.state_dict()]
    expected = torch.stack([plain_loss(reference, sample) for sample in batch.samples]).sum()
    expected.backward()
    for model in (off, late):
        total, figures = model(batch)
        total.backward()
        assert torch.equal(total, expected)
        assert "adversary" not in figures
        assert gradients(model).keys() == gradients(reference).keys()
        for name, gradient in gradients(reference).items():
            torch.testing.assert_close(gradients(model)[name], gradient, atol=1e-6, rtol=1e-4)
            assert torch.equal(gradients(model)[name], gradients(off)[name])


def test_each_side_gets_its_own_gradient(config: AutoencoderConfig, batch: VaeBatch) -> None:
    model = objective(config, weight=0.1, start=4, ramp=12)
    model.adversary.means.copy_(torch.tensor([0.2, -0.1]))
    with torch.no_grad():  # a decoder that depends on all of its input
        for p in model.parameters():
            p += 0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1))
    reference = copy.deepcopy(model)
    total, figures = model(batch)
    total.backward()
    assert {"adversary", "score_real", "score_fake"} <= figures.keys()

    coded = [reference._coded(sample) for sample in batch.samples]
    network = reference.adversary.network
    network.requires_grad_(False)
    strength = 0.1 * (10 - 4) / 12
    deceived = [-network(one.decoded_THWC).mean() for one in coded]
    own = torch.stack([one.loss for one in coded]).sum() + strength * torch.stack(deceived).sum()
    own.backward()
    network.requires_grad_(True)
    for one in coded:
        real, fake = network(one.target_THWC), network(one.decoded_THWC.detach())
        hinge = ((1 - real).clamp(min=0).mean() + (1 + fake).clamp(min=0).mean()) / 2
        lecam = (real + 0.1).clamp(min=0).square().mean()
        lecam = lecam + (0.2 - fake).clamp(min=0).square().mean()
        (0.1 * (hinge + 0.05 * lecam)).backward()
    expected = gradients(reference)
    assert gradients(model).keys() == expected.keys() == dict(model.named_parameters()).keys()
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-6, rtol=1e-4)
    assert any(g.abs().max() > 1e-4 for k, g in expected.items() if k.startswith("adversary"))


def test_it_can_be_learnt_and_holds_for_every_size() -> None:
    torch.manual_seed(0)
    rival = Adversary(8)
    real = [torch.rand(t, h, w, 3) for t, h, w in ((1, 1, 1), (2, 17, 5), (9, 20, 36))]
    pairs = [(x, (x * 4).floor() / 4) for x in real]
    optimiser = torch.optim.Adam(rival.parameters(), lr=1e-2)
    for _ in range(30):
        _, loss, figures = rival(pairs, 0.0)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    assert figures["score_real"] > figures["score_fake"] + 0.3


def test_the_means_follow_the_scores_of_all_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch.distributed as dist

    rival = Adversary(8)
    rival._follow(torch.tensor([1.0, -2.0]))
    torch.testing.assert_close(rival.means, torch.tensor([0.01, -0.02]))
    rival._follow(torch.tensor([float("nan"), 0.0]))
    torch.testing.assert_close(rival.means, torch.tensor([0.01, -0.02 * 0.99]))

    def other_rank(scores: Tensor) -> None:
        scores += torch.tensor([3.0, 5.0]) / 2

    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "all_reduce", other_rank)
    rival.means.zero_()
    rival._follow(torch.tensor([1.0, 1.0]))
    torch.testing.assert_close(rival.means, torch.tensor([0.02, 0.03]))


def test_a_forward_moves_the_means(batch: VaeBatch, config: AutoencoderConfig) -> None:
    model = objective(config, weight=0.1, start=0)
    _, figures = model(batch)
    scores = torch.stack([figures["score_real"], figures["score_fake"]])
    torch.testing.assert_close(model.adversary.means, 0.01 * scores)
    assert (scores != 0).all()


def test_the_weight_grows_from_the_start_on() -> None:
    config = AdversaryConfig(weight=0.4, start=100, ramp=10)
    assert [config.strength(n) for n in (100, 105, 110, 999)] == pytest.approx([0, 0.2, 0.4, 0.4])
    assert dataclasses.replace(config, ramp=0).strength(101) == 0.4
    with pytest.raises(InputError, match=r"^lecam: got -1"):
        AdversaryConfig(lecam=-1)
    with pytest.raises(InputError, match=r"^width: got 0"):
        AdversaryConfig(width=0)
