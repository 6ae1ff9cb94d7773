"""The road on an autoencoder of diffusers: encode, train the denoiser, generate from its bundle."""

import json
import shutil
from pathlib import Path

import av
import numpy as np
import pytest

from openreel.deploy.bundle import load_bundle, load_costs
from openreel.deploy.cli import main
from openreel.deploy.sizes import Costs, Size
from openreel.deploy.world import draw_scene, render
from openreel.pipeline import table
from openreel.pipeline.errors import InputError
from openreel.recaption.caption import Caption, ClipCaptions
from openreel.recaption.tables import place_of
from openreel.vae.codec import load_codec, load_shape
from openreel.vae.run import EncodeConfig, encode_clip
from tests.benchmarks.captions import clip_of
from tests.recaption.test_text import captioner_folder
from tests.vae.peers import SMALL, saved

LENGTHS = range(1, 19)
OTHER = {
    "AutoencoderKLWan": {"base_dim": 16},
    "AutoencoderKLCogVideoX": {"scaling_factor": 2.0},
}
"""the same class with another identity"""


@pytest.mark.parametrize("name", list(SMALL))
def test_what_is_planned_is_what_the_autoencoder_decodes(name: str, tmp_path: Path) -> None:
    folder = saved(name, tmp_path / "vae")
    costs = Costs(pixels=load_shape(folder), patch=(1, 2, 2), dim=8, depth=1)
    codec = load_codec(folder)
    planned = [costs.plan(Size(width=37, height=21), n, 8).latent_size for n in LENGTHS]
    videos = [codec.encode_video(np.zeros((n, 21, 37, 3), np.uint8), fps=8) for n in LENGTHS]
    assert planned == [video.latents.shape[1:] for video in videos]
    assert len(set(planned)) > 2


def dataset_in(folder: Path, vae: str) -> Path:
    """Six encoded scenes with captions, without Ray."""
    codec = load_codec(vae)
    scenes = {f"{i}": draw_scene(0, i, num_objects=1, size=(48, 32)) for i in range(6)}
    clips = [clip_of(name, scene) for name, scene in scenes.items()]
    rows = [
        encode_clip(
            clip,
            model=codec,
            folder=folder / "latents",
            config=EncodeConfig(max_frames=9),
            stream=lambda clip, size: iter(render(scenes[clip.clip_id])),
        )
        for clip in clips
    ]
    table.create(folder / "latents", stage="encode", key="clip_id", fingerprint={})
    table.append(folder / "latents", rows)
    captions = place_of(folder, "parrot", {}).folder
    table.create(captions, stage="recaption", key="clip_id", fingerprint={})
    said = [
        tuple(Caption(kind=text.kind, text=text.text, source="parrot") for text in clip.texts)
        for clip in clips
    ]
    table.append(
        captions,
        [ClipCaptions(clip_id=c.clip_id, captions=s) for c, s in zip(clips, said, strict=True)],
    )
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ["AutoencoderKLWan", "AutoencoderKLCogVideoX"])
def test_a_denoiser_of_its_latents_is_trained_and_generates(name: str, tmp_path: Path) -> None:
    vae = f"diffusers:{saved(name, tmp_path / 'vae')}"
    dataset, run = dataset_in(tmp_path / "data", vae), tmp_path / "run"
    (tmp_path / "captioner").mkdir()
    text = f"captioner:{captioner_folder(tmp_path / 'captioner')}"
    train = ["train", "dit", "smoke", "--dataset", str(dataset), "-o", str(run), "--vae", vae]
    main([*train, "--text", text, "--train.steps", "2"])
    losses = [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert np.isfinite(losses).all()
    assert json.loads((run / "recipe.json").read_text())["codec"] == load_codec(vae).codec

    bundle = shutil.move(run / "bundle", tmp_path / "moved")
    shutil.rmtree(tmp_path / "vae")
    assert load_costs(bundle) == load_bundle(bundle).costs
    videos = tmp_path / "videos"
    for num_frames in (1, 10):  # of CogVideoX 10 frames are two whole windows, not 1 + 9 / 4
        size = ["--size", "50x34", "--frames", str(num_frames), "--steps", "2"]
        main(["generate", "a red ball", "--model", str(bundle), *size, "-o", str(videos)])
    found = []
    for path in sorted(videos.glob("*.mp4")):
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            found.append((stream.width, stream.height, sum(1 for _ in container.decode(stream))))
    assert sorted(found) == [(50, 34, 1), (50, 34, 10)]

    other = load_codec(f"diffusers:{saved(name, tmp_path / 'other', **OTHER[name])}")
    shutil.rmtree(bundle / "autoencoder")
    shutil.copytree(tmp_path / "other", bundle / "autoencoder")
    with pytest.raises(InputError, match=f"codec: got '{other.codec}'"):
        load_bundle(bundle)
