"""The contract: any size and length in, the same out; causal; and exact however it is cut."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from openreel.pipeline.errors import InputError
from openreel.vae.codec import Frames
from openreel.vae.config import AutoencoderConfig, base, coarse, small, tiny
from openreel.vae.model import Autoencoder

SIZES = [(1, 1), (7, 5), (8, 8), (13, 31), (40, 22)]


def noise(rng: np.random.Generator, *shape: int) -> Frames:
    return rng.integers(0, 256, (*shape, 3), dtype=np.uint8)


def pieces(total: int, sizes: list[int]) -> Iterator[slice]:
    at, turn = 0, 0
    while at < total:
        yield slice(at, at + sizes[turn % len(sizes)])
        at, turn = at + sizes[turn % len(sizes)], turn + 1


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_shape_out_is_shape_in(
    model: Autoencoder, rng: np.random.Generator, height: int, width: int
) -> None:
    for num_frames in range(1, 12):
        frames = noise(rng, num_frames, height, width)
        video = model.encode_video(frames, fps=8)
        t = 1 + -(-(num_frames - 1) // 4)
        assert video.latents.shape == (5, t, -(-height // 8), -(-width // 8))
        assert video.latents.dtype == np.float32
        decoded = model.decode_video(video)
        assert decoded.shape == frames.shape
        assert decoded.dtype == np.uint8


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("sizes", [[1], [2], [5], [3, 1, 7], [100]])
def test_every_plan_gives_the_same_bits(
    model: Autoencoder, rng: np.random.Generator, step: int, sizes: list[int]
) -> None:
    stepped = Autoencoder(dataclasses.replace(model.config, step=step))
    stepped.load_state_dict(model.state_dict())
    frames = noise(rng, 19, 21, 38)
    video = stepped.encode_video(frames, fps=8)
    streamed = list(stepped.encode_stream(frames[part] for part in pieces(19, sizes)))
    assert len(streamed) >= 19 // (4 * step)
    np.testing.assert_array_equal(np.concatenate(streamed, 1), video.latents)

    t = video.latents.shape[1]
    chunks = stepped.decode_stream(
        (video.latents[:, part] for part in pieces(t, sizes)), height=21, width=38, num_frames=19
    )
    np.testing.assert_array_equal(np.concatenate(list(chunks)), stepped.decode_video(video))


def test_interleaved_streams_do_not_mix(model: Autoencoder, rng: np.random.Generator) -> None:
    clips = noise(rng, 2, 9, 16, 16)
    both = zip(*(model.encode_stream(frame[None] for frame in clip) for clip in clips), strict=True)
    for clip, chunks in zip(clips, zip(*both, strict=True), strict=True):
        expected = model.encode_video(clip, fps=8).latents
        np.testing.assert_array_equal(np.concatenate(chunks, 1), expected)


def test_the_micro_steps_follow_the_single_pass(
    model: Autoencoder, rng: np.random.Generator
) -> None:
    """Training runs a clip in one pass; only rounding separates it from the stream."""
    frames = noise(rng, 13, 24, 16)
    mean, _, _ = model.moments(torch.from_numpy(frames).float() / 127.5 - 1, None)
    whole = ((mean - model.latent_mean) / model.latent_std).permute(3, 0, 1, 2)
    video = model.encode_video(frames, fps=8)
    torch.testing.assert_close(torch.from_numpy(video.latents), whole, atol=1e-4, rtol=1e-4)


def test_an_image_is_the_beginning_of_every_clip(
    model: Autoencoder, rng: np.random.Generator
) -> None:
    frames = noise(rng, 9, 17, 23)
    image = model.encode_video(frames[:1], fps=0)
    video = model.encode_video(frames, fps=8)
    np.testing.assert_array_equal(image.latents, video.latents[:, :1])
    np.testing.assert_array_equal(model.decode_video(image), model.decode_video(video)[:1])


def test_a_frame_changes_no_earlier_latent(model: Autoencoder, rng: np.random.Generator) -> None:
    frames = noise(rng, 14, 16, 16)
    before = model.encode_video(frames, fps=8).latents
    for k in range(14):
        changed = frames.copy()
        changed[k] = 255 - changed[k]
        after = model.encode_video(changed, fps=8).latents
        own = -(-k // 4)
        np.testing.assert_array_equal(after[:, :own], before[:, :own])
        assert (after[:, own] != before[:, own]).any()


def test_a_longer_clip_begins_like_a_shorter_one(
    model: Autoencoder, rng: np.random.Generator
) -> None:
    frames = noise(rng, 17, 16, 16)
    whole = model.encode_video(frames, fps=8).latents
    for num_frames in (1, 5, 9, 13):
        part = model.encode_video(frames[:num_frames], fps=8).latents
        np.testing.assert_array_equal(part, whole[:, : part.shape[1]])


def test_a_latent_changes_no_earlier_frame(model: Autoencoder, rng: np.random.Generator) -> None:
    video = model.encode_video(noise(rng, 13, 16, 16), fps=8)
    before = model.decode_video(video)
    for k in range(4):
        latents = video.latents.copy()
        latents[:, k] += 10
        after = model.decode_video(dataclasses.replace(video, latents=latents))
        first = 0 if k == 0 else 4 * k - 3
        np.testing.assert_array_equal(after[:first], before[:first])
        assert (after[first] != before[first]).any()


def test_threads_do_not_change_the_bits(model: Autoencoder, rng: np.random.Generator) -> None:
    frames, threads, found = noise(rng, 9, 50, 70), torch.get_num_threads(), []
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            found.append(model.encode_video(frames, fps=8).latents)
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_the_codec_is_the_weights_and_the_step(model: Autoencoder) -> None:
    def copy(config: AutoencoderConfig) -> Autoencoder:
        made = Autoencoder(config)
        made.load_state_dict(model.state_dict())
        return made

    assert copy(model.config).codec == model.codec
    assert copy(dataclasses.replace(model.config, step=2)).codec != model.codec
    touched = copy(model.config)
    before = touched.codec
    with torch.no_grad():
        next(touched.parameters()).view(-1)[0] += 1e-3
    assert touched.codec != before
    touched.latent_std[0] *= 2
    assert touched.codec not in (before, model.codec)


def test_latents_of_another_codec_are_refused(model: Autoencoder, rng: np.random.Generator) -> None:
    video = model.encode_video(noise(rng, 2, 8, 8), fps=8)
    with pytest.raises(InputError, match=f"codec: got 'other'; accepted: {model.codec}"):
        model.decode_video(dataclasses.replace(video, codec="other"))
    with pytest.raises(InputError, match="latents: got"):
        model.decode_video(dataclasses.replace(video, num_frames=9))


@pytest.mark.parametrize(
    "frames",
    [
        np.full((2, 8, 8, 3), np.nan, np.float32),
        np.zeros((8, 8, 3), np.uint8),
        np.zeros((0, 8, 8, 3), np.uint8),
        np.zeros((2, 8, 0, 3), np.uint8),
    ],
)
def test_what_is_not_video_is_refused(model: Autoencoder, frames: Frames) -> None:
    with pytest.raises(InputError, match=r"^frames: got .*accepted: uint8 \(T, H, W, 3\)"):
        model.encode_video(frames, fps=8)
    with pytest.raises(InputError, match=r"^frames: got"):
        list(model.encode_stream([frames]))


def test_latents_that_are_no_numbers_are_refused(
    model: Autoencoder, rng: np.random.Generator
) -> None:
    video = model.encode_video(noise(rng, 5, 16, 16), fps=8)
    broken = video.latents.copy()
    broken[1, 0, 1, 1] = np.nan
    for latents, message in (
        (broken, r"latents: got '1 of 40 NaN or infinite'"),
        (video.latents.astype(np.float64), r"latents: got 'float64 \(5, 2, 2, 2\)'"),
    ):
        with pytest.raises(InputError, match=message):
            model.decode_video(dataclasses.replace(video, latents=latents))
        with pytest.raises(InputError, match=message):
            list(model.decode_stream([latents], height=16, width=16))
    with pytest.raises(InputError, match=r"accepted: float32 \(5, T, H, W\)"):
        list(model.decode_stream([video.latents[:4]], height=16, width=16))


def test_presets() -> None:
    assert (coarse().time_factor, coarse().space_factor, coarse().channels) == (8, 16, 16)
    for config in (tiny(), small(), base()):
        assert (config.time_factor, config.space_factor, config.channels) == (4, 8, 16)
    with torch.device("meta"):
        assert sum(p.numel() for p in Autoencoder(tiny()).parameters()) <= 1_000_000


@pytest.mark.parametrize(
    ("field", "value"),
    [("patch", 3), ("widths", ()), ("blocks", (1,)), ("folds", ()), ("folds", ((1, 3), (4, 2))),
     ("step", 0)],
)  # fmt: skip
def test_a_wrong_config_names_its_field(
    config: AutoencoderConfig, field: str, value: object
) -> None:
    with pytest.raises(InputError, match=f"^{field}: got"):
        dataclasses.replace(config, **{field: value})  # type: ignore[arg-type]
