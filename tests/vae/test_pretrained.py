"""diffusers' autoencoders behind our contract, held to diffusers' own results where it has one."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from openreel.pipeline.errors import InputError
from openreel.vae.codec import Codec, Frames, load_codec, load_shape
from openreel.vae.diffusers_cost import _tensors
from openreel.vae.diffusers_kinds import KINDS
from openreel.vae.model import Autoencoder
from openreel.vae.pretrained import Pretrained, windows
from tests.vae.peers import SMALL, made, saved

NAMES = list(SMALL)
SIZES = [
    (1, 1), (3, 2), (7, 5), (8, 8), (13, 31), (17, 9), (19, 33), (23, 29), (31, 11), (37, 5),
    (40, 22), (41, 3),
]  # fmt: skip


@pytest.fixture(scope="module")
def codecs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pretrained]:
    """All four, loaded from folders."""
    found = {}
    for name in NAMES:
        loaded = load_codec(f"diffusers:{saved(name, tmp_path_factory.mktemp('vae') / name)}")
        assert isinstance(loaded, Pretrained)
        found[name] = loaded
    return found


def noise(rng: np.random.Generator, *shape: int) -> Frames:
    return rng.integers(0, 256, (*shape, 3), dtype=np.uint8)


def pixels(frames: Frames) -> torch.Tensor:
    return torch.from_numpy(frames).permute(3, 0, 1, 2)[None].float() / 127.5 - 1


def round_trip(codec: Codec, frames: Frames) -> None:
    video = codec.encode_video(frames, fps=8)
    assert video.latents.shape == codec.config.latent_shape(*frames.shape[:3])
    decoded = codec.decode_video(video)
    assert (decoded.shape, decoded.dtype) == (frames.shape, frames.dtype)


@pytest.mark.parametrize("name", NAMES)
def test_shape_out_is_shape_in(
    codecs: dict[str, Pretrained], rng: np.random.Generator, name: str
) -> None:
    for num_frames in range(1, 19):
        round_trip(codecs[name], noise(rng, num_frames, 13, 5))


@pytest.mark.slow
def test_shape_out_is_shape_in_at_any_size(
    codecs: dict[str, Pretrained], rng: np.random.Generator
) -> None:
    for height, width in SIZES:
        for num_frames in (1, 2, 5, 8, 13, 18):
            frames = noise(rng, num_frames, height, width)
            for codec in codecs.values():
                round_trip(codec, frames)


@pytest.mark.parametrize("num_frames", [1, 9, 17, 33])
@pytest.mark.parametrize("name", NAMES)
def test_where_diffusers_gives_the_shape_the_result_is_its_own(
    codecs: dict[str, Pretrained], rng: np.random.Generator, name: str, num_frames: int
) -> None:
    frames, raw, codec = noise(rng, num_frames, 32, 64), made(name), codecs[name]
    video = codec.encode_video(frames, fps=8)
    expected = raw.encode(pixels(frames)).latent_dist.mode()
    known = codec.statistics
    stored = torch.from_numpy(video.latents)[None]
    scale, shift = (torch.tensor(x).view(1, -1, 1, 1, 1) for x in (known.std, known.mean))
    torch.testing.assert_close(stored * scale + shift, expected, atol=1e-5, rtol=1e-4)
    decoded = raw.decode(stored * scale + shift).sample
    eight_bits = ((decoded[0].permute(1, 2, 3, 0) + 1) * 127.5).round().clamp(0, 255)
    assert eight_bits.shape == frames.shape
    error = np.abs(codec.decode_video(video) - eight_bits.numpy())
    assert error.max() <= 1  # a value between two levels may be rounded either way
    assert (error > 0).mean() < 1e-3


def test_the_statistics_are_those_of_the_pipelines(codecs: dict[str, Pretrained]) -> None:
    wan = SMALL["AutoencoderKLWan"]
    assert codecs["AutoencoderKLWan"].statistics.mean == tuple(wan["latents_mean"])
    assert codecs["AutoencoderKLWan"].statistics.std == tuple(wan["latents_std"])
    for name in ("AutoencoderKLCogVideoX", "AutoencoderKLHunyuanVideo"):
        scaling = made(name).config.scaling_factor
        assert codecs[name].statistics.std[0] * scaling == pytest.approx(1)
    raw = made("AutoencoderKLLTXVideo", scaling_factor=2.0)
    raw.latents_mean += 3
    raw.latents_std *= 5
    ltx = Pretrained(raw, KINDS["AutoencoderKLLTXVideo"])
    assert ltx.statistics.mean[0] == 3
    assert ltx.statistics.std[0] == 2.5


def test_cogvideox_gives_back_five_frames_for_five(
    codecs: dict[str, Pretrained], rng: np.random.Generator
) -> None:
    frames, raw = noise(rng, 5, 16, 16), made("AutoencoderKLCogVideoX")
    assert raw.decode(raw.encode(pixels(frames)).latent_dist.mode()).sample.shape[2] == 8
    round_trip(codecs["AutoencoderKLCogVideoX"], frames)


def pieces(total: int, sizes: list[int]) -> Iterator[slice]:
    at, turn = 0, 0
    while at < total:
        yield slice(at, at + sizes[turn % len(sizes)])
        at, turn = at + sizes[turn % len(sizes)], turn + 1


@pytest.mark.parametrize("sizes", [[1], [5], [3, 1, 7], [100]])
@pytest.mark.parametrize("name", NAMES)
def test_every_plan_gives_the_same_bits(
    codecs: dict[str, Pretrained], rng: np.random.Generator, name: str, sizes: list[int]
) -> None:
    codec, frames = codecs[name], noise(rng, 18, 21, 38)
    video = codec.encode_video(frames, fps=8)
    streamed = list(codec.encode_stream(frames[part] for part in pieces(18, sizes)))
    assert (len(streamed) > 1) == codec.abilities.streams
    np.testing.assert_array_equal(np.concatenate(streamed, 1), video.latents)
    chunks = codec.decode_stream(
        (video.latents[:, part] for part in pieces(video.latents.shape[1], sizes)),
        height=21,
        width=38,
        num_frames=18,
    )
    np.testing.assert_array_equal(np.concatenate(list(chunks)), codec.decode_video(video))


@pytest.mark.parametrize("name", ["AutoencoderKLWan", "AutoencoderKLCogVideoX"])
def test_interleaved_streams_do_not_mix(
    codecs: dict[str, Pretrained], rng: np.random.Generator, name: str
) -> None:
    codec, clips = codecs[name], noise(rng, 2, 17, 16, 16)
    both = zip(*(codec.encode_stream(frame[None] for frame in clip) for clip in clips), strict=True)
    for clip, chunks in zip(clips, zip(*both, strict=True), strict=True):
        expected = codec.encode_video(clip, fps=8).latents
        np.testing.assert_array_equal(np.concatenate(chunks, 1), expected)


@pytest.mark.parametrize("name", NAMES)
def test_causal_says_whether_the_future_moves_the_past(
    codecs: dict[str, Pretrained], rng: np.random.Generator, name: str
) -> None:
    codec, frames = codecs[name], noise(rng, 9, 32, 32)
    video = codec.encode_video(frames, fps=8)
    changed = frames.copy()
    changed[-1] = 255 - changed[-1]
    moved = codec.encode_video(changed, fps=8).latents != video.latents
    assert moved[:, -1].any()
    latents = video.latents.copy()
    latents[:, -1] += 1
    late = type(video)(**{**vars(video), "latents": latents})
    seen = codec.decode_video(late) != codec.decode_video(video)
    assert seen[-1].any()
    assert (moved[:, 0].any() or seen[0].any()) == (not codec.abilities.causal)


def test_windows_hold_every_item_once() -> None:
    for total in range(1, 20):
        for first, later in ((1, 1), (1, 4), (9, 8), (3, 2), (10**9, 4)):
            items = torch.arange(total)[:, None]
            found = list(windows(items.split(2), first, later))
            kept = torch.cat([window[: len(window) - missing] for window, missing in found])
            torch.testing.assert_close(kept, items)
            sizes = [len(window) for window, _ in found]
            assert all(size == later for size in sizes[1:])
            assert (sizes[0] - 1) % later == 0 or sizes[0] == first
    assert [len(w) for w, _ in windows([torch.zeros(1, 2)], 9, 8)] == [1]


@pytest.mark.parametrize("name", NAMES)
def test_the_cache_is_as_large_as_said(codecs: dict[str, Pretrained], name: str) -> None:
    codec = codecs[name]
    side, scale = 8 * codec.config.space_factor, codec.config.time_factor
    past: Any = None
    sizes = [9 if name != "AutoencoderKLWan" else 1, scale * codec.config.window]
    carried = []
    for frames in sizes[: 2 if codec.abilities.streams else 1]:
        _, past = codec._kind.encode(codec._model, torch.zeros(1, 3, frames, side, side), past)
    carried.append(sum(x.nbytes for x in _tensors(past)))
    past = None
    for latents in (codec.config.first, codec.config.window) if carried[0] else ():
        z = torch.zeros(1, codec.config.channels, latents, 8, 8)
        _, past = codec._kind.decode(codec._model, z, past)
    carried.append(sum(x.nbytes for x in _tensors(past)))
    made_plan = codec.plan(33, side, side, 2**40)
    assert made_plan.cache_bytes == max(carried)
    assert (made_plan.cache_bytes > 0) == codec.abilities.streams
    assert made_plan.working_bytes > 3 * side * side * 4


@pytest.mark.parametrize("name", NAMES)
def test_no_tiles_are_taken_in_silence(
    codecs: dict[str, Pretrained], rng: np.random.Generator, name: str
) -> None:
    codec, frames = codecs[name], noise(rng, 2, 80, 80)
    assert not codec.abilities.tiles
    assert codec.plan(9, 80, 80, 2**33).num_tiles == 1
    with pytest.raises(InputError, match=r"budget_bytes: got 9; .*can't be computed in tiles"):
        codec.plan(9, 80, 80, 9)
    with pytest.raises(InputError, match="tile: got 1; accepted: none"):
        codec.encode_video(frames, fps=8, tile=1)


def test_ours_promises_everything(model: Autoencoder) -> None:
    found = model.abilities
    assert found.causal
    assert found.streams
    assert found.tiles
    assert model.plan(9, 80, 80, 2**20).step == model.config.step


def test_the_codec_is_the_weights_and_the_config(codecs: dict[str, Pretrained]) -> None:
    found = {codec.codec for codec in codecs.values()}
    assert len(found) == 4
    name = "AutoencoderKLCogVideoX"
    kind, known = KINDS[name], codecs[name].codec
    assert Pretrained(made(name), kind).codec == known
    assert Pretrained(made(name, scaling_factor=2.0), kind).codec != known
    touched = made(name)
    next(touched.parameters()).view(-1)[0] += 1e-3
    assert Pretrained(touched, kind).codec != known


def test_bad_input_is_one_line(codecs: dict[str, Pretrained], rng: np.random.Generator) -> None:
    codec = codecs["AutoencoderKLWan"]
    frames = noise(rng, 2, 8, 8)
    for bad in (frames[:0], frames.astype(np.float32), frames[..., :2]):
        with pytest.raises(InputError, match=r"frames: got .*; accepted: uint8 \(T, H, W, 3\)"):
            codec.encode_video(bad, fps=8)
    video = codec.encode_video(frames, fps=8)
    latents = video.latents * np.float32("nan")
    with pytest.raises(InputError, match=r"latents: got .*NaN"):
        codec.decode_video(type(video)(**{**vars(video), "latents": latents}))
    with pytest.raises(InputError, match="codec: got"):
        codecs["AutoencoderKLLTXVideo"].decode_video(video)
    with pytest.raises(InputError, match="latents: got"):
        codec.decode_video(type(video)(**{**vars(video), "num_frames": 9}))


def _line(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_codec(f"diffusers:{folder}")
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 700
    return line


def test_a_folder_that_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    name = "AutoencoderKLCogVideoX"
    good = saved(name, tmp_path / "good")
    assert "config.json" in _line(tmp_path / "nowhere")

    def changed(key: str, value: object) -> Path:
        folder = tmp_path / key
        shutil.copytree(good, folder)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, key: value}))
        return folder

    assert "AutoencoderKLMochi" in _line(changed("_class_name", "AutoencoderKLMochi"))
    assert "AutoencoderKLLTXVideo" in _line(tmp_path / "_class_name")
    assert "size mismatch" in _line(changed("latent_channels", 8))

    weights = good / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    first = next(iter(tensors))
    save_file({k: v for k, v in tensors.items() if k != first}, weights)
    assert f'Missing key(s) in state_dict: "{first}"' in _line(good)
    save_file({**tensors, "one.more": tensors[first].clone()}, weights)
    assert 'Unexpected key(s) in state_dict: "one.more"' in _line(good)
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "diffusion_pytorch_model.safetensors" in _line(good)
    weights.unlink()
    assert "diffusion_pytorch_model.safetensors" in _line(good)


def test_ltx_that_denoises_while_decoding_is_refused(tmp_path: Path) -> None:
    folder = saved("AutoencoderKLLTXVideo", tmp_path / "ltx", timestep_conditioning=True)
    assert "timestep_conditioning: got True" in _line(folder)


def test_wrong_statistics_are_refused(tmp_path: Path) -> None:
    folder = saved("AutoencoderKLWan", tmp_path / "wan", latents_std=[1.0, 2.0])
    assert "latents_std: got '2 values'; accepted: 4" in _line(folder)
    short = {"latents_mean": [0.0], "latents_std": [1.0]}
    folder = saved("AutoencoderKLWan", tmp_path / "short", **short)
    assert "latents_mean: got '1 values'; accepted: 4, one a channel" in _line(folder)


def test_a_pipelines_folder_and_shards_are_read(tmp_path: Path) -> None:
    model = made("AutoencoderKLWan")
    model.save_pretrained(tmp_path / "pipeline" / "vae", max_shard_size="40KB")
    assert len(list((tmp_path / "pipeline" / "vae").glob("*.safetensors"))) > 1
    (tmp_path / "pipeline" / "model_index.json").write_text("{}")
    whole = load_codec(saved("AutoencoderKLWan", tmp_path / "whole"))
    assert load_codec(f"diffusers:{tmp_path / 'pipeline'}").codec == whole.codec
    assert load_codec(tmp_path / "pipeline").codec == whole.codec


@pytest.mark.parametrize("name", NAMES)
def test_the_shape_is_known_without_weights(
    codecs: dict[str, Pretrained], tmp_path: Path, name: str
) -> None:
    folder = saved(name, tmp_path / name)
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    assert load_shape(folder) == codecs[name].config
