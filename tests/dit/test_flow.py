"""Objectives invert, shifts are bounded, known tokens stay known, samplers find the data."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from openreel.dit.conditioning import TaskMix, known_frames
from openreel.dit.config import DiTConfig
from openreel.dit.flow import Flow, ShiftConfig, shifted, zero_snr_levels
from openreel.dit.model import DiT, Layout
from openreel.dit.sample import Request, SampleConfig, Solver, sample
from openreel.dit.train import DenoiserTaskConfig, corrupt_batch
from openreel.dit.weights import Denoiser, Method
from openreel.packing.batch import Sample, collate
from openreel.packing.patches import patch_grid, patchify, positions, unpatchify, valid_values


def sample_of(index: int, size: tuple[int, int, int] = (1, 2, 2)) -> Sample:
    grid = patch_grid(size, (1, 2, 2))
    return Sample(
        sample_id=str(index),
        tokens=patchify(np.zeros((4, *size), np.float32), (1, 2, 2)),
        valid=valid_values(size, (1, 2, 2), 4),
        positions=positions(grid),
        grid=grid,
        text=np.zeros((1, 3), np.float32),
        fps=8.0,
    )


@pytest.mark.parametrize("predicts", ["velocity", "data", "v"])
@pytest.mark.parametrize("data_std", [1.0, 0.5])
def test_a_perfect_prediction_gives_the_data_back_at_every_level(
    predicts: Any, data_std: float
) -> None:
    flow = Flow(predicts=predicts, data_std=data_std)
    clean, noise = torch.randn(2, 50, 8, generator=torch.Generator().manual_seed(0))
    levels = torch.linspace(0, 1, 50)[:, None]
    noisy = flow.corrupt(clean, noise, levels)
    assert torch.equal(noisy[0], clean[0])
    assert torch.equal(noisy[-1], noise[-1])
    target = flow.target(clean, noise, levels)
    output = clean if predicts == "data" else target
    torch.testing.assert_close(flow.denoise(noisy, output, levels), clean, atol=2e-6, rtol=1e-5)
    compared = flow.compared(noisy, output, levels)
    torch.testing.assert_close(compared, target, atol=1e-4, rtol=1e-4)


def test_v_is_diffusers_v_on_the_schedule_without_a_last_signal() -> None:
    from diffusers.schedulers import DDPMScheduler

    theirs = DDPMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        rescale_betas_zero_snr=True,
        prediction_type="v_prediction",
    )
    clean, noise = torch.randn(2, 1000, 8, generator=torch.Generator().manual_seed(0))
    steps = torch.arange(1000)
    levels = torch.from_numpy(zero_snr_levels()).float()[:, None]
    assert levels[-1] == 1
    assert levels[0] < 0.05
    flow = Flow(predicts="v")
    noisy = flow.inputs(flow.corrupt(clean, noise, levels), levels)
    close = {"atol": 2e-4, "rtol": 0}  # theirs lets the last signal be 2^-24 in float32
    torch.testing.assert_close(noisy, theirs.add_noise(clean, noise, steps), **close)
    velocity = theirs.get_velocity(clean, noise, steps)
    torch.testing.assert_close(flow.target(clean, noise, levels), velocity, **close)


def test_v_at_edms_levels_is_edms_preconditioning() -> None:
    from diffusers.schedulers import EDMEulerScheduler

    theirs = EDMEulerScheduler(sigma_data=0.5)
    flow = Flow(predicts="v", data_std=0.5)
    sigma = torch.tensor([0.002, 0.1, 1.0, 7.0, 80.0])[:, None]
    clean, noise, output = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0))
    levels = sigma / (1 + sigma)
    noisy = flow.corrupt(clean, noise, levels)
    edm = clean + sigma * noise
    torch.testing.assert_close(flow.inputs(noisy, levels), theirs.precondition_inputs(edm, sigma))
    denoised = theirs.precondition_outputs(edm, output, sigma)
    torch.testing.assert_close(flow.denoise(noisy, -output, levels), denoised, atol=1e-5, rtol=1e-5)


def test_levels_are_drawn_as_configured() -> None:
    samples = [sample_of(i) for i in range(400)]
    none = ShiftConfig(max_shift=1.0)
    edm = DenoiserTaskConfig(level_mean=-1.2, level_std=1.2, shift=none)
    levels = corrupt_batch(collate(samples), edm).levels
    sigma = np.log(levels / (1 - levels))  # EDM's: normal with -1.2 and 1.2
    assert sigma.mean() == pytest.approx(-1.2, abs=0.2)
    assert sigma.std() == pytest.approx(1.2, abs=0.15)
    steps = corrupt_batch(collate(samples), DenoiserTaskConfig(levels="zero-snr", shift=none))
    table = zero_snr_levels().astype(np.float32)
    assert np.isin(steps.levels, table).all()
    places = np.searchsorted(table, np.sort(steps.levels)) / 1000
    assert np.abs(places - np.linspace(0, 1, 400)).max() < 0.1  # uniform over the steps


def test_the_shift_grows_with_area_and_is_bounded_in_time() -> None:
    law = ShiftConfig(base_tokens=256)
    assert law.shift((1, 16, 16)) == 1.0
    assert law.shift((1, 64, 64)) == pytest.approx(4.0)
    assert law.shift((10**6, 64, 64)) == pytest.approx(8.0)
    levels = np.linspace(0, 1, 101)
    moved = shifted(levels, 4.0)
    assert moved[0] == 0
    assert moved[-1] == 1
    assert (moved[1:-1] > levels[1:-1]).all()
    assert (np.diff(moved) > 0).all()


def test_tasks_are_drawn_in_their_shares_and_never_give_everything() -> None:
    mix, grid = TaskMix(image=0.3, prefix=0.2, suffix=0.1, both_ends=0.1), (5, 2, 3)
    drawn = [mix.draw(grid, 0, i).reshape(grid) for i in range(2000)]
    frames = np.array([[f.all() for f in known] for known in drawn])
    assert not frames.all(axis=1).any()
    assert np.mean(~frames.any(axis=1)) == pytest.approx(0.3, abs=0.04)
    assert np.mean(frames[:, -1] & ~frames[:, 0]) == pytest.approx(0.1, abs=0.03)
    assert not mix.draw((1, 2, 3), 0, 0).any(), "a single image is never its own condition"


class Analytic(nn.Module):
    """A model of data that is one point per prompt: its velocity is (x - point) / level."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config, self.head, self.layout_of = config, nn.Linear(1, 1), DiT(config)

    def layout(self, batch: object) -> Layout:
        return self.layout_of.layout(batch)  # type: ignore[arg-type]

    def forward(self, noisy: Tensor, levels: Tensor, text: Tensor, layout: Layout) -> Tensor:
        sample_of_token = layout.row_of_token_L // 2
        first_text = torch.searchsorted(layout.sample_of_text_M, torch.arange(len(levels)))
        point = text[first_text, :1][sample_of_token]
        return (noisy - point) / levels[sample_of_token, None]


