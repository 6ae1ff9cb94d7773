"""The contract with discrete heads: the same codes however a video is cut, and codes are enough."""

import dataclasses

import numpy as np
import pytest

from openreel.pipeline.errors import InputError
from openreel.vae.codec import Frames
from openreel.vae.config import with_head
from openreel.vae.heads import FSQ, LFQ
from openreel.vae.model import Autoencoder


@pytest.fixture
def frames(rng: np.random.Generator) -> Frames:
    return rng.integers(0, 256, (14, 77, 61, 3), dtype=np.uint8)


def test_codes_are_the_same_however_it_is_cut(discrete: Autoencoder, frames: Frames) -> None:
    video = discrete.encode_video(frames, fps=8)
    index = discrete.indices(video)
    assert index.shape == video.latents.shape[1:] == (5, 10, 8)
    assert len(np.unique(index)) > 15
    tiled = discrete.encode_video(frames, fps=8, tile=3)
    np.testing.assert_array_equal(tiled.latents, video.latents)
    for sizes in ([1], [5], [3, 1, 7]):
        cuts = np.cumsum(sizes * 14)
        chunks = [part for part in np.split(frames, cuts[cuts < 14]) if len(part)]
        assert len(chunks) > 1
        streamed = np.concatenate(list(discrete.encode_stream(chunks)), 1)
        np.testing.assert_array_equal(streamed, video.latents)


def test_decoding_is_the_same_however_it_is_cut(discrete: Autoencoder, frames: Frames) -> None:
    video = discrete.encode_video(frames, fps=8)
    whole = discrete.decode_video(video)
    assert whole.shape == frames.shape
    assert whole.std() > 1
    np.testing.assert_array_equal(discrete.decode_video(video, tile=3), whole)
    parts = (video.latents[:, t : t + 1] for t in range(5))
    streamed = discrete.decode_stream(parts, height=77, width=61, num_frames=14)
    np.testing.assert_array_equal(np.concatenate(list(streamed)), whole)


def test_an_image_is_the_beginning_and_no_code_sees_the_future(
    discrete: Autoencoder, frames: Frames
) -> None:
    index = discrete.indices(discrete.encode_video(frames, fps=8))
    image = discrete.indices(discrete.encode_video(frames[:1], fps=0))
    np.testing.assert_array_equal(image, index[:1])
    changed = frames.copy()
    changed[9:] = 255 - changed[9:]
    after = discrete.indices(discrete.encode_video(changed, fps=8))
    np.testing.assert_array_equal(after[:3], index[:3])
    assert (after[3] != index[3]).any()


def test_indices_alone_give_the_latents_back(discrete: Autoencoder, frames: Frames) -> None:
    video = discrete.encode_video(frames, fps=8)
    book = discrete.codebook
    subtokens = book.subtokens(discrete.indices(video), 2)
    latents = discrete.from_indices(book.from_subtokens(subtokens))
    np.testing.assert_array_equal(latents, video.latents)
    for index in (np.arange(book.size).reshape(-1, 4, 1), np.zeros((1, 1, 1), int)):
        t, h, w = index.shape
        made = dataclasses.replace(
            video,
            latents=discrete.from_indices(index),
            num_frames=4 * t - 3,
            height=8 * h,
            width=8 * w,
        )
        np.testing.assert_array_equal(discrete.indices(made), index)


def test_what_lies_between_codes_is_decoded_as_the_nearest(
    discrete: Autoencoder, frames: Frames, rng: np.random.Generator
) -> None:
    video = discrete.encode_video(frames, fps=8)
    blur = 0.05 * rng.standard_normal(video.latents.shape, np.float32).clip(-1, 1)
    blurred = dataclasses.replace(video, latents=video.latents + blur)
    assert (blurred.latents != video.latents).any()
    np.testing.assert_array_equal(discrete.indices(blurred), discrete.indices(video))
    np.testing.assert_array_equal(discrete.decode_video(blurred), discrete.decode_video(video))


def test_threads_do_not_change_the_codes(discrete: Autoencoder, frames: Frames) -> None:
    import torch

    threads, found = torch.get_num_threads(), []
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            found.append(discrete.encode_video(frames, fps=8).latents)
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_array_equal(found[0], found[1])


def test_the_head_is_part_of_the_codec(discrete: Autoencoder, model: Autoencoder) -> None:
    """Two books with as many channels share every weight, and are different codecs."""
    channels = discrete.config.channels
    others = [FSQ(levels=(9,) * channels), LFQ(bits=channels)]
    other = next(head for head in others if head != discrete.config.head)
    same = Autoencoder(discrete.config)
    same.load_state_dict(discrete.state_dict())
    assert same.codec == discrete.codec
    changed = Autoencoder(with_head(discrete.config, other))
    changed.load_state_dict(discrete.state_dict())
    assert changed.codec != discrete.codec


def test_wrong_latents_are_said(discrete: Autoencoder, model: Autoencoder, frames: Frames) -> None:
    video = discrete.encode_video(frames[:2], fps=8)
    with pytest.raises(InputError, match=r"^head: got 'continuous'; accepted: a discrete one"):
        model.indices(video)
    with pytest.raises(InputError, match=r"^codec: got 'other'"):
        discrete.indices(dataclasses.replace(video, codec="other"))
    with pytest.raises(InputError, match=r"^indices: got"):
        discrete.from_indices(np.full((1, 2, 2), discrete.codebook.size))
