"""The task: keyed, resumable, the same for any number of ranks; and it learns."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from openreel.dit.engine import EngineConfig
from openreel.dit.metrics import read as read_metrics
from openreel.dit.trainer import TrainConfig, train
from openreel.pipeline.clip import Clip, digest
from openreel.pipeline.errors import InputError
from openreel.pipeline.keyed import generator
from openreel.vae.adversary import AdversaryConfig
from openreel.vae.codec import Frames
from openreel.vae.config import AutoencoderConfig, tiny, with_head
from openreel.vae.heads import FSQ, LFQ
from openreel.vae.losses import LossWeights
from openreel.vae.measures import psnr
from openreel.vae.objective import VaeBatch
from openreel.vae.train import VaeTask, VaeTrainConfig, new_autoencoder
from openreel.vae.weights import load_autoencoder

SHAPES = [(9, 16, 24), (13, 24, 16), (1, 20, 20), (6, 17, 23), (17, 40, 40)]


def a_clip(index: int) -> Clip:
    num_frames, height, width = SHAPES[index % len(SHAPES)]
    return Clip(
        clip_id=digest("clip", index),
        video_id=digest("video", index),
        uri=str(index),
        kind="video" if num_frames > 1 else "image",
        start_frame=0,
        num_frames=num_frames,
        start_pts=0,
        end_pts=num_frames,
        time_base="1/8",
        fps=8,
        width=width,
        height=height,
    )


def read(clip: Clip) -> Frames:
    """A coloured square on a grey ramp."""
    random = generator(0, clip.clip_id)
    ramp = np.linspace(60, 180, clip.width, dtype=np.uint8)
    frames = np.empty((clip.num_frames, clip.height, clip.width, 3), np.uint8)
    frames[:] = ramp[:, None]
    y, x = random.integers(0, 8, 2)
    frames[:, y : y + 8, x : x + 8] = random.integers(0, 256, 3)
    return frames


def a_task(config: AutoencoderConfig, **changes: object) -> VaeTask:
    clips = [a_clip(i) for i in range(23)]
    settings = {"batch_pixels": 12_000, "max_area": 30 * 30, "max_frames": 9, **changes}
    rank, world_size = settings.pop("rank", 0), settings.pop("world_size", 1)
    return VaeTask(
        new_autoencoder(config, seed=0),
        clips,
        read,
        VaeTrainConfig(**settings),  # type: ignore[arg-type]
        seed=3,
        rank=rank,  # type: ignore[arg-type]
        world_size=world_size,  # type: ignore[arg-type]
    )


def assert_equal(a: VaeBatch, b: VaeBatch) -> None:
    assert len(a.samples) == len(b.samples)
    for one, other in zip(a.samples, b.samples, strict=True):
        assert torch.equal(one.frames_THWC, other.frames_THWC)
        assert torch.equal(one.noise_thwC, other.noise_thwC)


def test_ranks_share_the_sequence_of_one_process(config: AutoencoderConfig) -> None:
    alone = a_task(config)
    sequence = [alone.next_batch() for _ in range(30)]
    assert alone.state()["epoch"] >= 2
    ranks = [a_task(config, rank=r, world_size=3) for r in range(3)]
    for first in range(0, 30, 3):
        for r, task in enumerate(ranks):
            batch = task.next_batch()
            assert_equal(batch, sequence[first + r])
            assert (batch.index, batch.first) == (sequence[first + r].index, first)
    assert ranks[0].state() == ranks[2].state() == alone.state()


def test_a_restored_task_goes_on(config: AutoencoderConfig) -> None:
    task = a_task(config)
    for _ in range(7):
        task.next_batch()
    state = task.state()
    other = a_task(config, cache_mib=0)
    other.restore(state)
    for _ in range(12):
        assert_equal(task.next_batch(), other.next_batch())


def test_shapes_are_native_below_the_limits(config: AutoencoderConfig) -> None:
    task = a_task(config, image_share=0.3)
    samples = [s for _ in range(40) for s in task.next_batch().samples]
    shapes = {tuple(s.frames_THWC.shape[:3]) for s in samples}
    assert {(9, 16, 24), (6, 17, 23), (1, 20, 20), (9, 30, 30)} <= shapes
    assert (1, 16, 24) in shapes
    assert all(t <= 9 and h * w <= 900 for t, h, w in shapes)


def test_a_batch_keeps_to_its_budget(config: AutoencoderConfig) -> None:
    task = a_task(config, batch_pixels=9000)
    costs = []
    for _ in range(30):
        batch = task.next_batch()
        assert batch.weight == len(batch.samples)
        costs.append([s.frames_THWC[..., 0].numel() for s in batch.samples])
    assert all(sum(cost) <= 9000 or len(cost) == 1 for cost in costs)
    assert max(map(len, costs)) > 1


def test_the_loss_is_the_sum_over_samples(config: AutoencoderConfig) -> None:
    task = a_task(config)
    batch = max((task.next_batch() for _ in range(8)), key=lambda b: b.weight)
    assert batch.weight > 2
    whole, figures = task.model(batch)
    parts = [task.model(VaeBatch(samples=(sample,)))[0] for sample in batch.samples]
    torch.testing.assert_close(whole, torch.stack(parts).sum())
    assert {"charbonnier", "kl", "psnr"} <= figures.keys()


def learn(task: VaeTask) -> dict[str, torch.Tensor]:
    """Forty steps, by which the pictures come back better; the last step's figures."""
    optimiser = torch.optim.AdamW(task.model.parameters(), lr=3e-3)
    psnr = []
    for _ in range(40):
        batch = task.next_batch()
        total, figures = task.model(batch)
        (total / batch.weight).backward()
        optimiser.step()
        optimiser.zero_grad()
        psnr.append(float(figures["psnr"]))
    assert np.mean(psnr[-8:]) > np.mean(psnr[:8]) + 2
    return figures