TOY = Method(shift=ShiftConfig(base_tokens=4))
CONFIG = DiTConfig(latent_channels=4, text_dim=3, dim=24, depth=1, num_heads=2)


def request(name: str, size: tuple[int, int, int], point: float, **given: object) -> Request:
    text = np.full((2, 3), point, np.float32)
    negative = np.zeros((1, 3), np.float32)
    return Request(
        name=name,
        seed=5,
        size=size,
        fps=8.0,
        text=text,
        negative=negative,
        **given,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("solver", ["euler", "unipc", "dpm++"])
def test_every_solver_reaches_the_data_for_two_shapes_in_one_pack(solver: Solver) -> None:
    denoiser = Denoiser(Analytic(CONFIG), TOY, {})  # type: ignore[arg-type]
    requests = [request("a", (2, 5, 6), 0.7), request("b", (1, 3, 9), -1.2)]
    videos = sample(denoiser, requests, SampleConfig(steps=8, guidance=1.0, solver=solver))
    assert [v.shape for v in videos] == [(4, 2, 5, 6), (4, 1, 3, 9)]
    for video, point in zip(videos, (0.7, -1.2), strict=True):
        np.testing.assert_allclose(video, point, atol=1e-4)


def test_padding_inside_patches_is_noise_of_the_level_as_in_training() -> None:
    seen: list[Tensor] = []

    class Watching(Analytic):
        def forward(self, noisy: Tensor, levels: Tensor, text: Tensor, layout: Layout) -> Tensor:
            seen.append(torch.cat([noisy[0, [3, 7, 11, 15]], levels]))  # 3 columns in patches of 2
            return super().forward(noisy, levels, text, layout)

    denoiser = Denoiser(Watching(CONFIG), TOY, {})  # type: ignore[arg-type]
    sample(denoiser, [request("a", (1, 2, 1), 0.7)], SampleConfig(steps=4, guidance=1.0))
    first, *later = seen
    for values in later:
        torch.testing.assert_close(values[:-1], values[-1] * first[:-1])


def test_guidance_moves_from_the_negative_through_the_prompt() -> None:
    denoiser = Denoiser(Analytic(CONFIG), TOY, {})  # type: ignore[arg-type]
    (video,) = sample(denoiser, [request("a", (1, 4, 4), 0.5)], SampleConfig(steps=6, guidance=3.0))
    np.testing.assert_allclose(video, 0.0 + 3.0 * 0.5, atol=1e-4)


def random_denoiser() -> Denoiser:
    torch.manual_seed(0)
    dit = DiT(CONFIG).eval()
    nn.init.normal_(dit.head.weight, std=0.1)
    return Denoiser(dit, TOY, {})


def test_a_video_is_the_same_alone_and_in_company() -> None:
    denoiser, config = random_denoiser(), SampleConfig(steps=4, guidance=2.0)
    a, b = request("a", (2, 5, 6), 0.7), request("b", (3, 4, 4), -1.0)
    together, alone = sample(denoiser, [a, b], config), sample(denoiser, [a], config)
    np.testing.assert_allclose(together[0], alone[0], atol=1e-5)
    assert (
        np.abs(alone[0] - sample(denoiser, [request("c", (2, 5, 6), 0.7)], config)[0]).max() > 0.1
    )


def test_known_tokens_come_back_untouched() -> None:
    size, patch = (3, 4, 6), CONFIG.patch
    clean = np.random.default_rng(0).standard_normal((4, *size)).astype(np.float32)
    known = known_frames(patch_grid(size, patch), head=1, tail=1)
    given = request("a", size, 0.3, known=known, clean=clean)
    (video,) = sample(random_denoiser(), [given], SampleConfig(steps=3, guidance=2.0))
    kept = unpatchify(np.repeat(known[:, None], 16, 1), size, patch)
    assert kept[:, 0].all()
    assert not kept[:, 1].any()
    assert np.array_equal(video[kept], clean[kept])
    assert not np.allclose(video[~kept], clean[~kept])
