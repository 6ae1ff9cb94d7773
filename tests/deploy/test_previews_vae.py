"""Sheets of what an autoencoder in training makes of clips that it is not trained on."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from openreel.deploy.previews_vae import AutoencoderPreview
from openreel.deploy.world import draw_scene, render
from openreel.dit.engine import EngineConfig
from openreel.dit.metrics import read
from openreel.dit.trainer import TrainConfig, train
from openreel.vae.config import AutoencoderConfig
from openreel.vae.model import Autoencoder
from openreel.vae.train import VaeTask, VaeTrainConfig
from tests.benchmarks.captions import clip_of

SIZES = AutoencoderConfig(patch=8, widths=(16, 16), blocks=(1, 1), folds=((4, 1),))
SCENES = {str(i): draw_scene(0, i, size=(48, 40), num_frames=5) for i in range(10)}


def task(held_out: int) -> VaeTask:
    import torch

    torch.manual_seed(0)
    clips = [clip_of(name, scene) for name, scene in SCENES.items()]
    config = VaeTrainConfig(batch_pixels=1, held_out=held_out)
    return VaeTask(Autoencoder(SIZES), clips, lambda c: render(SCENES[c.clip_id]), config, seed=0)


@pytest.mark.parametrize("held_out", [1, 0])
def test_a_sheet_of_clips_held_out_and_none_without_them(tmp_path: Path, held_out: int) -> None:
    own = task(held_out)
    assert len(own.held_out) == held_out
    engine = EngineConfig(learning_rate=1e-3)
    config = TrainConfig(steps=4, engine=engine, preview_every=2)
    train(own, config, tmp_path, preview=AutoencoderPreview(task=own))
    sheets = sorted(tmp_path.rglob("step-*.png"))
    assert len(sheets) == 2 * held_out
    for sheet in sheets:
        pixels = np.asarray(Image.open(sheet).convert("RGB"))
        assert pixels.shape[0] > 2 * 40 * 2  # the clip and what came back, enlarged
    assert len(read(tmp_path / "metrics.jsonl")) == 4