def test_it_learns(config: AutoencoderConfig) -> None:
    task = a_task(tiny(), image_share=0.0, loss=LossWeights(ssim=0))
    learn(task)


def test_exported_latents_have_zero_mean_and_unit_variance(
    config: AutoencoderConfig, tmp_path: Path
) -> None:
    task = a_task(config)
    average = {name: x + 0.01 for name, x in task.model.state_dict().items()}
    task.export(tmp_path, average)
    model = load_autoencoder(tmp_path)
    published = load_file(tmp_path / "model.safetensors")
    torch.testing.assert_close(
        published["encoder.enter.weight"], average["autoencoder.encoder.enter.weight"]
    )
    crops = [task._crop(clip, "statistics", images=False) for clip in task.clips]
    latents = np.concatenate(
        [model.encode_video(crop, fps=8).latents.reshape(5, -1) for crop in crops], 1
    )
    np.testing.assert_allclose(latents.mean(1), 0, atol=1e-3)
    np.testing.assert_allclose(latents.std(1), 1, atol=1e-3)
    assert torch.equal(task.model.autoencoder.latent_std, torch.ones(5))


@pytest.mark.parametrize("head", [FSQ(levels=(8, 5, 3)), LFQ(bits=6)], ids=["fsq", "lfq"])
def test_discrete_heads_learn(head: FSQ | LFQ) -> None:
    task = a_task(with_head(tiny(), head), image_share=0.0, loss=LossWeights(ssim=0))
    figures = learn(task)
    assert 1 < figures["perplexity"] <= head.size
    assert 0 < figures["codes_used"] <= 1


def test_the_entropies_are_of_the_whole_batch(config: AutoencoderConfig) -> None:
    """Weighted as many times as the batch has samples, and faded from three times to once."""
    weights = LossWeights(entropy=0.2, entropy_batches=10)
    task = a_task(with_head(config, LFQ(bits=5)), loss=weights)
    batch = max((task.next_batch() for _ in range(8)), key=lambda b: b.weight)
    with torch.no_grad():
        parts = sum(task.model._coded(sample).loss for sample in batch.samples)
        for index, factor in ((0, 3), (5, 2), (10, 1), (99, 1)):
            total, figures = task.model(dataclasses.replace(batch, index=index))
            spread = figures["token_entropy"] - figures["book_entropy"]
            expected = parts + batch.weight * 0.2 * factor * spread
            torch.testing.assert_close(total, expected, atol=1e-5, rtol=1e-5)
    assert batch.weight > 2
    assert {"commitment", "codes_used", "perplexity"} <= figures.keys()
    assert "kl" not in figures


class Interrupted(Exception):
    pass


