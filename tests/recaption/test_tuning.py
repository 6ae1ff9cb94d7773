"""Going on from a captioner: what is frozen stays to the bit, what is longer keeps what it knew."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from openreel.deploy import stations_text
from openreel.deploy.recipes import CaptionerRecipe
from openreel.deploy.world import Scene, describe, draw_scene, render
from openreel.dit.engine import EngineConfig
from openreel.dit.trainer import TrainConfig, train
from openreel.pipeline.clip import Clip
from openreel.pipeline.errors import InputError
from openreel.recaption.train import CaptionerTask, CaptionerTrainConfig
from openreel.recaption.tuning import Tuned
from openreel.recaption.videococa import tiny
from openreel.recaption.weights import (
    Captioner,
    captioner_digest,
    load_captioner,
    longer_positions,
    longest,
    new_captioner,
    save_captioner,
    with_context,
)
from tests.benchmarks.captions import clip_of

SCENES: dict[str, Scene] = {str(i): draw_scene(0, i, num_objects=1) for i in range(6)}
SIZES = replace(tiny(), image_size=16, patch_size=8, vision_width=32, width=32, num_queries=5)
ENCODER = ("coca.visual.conv1", "coca.visual.transformer", "coca.visual.class_embedding")
POOLER = ("coca.visual.attn_pool", "coca.visual.ln_post", "coca.visual.proj")


def clips() -> list[Clip]:
    return [clip_of(name, scene) for name, scene in SCENES.items()]


def begun() -> Captioner:
    return new_captioner((t.text for c in clips() for t in c.texts), seed=0, sizes=SIZES)


def tuned(captioner: Captioner, folder: Path, **settings: object) -> Captioner:
    """Three steps of the trainer, and what it published."""
    config = CaptionerTrainConfig(**{"batch_size": 3, **settings})
    task = CaptionerTask(captioner, clips(), lambda c: render(SCENES[c.clip_id]), config, seed=0)
    engine = EngineConfig(learning_rate=1e-2, warmup_steps=1)
    model = train(task, TrainConfig(steps=3, engine=engine, ema_decay=0.5, save_every=3), folder)
    return load_captioner(model)


@pytest.mark.parametrize("mode", ["all", "frozen_encoder", "poolers"])
def test_frozen_weights_are_published_to_the_bit_and_the_others_have_moved(
    mode: Tuned, tmp_path: Path
) -> None:
    before = {k: v.clone() for k, v in begun().model.state_dict().items()}
    after = tuned(begun(), tmp_path, tuned=mode).model.state_dict()
    moved = {k for k, v in after.items() if not torch.equal(v, before[k])}
    encoder = {k for k in after if k.startswith(ENCODER)}
    pooler = {k for k in after if k.startswith(POOLER)}
    assert pooler & moved
    assert bool(encoder & moved) is (mode == "all")
    words = {k for k in after if k.startswith("coca.text")}
    assert bool(words & moved) is (mode != "poolers")
    assert any(k.startswith("stem.") for k in moved) is (mode != "poolers")
    if mode == "poolers":
        assert moved <= {*pooler, "coca.logit_scale"}


def test_a_kind_alone_is_learnt_and_clips_without_it_are_left_out() -> None:
    captioner = begun()
    some = [replace(clips()[0], texts=clips()[0].texts[:1]), *clips()[1:]]
    config = CaptionerTrainConfig(batch_size=5, kinds=("dense",))
    task = CaptionerTask(captioner, some, lambda c: render(SCENES[c.clip_id]), config, seed=0)
    assert len(task.clips) == len(some) - 1
    starts = torch.cat([task.next_batch().text_NK[:, 0] for _ in range(3)])
    assert set(starts.tolist()) == {captioner.tokenizer.start("dense")}
    with pytest.raises(InputError, match="kinds: got"):
        CaptionerTrainConfig(kinds=("long",))


def test_a_longer_context_keeps_every_old_caption_to_the_bit() -> None:
    captioner = begun()
    known = captioner.model.config.context_length
    grown = with_context(captioner, known + 100)
    assert grown.tokenizer.context_length == grown.model.config.context_length == known + 100
    text = [describe(scene).dense for scene in SCENES.values()]
    old_BK, new_BK = (c.tokenizer.encode(text, ["dense"] * 6) for c in (captioner, grown))
    assert torch.equal(new_BK[:, :known], old_BK)
    with torch.no_grad():
        seen_BQE = captioner.model.encode_video(torch.randn(6, 2, 3, 16, 16))[1]
        (_, old_BKE), (_, new_BKE) = (
            c.model.eval().encode_text(ids) for c, ids in ((captioner, old_BK), (grown, new_BK))
        )
        old, new = captioner.model.read(seen_BQE, old_BKE), grown.model.read(seen_BQE, new_BKE)
    torch.testing.assert_close(new[:, :known], old, atol=1e-5, rtol=1e-5)
    assert with_context(captioner, known) is captioner


def test_new_positions_repeat_the_old_in_order_and_the_class_token_stays_last() -> None:
    old_KD = torch.arange(5.0)[:, None]  # four positions and the class token's
    assert longer_positions(old_KD, 10)[:, 0].tolist() == [0, 1, 2, 3, 1, 2, 3, 1, 2, 3, 4]
    assert torch.equal(longer_positions(old_KD, 4), old_KD)


def test_a_new_captioner_has_room_for_a_corpus_of_long_captions() -> None:
    long = " ".join(["a red ball moves right ."] * 60)
    captioner = new_captioner([long, "a ball"], seed=0, sizes=SIZES)
    assert captioner.model.config.context_length == longest(captioner.tokenizer, [long]) > 300
    assert not captioner.tokenizer.overflows(long)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "vocabulary.json"])
@pytest.mark.parametrize("content", [b"", b"[]", b'{"a": 1}', b"\x00" * 64])
def test_a_folder_of_something_else_is_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    captioner = begun()
    save_captioner(
        tmp_path, captioner.model.config, captioner.tokenizer, captioner.model.state_dict()
    )
    load_captioner(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as error:
        load_captioner(tmp_path)
    assert "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value)


def test_weights_of_other_sizes_are_one_line(tmp_path: Path) -> None:
    captioner = begun()
    config = replace(captioner.model.config, vision_layers=3)
    save_captioner(tmp_path, config, captioner.tokenizer, captioner.model.state_dict())
    with pytest.raises(InputError, match="weights: got") as error:
        load_captioner(tmp_path)
    assert "\n" not in str(error.value)


def test_training_goes_on_from_where_a_captioner_was(tmp_path: Path) -> None:
    """The second training starts with the first one's weights, not with new ones."""
    first = tuned(begun(), tmp_path / "first")
    again = tuned(
        load_captioner(tmp_path / "first" / "model"), tmp_path / "second", tuned="poolers"
    )
    name = "coca.text_decoder.text_projection"
    a, b, c = (x.model.state_dict()[name].numpy() for x in (first, again, begun()))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_the_station_goes_on_from_a_folder_and_remembers_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As DALL-E 3: all kinds first, then one of them; another beginning is another run."""
    monkeypatch.setattr(stations_text, "clips_of", lambda dataset: clips())
    monkeypatch.setattr(stations_text, "stream_clip", lambda clip: render(SCENES[clip.clip_id]))
    engine = EngineConfig(learning_rate=1e-3, warmup_steps=1)
    recipe = CaptionerRecipe(
        task=CaptionerTrainConfig(batch_size=3),
        train=TrainConfig(steps=2, engine=engine, save_every=2),
        model=SIZES,
    )
    first = stations_text.train_captioner(recipe, tmp_path, tmp_path / "first", seed=0)
    dense = replace(recipe, init=first, task=replace(recipe.task, kinds=("dense",)))
    second = stations_text.train_captioner(dense, tmp_path, tmp_path / "second", seed=0)
    card = json.loads((tmp_path / "second" / "recipe.json").read_text())
    assert card["init"] == captioner_digest(first) != captioner_digest(second)
    assert load_captioner(second).tokenizer == load_captioner(first).tokenizer
    other, missing = replace(dense, init=second), replace(dense, init=tmp_path)
    with pytest.raises(InputError, match="recipe: got"):
        stations_text.train_captioner(other, tmp_path, tmp_path / "second", seed=0)
    with pytest.raises(InputError, match="captioner: got"):
        stations_text.train_captioner(missing, tmp_path, tmp_path / "third", seed=0)
    unsaid = replace(recipe, task=replace(recipe.task, kinds=("original",)))
    with pytest.raises(InputError, match=r"dataset: got .* clips with captions \(original\)"):
        stations_text.train_captioner(unsaid, tmp_path, tmp_path / "fourth", seed=0)
