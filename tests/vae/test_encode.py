"""The encoding station and what it leaves on disk."""

import dataclasses
import pickle
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from openreel.pipeline import table
from openreel.pipeline.clip import Clip
from openreel.pipeline.errors import InputError, MediaError
from openreel.pipeline.media import read_clip, write_video
from openreel.pipeline.probe import probe
from openreel.pipeline.stage import run_stage
from openreel.vae.latent import LatentRow
from openreel.vae.model import Autoencoder, Frames
from openreel.vae.run import EncodeConfig, encode_clip, encode_stage, read_latent, scaled_size
from openreel.vae.weights import load_autoencoder, save_autoencoder

CLIP = Clip(
    clip_id="c", video_id="v", uri="v.mp4", kind="video", start_frame=0, num_frames=11,
    start_pts=0, end_pts=11, time_base="1/8", fps=8, width=40, height=26,
)  # fmt: skip


def read(clip: Clip, *, size: tuple[int, int] | None, max_frames: int | None) -> Frames:
    width, height = size or (clip.width, clip.height)
    num_frames = min(clip.num_frames, max_frames or clip.num_frames)
    return np.random.default_rng(1).integers(0, 256, (num_frames, height, width, 3), dtype=np.uint8)


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
    for damaged in (text.replace('"step"', '"stap"'), text.replace('"patch": 2', '"patch": 3'),
                    text.replace('"patch": 2', '"patch": 4'), text[:20]):  # fmt: skip
        (vae_folder / "config.json").write_text(damaged)
        with pytest.raises(InputError, match="accepted: an openreel autoencoder"):
            load_autoencoder(vae_folder)


def test_a_row_leads_back_to_its_latents(model: Autoencoder, tmp_path: Path) -> None:
    row = encode_clip(CLIP, model=model, folder=tmp_path, config=EncodeConfig(), read=read)
    assert LatentRow.from_row(row.to_row()) == row
    assert (row.num_frames, row.height, row.width, row.fps) == (11, 26, 40, 8)
    expected = model.encode_video(read(CLIP, size=None, max_frames=None), fps=8)
    video = read_latent(row, tmp_path)
    np.testing.assert_array_equal(video.latents, expected.latents)
    np.testing.assert_array_equal(model.decode_video(video), model.decode_video(expected))
    assert list(load_file(tmp_path / row.uri)) == ["latents"]


def test_a_small_memory_gives_the_same_file(model: Autoencoder, tmp_path: Path) -> None:
    wide = dataclasses.replace(CLIP, width=1000, num_frames=2)
    rows = [
        encode_clip(wide, model=model, folder=tmp_path, config=config, read=read)
        for config in (EncodeConfig(), EncodeConfig(budget_mib=1))
    ]
    assert model.plan(26, 1000, 2**20).num_tiles > 1
    assert rows[0] == rows[1]


def test_what_was_scaled_or_left_out_is_recorded(model: Autoencoder, tmp_path: Path) -> None:
    config = EncodeConfig(max_area=600, max_frames=5)
    row = encode_clip(CLIP, model=model, folder=tmp_path, config=config, read=read)
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
    row = encode_clip(CLIP, model=model, folder=tmp_path, config=EncodeConfig(), read=read)
    path = tmp_path / row.uri
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(MediaError, match="its digest is not"):
        read_latent(row, tmp_path)
    path.unlink()
    with pytest.raises(MediaError, match="missing"):
        read_latent(row, tmp_path)


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
    write_video(path, read(CLIP, size=None, max_frames=None), fps=8)
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
