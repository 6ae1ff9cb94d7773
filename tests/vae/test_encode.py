"""The encoding station and what it leaves on disk."""

import dataclasses
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from openreel.pipeline import table
from openreel.pipeline.clip import Clip
from openreel.pipeline.errors import InputError, MediaError
from openreel.pipeline.media import read_clip, write_video
from openreel.pipeline.probe import probe
from openreel.pipeline.stage import run_stage
from openreel.vae.codec import Frames
from openreel.vae.latent import LatentRow
from openreel.vae.model import Autoencoder
from openreel.vae.run import (
    EncodeConfig,
    damaged,
    encode_clip,
    encode_stage,
    give_up,
    plan_clip,
    read_latent,
    scaled_size,
)
from openreel.vae.weights import load_autoencoder, save_autoencoder

CLIP = Clip(
    clip_id="c", video_id="v", uri="v.mp4", kind="video", start_frame=0, num_frames=11,
    start_pts=0, end_pts=11, time_base="1/8", fps=8, width=40, height=26,
)  # fmt: skip


def read(clip: Clip, size: tuple[int, int] | None = None) -> Frames:
    width, height = size or (clip.width, clip.height)
    shape = (clip.num_frames, height, width, 3)
    return np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)


def stream(clip: Clip, *, size: tuple[int, int] | None) -> Iterator[Frames]:
    yield from read(clip, size)


@pytest.fixture
def vae_folder(model: Autoencoder, tmp_path: Path) -> Path:
    folder = tmp_path / "vae"
    folder.mkdir()
    save_autoencoder(folder, model.config, model.state_dict())
    return folder


def test_a_loaded_autoencoder_is_the_saved_one(model: Autoencoder, vae_folder: Path) -> None:
    loaded = load_autoencoder(vae_folder)
    assert loaded.codec == model.codec
    assert loaded.config == model.config
    assert not loaded.training


def test_a_folder_that_holds_none_is_named(vae_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"vae: got .*nowhere.*config\.json"):
        load_autoencoder(tmp_path / "nowhere")
    text = (vae_folder / "config.json").read_text()
    for spoilt in (text.replace('"step"', '"stap"'), text.replace('"patch": 2', '"patch": 3'),
                   text.replace('"patch": 2', '"patch": 4'), text[:20]):  # fmt: skip
        (vae_folder / "config.json").write_text(spoilt)
        with pytest.raises(InputError, match="accepted: an openreel autoencoder"):
            load_autoencoder(vae_folder)


def test_a_row_leads_back_to_its_latents(model: Autoencoder, tmp_path: Path) -> None:
    row = encode_clip(CLIP, model=model, folder=tmp_path, config=EncodeConfig(), stream=stream)
    assert LatentRow.from_row(row.to_row()) == row
    assert (row.num_frames, row.height, row.width, row.fps) == (11, 26, 40, 8)
    expected = model.encode_video(read(CLIP), fps=8)
    video = read_latent(row, tmp_path)
    np.testing.assert_array_equal(video.latents, expected.latents)
    np.testing.assert_array_equal(model.decode_video(video), model.decode_video(expected))
    assert list(load_file(tmp_path / row.uri)) == ["latents"]


def test_a_small_memory_gives_the_same_file(model: Autoencoder, tmp_path: Path) -> None:
    wide = dataclasses.replace(CLIP, width=1000, num_frames=2)
    rows = [
        encode_clip(wide, model=model, folder=tmp_path, config=config, stream=stream)
        for config in (EncodeConfig(), EncodeConfig(budget_mib=1))
    ]
    plans = [plan_clip(model, wide, EncodeConfig(budget_mib=mib)) for mib in (4096, 1)]
    assert plans[0].num_tiles == 1
    assert plans[1].num_tiles > 1
    assert rows[0] == rows[1]


def test_a_clip_in_one_tile_is_never_held_whole(model: Autoencoder, tmp_path: Path) -> None:
    """A frame is asked for only when those before it have been coded."""
    coded = []

    class Watched(Autoencoder):
        def encode_step(self, frames_THWC: Any, past: Any) -> Any:
            coded.append(len(frames_THWC))
            return super().encode_step(frames_THWC, past)

    watched = Watched(model.config).eval()
    watched.load_state_dict(model.state_dict())
    ahead = []

    def noted(clip: Clip, *, size: tuple[int, int] | None) -> Iterator[Frames]:
        for i, frame in enumerate(stream(clip, size=size)):
            ahead.append(i - sum(coded))
            yield frame

    long = dataclasses.replace(CLIP, num_frames=40)
    row = encode_clip(long, model=watched, folder=tmp_path, config=EncodeConfig(), stream=noted)
    assert row.num_frames == 40
    assert max(ahead) <= 4
    expected = model.encode_video(read(long), fps=8)
    np.testing.assert_array_equal(read_latent(row, tmp_path).latents, expected.latents)


def test_a_picture_of_any_size_is_planned_at_once(model: Autoencoder) -> None:
    huge = dataclasses.replace(CLIP, width=60_000, height=60_000)
    assert plan_clip(model, huge, EncodeConfig(budget_mib=1)).num_tiles > 1000