@pytest.mark.slow
def test_a_run_with_every_part_resumes_exactly(config: AutoencoderConfig, tmp_path: Path) -> None:
    """LFQ, its fading entropy and a discriminator that begins on the way."""
    adversary = AdversaryConfig(weight=0.1, start=2, ramp=3, width=8)
    settings = TrainConfig(steps=6, engine=EngineConfig(learning_rate=1e-3), save_every=2)

    def fresh() -> VaeTask:
        weights = LossWeights(entropy_batches=4)
        head = with_head(config, LFQ(bits=5))
        return a_task(head, adversary=adversary, loss=weights, batch_pixels=1)

    def stop_at_5(step: int, figures: dict[str, float]) -> None:
        if step == 5:
            raise Interrupted

    whole = train(fresh(), settings, tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(fresh(), settings, tmp_path / "cut", on_step=stop_at_5)
    resumed = train(fresh(), settings, tmp_path / "cut")
    assert load_autoencoder(resumed).codec == load_autoencoder(whole).codec
    lines = [read_metrics(tmp_path / name / "metrics.jsonl") for name in ("whole", "cut")]
    assert [line["loss"] for line in lines[0]] == [line["loss"] for line in lines[1]]
    assert ["adversary" in line for line in lines[0]] == [False, False, True, True, True, True]
    published = load_file(resumed / "model.safetensors")
    assert (
        published.keys()
        == new_autoencoder(with_head(config, LFQ(bits=5)), seed=0).state_dict().keys()
    )


def test_exported_codes_are_normalised(config: AutoencoderConfig, tmp_path: Path) -> None:
    task = a_task(with_head(config, FSQ(levels=(8, 5, 3))))
    task.export(tmp_path, dict(task.model.state_dict()))
    model = load_autoencoder(tmp_path)
    assert model.config.head == FSQ(levels=(8, 5, 3))
    crops = [task._crop(clip, "statistics", images=False) for clip in task.clips]
    videos = [model.encode_video(crop, fps=8) for crop in crops]
    latents = np.concatenate([video.latents.reshape(3, -1) for video in videos], 1)
    np.testing.assert_allclose(latents.mean(1), 0, atol=1e-3)
    np.testing.assert_allclose(latents.std(1), 1, atol=1e-3)
    assert all(len(np.unique(channel)) > 1 for channel in latents)
    assert len(np.unique(model.indices(videos[0]))) > 1


def test_clips_that_are_held_out_are_shown_and_not_trained_on(config: AutoencoderConfig) -> None:
    seen: set[str] = set()

    def watched(clip: Clip) -> Frames:
        seen.add(clip.clip_id)
        return read(clip)

    clips = [a_clip(i) for i in range(23)]
    task = VaeTask(
        new_autoencoder(config, seed=0), clips, watched, VaeTrainConfig(max_frames=9), seed=3
    )
    while task.state()["epoch"] < 2:
        task.next_batch()
    apart = {clip.clip_id for clip in task.held_out}
    assert len(apart) == 2  # an eighth of 23
    assert seen == {clip.clip_id for clip in clips} - apart
    shown = task.reconstructions(task.model.state_dict())
    assert seen == {clip.clip_id for clip in clips}
    for one in shown:
        num_frames, height, width, _ = one.frames.shape
        assert one.decoded.shape == one.frames.shape
        assert one.psnr == psnr(one.frames, one.decoded)
        assert one.pairs.shape == (min(5, num_frames), 2 * height, width, 3)
        np.testing.assert_array_equal(one.pairs[0, :height], one.frames[0])
        np.testing.assert_array_equal(one.pairs[-1, height:], one.decoded[-1])
    other = {name: x + 0.1 for name, x in task.model.state_dict().items()}
    assert task.reconstructions(other)[0].psnr != shown[0].psnr
    assert a_task(config, held_out=0).held_out == []


def test_what_is_left_out_is_said(config: AutoencoderConfig) -> None:
    assert a_task(config).left_out == (
        "perceptual: no file of weights",
        "adversary: its weight is 0",
    )
    adversary = AdversaryConfig(weight=1, width=8)
    assert a_task(config, adversary=adversary).left_out == ("perceptual: no file of weights",)
    with pytest.raises(InputError, match=r"^perceptual: got 'nowhere.pth'"):
        a_task(config, perceptual=Path("nowhere.pth"))


def test_no_clips_is_said(config: AutoencoderConfig) -> None:
    with pytest.raises(InputError, match="clips: got 'none with status ok'"):
        VaeTask(new_autoencoder(config, seed=0), [], read, VaeTrainConfig(), seed=0)
    with pytest.raises(InputError, match="image_share: got 2"):
        VaeTrainConfig(image_share=2)
