"""Embeddings are what open_clip itself says of the same frames; nothing but the folder is used."""

import json
import shutil
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from openreel.pipeline import table
from openreel.pipeline.clip import Clip
from openreel.pipeline.embedding import (
    Embedding,
    EmbeddingConfig,
    embedding_stage,
    model_digest,
)
from openreel.pipeline.errors import InputError, MediaError
from openreel.pipeline.media import Span, probe, read_frames, read_image
from openreel.pipeline.stage import run_stage

WIDTH = 24
MODEL = {
    "embed_dim": WIDTH,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
# Not the defaults, so that the test can tell whether the folder's own are used.
PREPROCESS = {"mean": [0.3, 0.4, 0.5], "std": [0.2, 0.3, 0.4], "interpolation": "bilinear"}
WANTED, UNWANTED = ("a bird in flight", "a flower"), ("a page of text",)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small untrained model as open_clip saves one."""
    path = tmp_path_factory.mktemp("model")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = open_clip.CLIP(**MODEL)
    save_file(model.state_dict(), path / "open_clip_model.safetensors")
    config = {"model_cfg": MODEL, "preprocess_cfg": PREPROCESS}
    (path / "open_clip_config.json").write_text(json.dumps(config))
    head = {"weight": torch.randn(1, WIDTH), "bias": torch.tensor([0.25])}
    save_file(head, path.parent / "head.safetensors")
    return path


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def video_clip(path: Path) -> Clip:
    info = probe(path)
    return Clip(
        clip_id=path.stem,
        video_id="",
        uri=str(path),
        kind="video",
        start_frame=0,
        num_frames=info.num_frames,
        start_pts=info.pts[0],
        end_pts=info.end_pts,
        time_base=info.time_base,
        fps=info.fps,
        width=info.width,
        height=info.height,
    )


def image_clip(path: Path) -> Clip:
    height, width = read_image(path).shape[:2]
    return Clip(
        clip_id=path.stem,
        video_id="",
        uri=str(path),
        kind="image",
        start_frame=0,
        num_frames=1,
        start_pts=0,
        end_pts=1,
        time_base="1/1",
        fps=0.0,
        width=width,
        height=height,
    )


def config_for(folder: Path) -> EmbeddingConfig:
    head = folder.parent / "head.safetensors"
    return EmbeddingConfig(
        weights=folder, num_frames=5, head=head, wanted=WANTED, unwanted=UNWANTED
    )


def by_open_clip(folder: Path, frames: Any) -> torch.Tensor:
    """(D,) from open_clip's own functions and a resize of our own."""
    model = open_clip.create_model(f"local-dir:{folder}").eval()
    mean, std = (torch.tensor(PREPROCESS[name])[:, None, None] for name in ("mean", "std"))
    images = [Image.fromarray(f).resize((32, 32), Image.Resampling.BILINEAR) for f in frames]
    pixels = [torch.from_numpy(np.array(i)).permute(2, 0, 1) / 255 for i in images]
    with torch.inference_mode():
        features = model.encode_image(torch.stack([(p - mean) / std for p in pixels]))
    features = features / features.norm(dim=-1, keepdim=True)
    return features.mean(0) / features.mean(0).norm()


def test_it_is_what_open_clip_says_of_the_frames(
    media: Path, folder: Path, no_network: None
) -> None:
    path = media / "video" / "motorway_cars_mjpeg.mjpeg"
    frames = read_frames(path, Span.whole(probe(path)))
    assert len(frames) == 30
    assert frames.shape[1] != frames.shape[2], "not square, so that a crop would show"
    config = config_for(folder)
    row = embedding_stage(config).build()(video_clip(path))
    vector = torch.tensor(row.vector)
    torch.testing.assert_close(vector, by_open_clip(folder, frames[[0, 7, 14, 22, 29]]))
    assert float(vector.norm()) == pytest.approx(1)

    model = open_clip.create_model(f"local-dir:{folder}").eval()
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")([*WANTED, *UNWANTED])
    with torch.inference_mode():
        a, b, c = (model.encode_text(tokens, normalize=True) @ vector).tolist()
    assert row.semantic == pytest.approx(max(a, b) - c, abs=1e-6)
    assert config.head is not None
    head = load_file(config.head)
    assert row.aesthetic == pytest.approx(float(vector @ head["weight"][0] + 0.25), abs=1e-6)


def test_an_image_has_one_frame_and_scores_are_optional(media: Path, folder: Path) -> None:
    path = media / "image" / "puppy_banner_9x1.jpg"
    row = embedding_stage(EmbeddingConfig(weights=folder)).build()(image_clip(path))
    torch.testing.assert_close(
        torch.tensor(row.vector), by_open_clip(folder, [read_image(path)]), rtol=1e-4, atol=1e-5
    )
    assert (row.aesthetic, row.semantic) == (None, None)
    only = replace(EmbeddingConfig(weights=folder), unwanted=UNWANTED)
    scored = embedding_stage(only).build()(image_clip(path)).semantic
    assert scored is not None
    assert -1 <= scored <= 1


def test_fewer_frames_than_asked_are_all_used(media: Path, folder: Path) -> None:
    path = media / "video" / "keyboard_rot90.mov"
    frames = read_frames(path, Span.whole(probe(path)))
    assert len(frames) == 3
    row = embedding_stage(config_for(folder)).build()(video_clip(path))
    torch.testing.assert_close(torch.tensor(row.vector), by_open_clip(folder, frames))


def test_what_changes_the_result_changes_the_fingerprint(folder: Path, tmp_path: Path) -> None:
    config = config_for(folder)
    first = embedding_stage(config).fingerprint
    json.dumps(first)
    copy = Path(shutil.copytree(folder, tmp_path / "moved"))
    (copy / "README.md").write_text("about")
    assert embedding_stage(replace(config, weights=copy)).fingerprint == first
    others = [replace(config, num_frames=4), replace(config, wanted=()), replace(config, head=None)]
    with (copy / "open_clip_config.json").open("a") as file:
        file.write("\n")
    others.append(replace(config, weights=copy))
    prints = [embedding_stage(other).fingerprint for other in others]
    assert all(p != first for p in prints)
    assert model_digest(copy) != model_digest(folder)


def test_a_wrong_model_or_head_is_told_in_one_line(folder: Path, tmp_path: Path) -> None:
    bare = Path(shutil.copytree(folder, tmp_path / "bare"))
    (bare / "open_clip_model.safetensors").unlink()
    torn = Path(shutil.copytree(folder, tmp_path / "torn"))
    (torn / "open_clip_model.safetensors").write_bytes(b"nothing")
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    sizes = {**MODEL, "embed_dim": 25}
    (other / "open_clip_config.json").write_text(json.dumps({"model_cfg": sizes}))
    remote = Path(shutil.copytree(folder, tmp_path / "remote"))
    tower = {**MODEL, "text_cfg": {"hf_model_name": "someone/something"}}
    (remote / "open_clip_config.json").write_text(json.dumps({"model_cfg": tower}))
    for path in (None, tmp_path / "missing", bare, torn, other, remote):
        with pytest.raises(InputError, match=r"embedding\.weights") as caught:
            embedding_stage(EmbeddingConfig(weights=path))
        assert "\n" not in str(caught.value)

    wide = tmp_path / "wide.safetensors"
    save_file({"weight": torch.zeros(1, WIDTH + 1), "bias": torch.zeros(1)}, wide)
    for path in (tmp_path / "missing.safetensors", wide, torn / "open_clip_model.safetensors"):
        with pytest.raises(InputError, match=rf"weight \(1, {WIDTH}\)") as caught:
            embedding_stage(EmbeddingConfig(weights=folder, head=path))
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="num_frames"):
        EmbeddingConfig(weights=folder, num_frames=0)
    with pytest.raises(InputError, match="words"):
        EmbeddingConfig(weights=folder, wanted=(" ",))


def test_a_clip_that_cannot_be_read_is_a_media_error(media: Path, folder: Path) -> None:
    clip = video_clip(media / "video" / "keyboard_rot90.mov")
    embed = embedding_stage(config_for(folder)).build()
    with pytest.raises(MediaError):
        embed(replace(clip, num_frames=9))


@pytest.mark.slow
def test_the_station_fills_a_table(
    media: Path, folder: Path, tmp_path: Path, ray_local: None
) -> None:
    good = video_clip(media / "video" / "keyboard_rot90.mov")
    clips = [good, replace(good, clip_id="bad", num_frames=9)]
    run_stage(embedding_stage(config_for(folder)), clips, tmp_path / "embeddings")
    rows = {row.clip_id: row for row in table.read(tmp_path / "embeddings", Embedding)}
    assert rows["bad"].status == "rejected"
    assert rows["bad"].vector == ()
    assert rows[good.clip_id].status == "ok"
    assert np.linalg.norm(rows[good.clip_id].vector) == pytest.approx(1)