def test_what_was_scaled_or_left_out_is_recorded(model: Autoencoder, tmp_path: Path) -> None:
    config = EncodeConfig(max_area=600, max_frames=5)
    row = encode_clip(CLIP, model=model, folder=tmp_path, config=config, stream=stream)
    assert (row.num_frames, row.height, row.width) == (5, 18, 30)
    assert (row.source_num_frames, row.source_height, row.source_width) == (11, 26, 40)


@pytest.mark.parametrize(("width", "height"), [(40, 26), (26, 40), (1920, 1080), (333, 77)])
@pytest.mark.parametrize("max_area", [500, 1040, 4000])
def test_scaling_keeps_the_aspect_and_the_limit(width: int, height: int, max_area: int) -> None:
    clip = dataclasses.replace(CLIP, width=width, height=height)
    size = scaled_size(clip, EncodeConfig(max_area=max_area))
    if width * height <= max_area:
        assert size is None
        return
    assert size is not None
    assert size[0] % 2 == size[1] % 2 == 0
    assert size[0] * size[1] <= max_area
    exact = (max_area / (width * height)) ** 0.5
    assert all(
        abs(got - side * exact) <= 2 for got, side in zip(size, (width, height), strict=True)
    )


def test_a_damaged_file_is_not_read(model: Autoencoder, tmp_path: Path) -> None:
    row = encode_clip(CLIP, model=model, folder=tmp_path, config=EncodeConfig(), stream=stream)
    path = tmp_path / row.uri
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(MediaError, match="its digest is not"):
        read_latent(row, tmp_path)
    path.unlink()
    with pytest.raises(MediaError, match="missing"):
        read_latent(row, tmp_path)


def test_damaged_files_are_found_and_given_up(model: Autoencoder, tmp_path: Path) -> None:
    clips = [dataclasses.replace(CLIP, clip_id=f"c{i}", num_frames=3 + i) for i in range(3)]
    table.create(tmp_path, stage="encode", key="clip_id", fingerprint={})
    rows = [
        encode_clip(clip, model=model, folder=tmp_path, config=EncodeConfig(), stream=stream)
        for clip in clips
    ]
    table.append(tmp_path, rows)
    assert damaged(tmp_path) == []
    (tmp_path / rows[1].uri).write_bytes((tmp_path / rows[1].uri).read_bytes()[:-3])
    (tmp_path / rows[2].uri).unlink()
    bad = damaged(tmp_path)
    assert [row.clip_id for row, _ in bad] == ["c1", "c2"]
    assert "its digest is not" in bad[0][1]
    assert "missing" in bad[1][1]
    give_up(tmp_path, bad)
    found = table.read(tmp_path, LatentRow)
    assert [(row.status, row.attempt) for row in found] == [("ok", 1), ("failed", 2), ("failed", 2)]
    assert damaged(tmp_path) == []


def test_the_stage_travels_and_knows_its_codec(model: Autoencoder, vae_folder: Path) -> None:
    stage = encode_stage(vae_folder, vae_folder.parent, EncodeConfig(max_frames=9))
    assert stage.fingerprint["codec"] == model.codec
    assert stage.fingerprint["max_frames"] == 9
    assert callable(pickle.loads(pickle.dumps(stage.build))())
    roomy = encode_stage(vae_folder, vae_folder.parent, EncodeConfig(max_frames=9, budget_mib=9))
    assert roomy.fingerprint == stage.fingerprint


def test_a_wrong_setting_is_named() -> None:
    with pytest.raises(InputError, match="max_area: got 1; accepted: 4 or more"):
        EncodeConfig(max_area=1)


@pytest.mark.slow
def test_the_station_encodes_real_files_and_refuses_another_codec(
    model: Autoencoder, vae_folder: Path, tmp_path: Path, ray_local: None
) -> None:
    path = tmp_path / "v.mp4"
    write_video(path, read(CLIP), fps=8)
    info = probe(path)
    clip = dataclasses.replace(
        CLIP,
        uri=str(path),
        start_pts=info.pts[0],
        end_pts=info.end_pts,
        time_base=info.time_base,
    )
    lost = dataclasses.replace(clip, clip_id="lost", uri=str(tmp_path / "lost.mp4"))
    folder = tmp_path / "latents-table"
    stage = encode_stage(vae_folder, folder, EncodeConfig())
    run_stage(stage, [clip, lost], folder)
    rows = {row.clip_id: row for row in table.read(folder, LatentRow)}
    assert rows["lost"].status != "ok"
    expected = model.encode_video(read_clip(clip), fps=8)
    assert (expected.num_frames, expected.height, expected.width) == (11, 26, 40)
    np.testing.assert_array_equal(read_latent(rows["c"], folder).latents, expected.latents)

    other = dict(model.state_dict())
    other["latent_mean"] = other["latent_mean"] + 1
    save_autoencoder(vae_folder, model.config, other)
    with pytest.raises(InputError, match="codec"):
        run_stage(encode_stage(vae_folder, folder, EncodeConfig()), [clip], folder)
