"""A sample with dropped tokens trains as the whole one with those tokens masked out."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from openreel.dit import blocks
from openreel.dit.attention import Backend, Segments, attend
from openreel.dit.conditioning import TaskMix
from openreel.dit.config import DiTConfig
from openreel.dit.flow import Flow
from openreel.dit.model import DiT
from openreel.dit.train import DenoiserLoss, DenoiserTaskConfig, NoisyBatch, corrupt_batch
from openreel.packing.batch import Sample, collate
from openreel.packing.drop import TokenDrop
from openreel.packing.patches import positions
from openreel.packing.plan import CAUSAL, FULL, SPATIAL, Grid, Window
from openreel.pipeline.keyed import generator

GRIDS: tuple[Grid, ...] = ((3, 4, 4), (1, 3, 5), (4, 2, 3))
CONFIG = DenoiserTaskConfig(seed=2, tasks=TaskMix(image=0.5, prefix=0.5, suffix=0, both_ends=0))
DROP = TokenDrop(law="constant", rate=0.5)


def samples(*, dropped: bool) -> list[Sample]:
    found = []
    for i, grid in enumerate(GRIDS):
        random, count = generator(0, "sample", i), int(np.prod(grid))
        whole = Sample(
            sample_id=str(i),
            tokens=random.standard_normal((count, 8), np.float32),
            valid=random.random((count, 8)) < 0.9,
            positions=positions(grid),
            grid=grid,
            text=random.standard_normal((2 + i, 6), np.float32),
            fps=8.0,
            weight=1.0 + i,
        )
        kept = DROP.kept(count, 1, str(i), 0)
        if dropped and kept is not None:
            cut = {name: getattr(whole, name)[kept] for name in ("tokens", "valid", "positions")}
            whole = replace(whole, **cut, kept=kept)
        found.append(whole)
    return found


def model(*windows: Window) -> DenoiserLoss:
    torch.manual_seed(0)
    config = DiTConfig(
        latent_channels=2,
        text_dim=6,
        dim=24,
        depth=2,
        num_heads=2,
        time_dim=16,
        windows=windows,
        fractional_places=True,
        shape_condition=True,
    )
    dit = DiT(config)
    for parameter in dit.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return DenoiserLoss(dit, Flow())


def kept_places(batch: NoisyBatch) -> Tensor:
    """Places, in the whole pack, of the tokens that stay."""
    offsets = np.cumsum([0, *(int(np.prod(grid)) for grid in GRIDS)])
    pairs = zip(offsets, batch.batch.kept, strict=False)
    return torch.from_numpy(np.concatenate([a + kept for a, kept in pairs if kept is not None]))


def masked_loss(window: Window, dropped: NoisyBatch, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """The loss of whole samples whose dropped tokens no other sees, and no loss counts."""
    whole = corrupt_batch(collate(samples(dropped=False)), CONFIG)
    stays = torch.zeros(len(whole.batch.tokens), dtype=torch.bool)
    stays[kept_places(dropped)] = True
    owner = torch.repeat_interleave(torch.arange(3), torch.tensor(whole.batch.lengths))
    frame, columns = torch.from_numpy(whole.batch.positions[:, 0]), len(stays)
    plans = {FULL: owner[:, None] == owner}
    plans[SPATIAL] = plans[FULL] & (frame[:, None] == frame)
    plans[CAUSAL] = plans[FULL] & (frame <= frame[:, None])
    layers = iter([window, FULL])

    def dense(q: Tensor, k: Tensor, v: Tensor, segments: Segments, backend: Backend) -> Tensor:
        if segments.q_lengths == whole.batch.lengths and k.shape[0] != columns:
            return attend(q, k, v, segments, backend)  # to the text
        mask = plans[next(layers)] & stays | torch.eye(columns, dtype=torch.bool)
        q, k, v = (rearrange(x, "l n k -> n l k") for x in (q, k, v))
        return rearrange(F.scaled_dot_product_attention(q, k, v, attn_mask=mask), "n l k -> l n k")

    monkeypatch.setattr(blocks, "attend", dense)
    valid = whole.batch.valid & stays.numpy()[:, None]
    known = np.array(whole.batch.known)
    known[stays.numpy()] = dropped.batch.known
    masked = replace(whole, batch=replace(whole.batch, valid=valid, known=known))
    loss: Tensor = model(window, FULL)(masked)[0]
    monkeypatch.undo()
    assert next(layers, None) is None, "every layer was masked"
    return loss


@pytest.mark.parametrize("window", [FULL, SPATIAL, CAUSAL], ids=str)
def test_the_loss_is_that_of_whole_samples_with_the_dropped_tokens_masked(
    window: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    noisy = corrupt_batch(collate(samples(dropped=True)), CONFIG)
    assert sum(noisy.batch.lengths) < 0.6 * sum(np.prod(grid) for grid in GRIDS)
    assert noisy.batch.known.any()
    loss, _ = model(window, FULL)(noisy)
    torch.testing.assert_close(loss, masked_loss(window, noisy, monkeypatch), atol=1e-5, rtol=1e-5)


def test_a_kept_token_has_the_noise_the_level_and_the_mask_that_it_has_in_the_whole() -> None:
    whole = corrupt_batch(collate(samples(dropped=False)), CONFIG)
    noisy = corrupt_batch(collate(samples(dropped=True)), CONFIG)
    places = kept_places(noisy).numpy()
    assert np.array_equal(noisy.noise, whole.noise[places])
    assert np.array_equal(noisy.levels, whole.levels)
    assert np.array_equal(noisy.batch.known, whole.batch.known[places])
    assert np.array_equal(noisy.batch.tokens, whole.batch.tokens[places])


def test_a_sample_that_keeps_given_tokens_alone_is_generated_whole() -> None:
    whole = samples(dropped=False)[0]
    first = np.arange(2)
    cut = {name: getattr(whole, name)[first] for name in ("tokens", "valid", "positions")}
    alone = replace(whole, **cut, kept=first)
    both = [corrupt_batch(collate([s]), CONFIG).batch for s in (whole, alone)]
    assert both[0].known[first].all()
    assert not both[1].known.any()


def test_no_later_frame_moves_an_earlier_ones_output_under_a_causal_plan() -> None:
    task = model(CAUSAL)
    batch = collate(samples(dropped=True)).map(torch.as_tensor)
    layout = task.dit.layout(batch)
    tokens = batch.tokens.clone().requires_grad_()
    levels = torch.tensor([0.3, 0.5, 0.9])
    out = task.dit(tokens, levels, batch.text, layout)
    span = slice(0, batch.lengths[0])
    frames = batch.positions[span, 0]
    for frame in range(3):
        (gradient,) = torch.autograd.grad(
            out[span][frames == frame].square().sum(), tokens, retain_graph=True
        )
        seen = gradient.abs().sum(1) > 0
        assert seen[span][frames <= frame].all()
        assert not seen[span][frames > frame].any()
        assert not seen[batch.lengths[0] :].any()
