"""The own expander: its batches, what its loss counts, and that it learns to insert and to copy."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from openreel.deploy.world import describe, draw_scene
from openreel.pipeline.errors import InputError
from openreel.recaption.caption import Caption, ClipCaptions
from openreel.recaption.expander_model import (
    ExpanderSizes,
    LanguageModel,
    Style,
    new_language_model,
    own_model,
    pretrained,
)
from openreel.recaption.expander_train import ExpanderTask, ExpanderTrainConfig, estranged
from openreel.recaption.expansion import GuardedExpander
from openreel.recaption.guards import violations
from openreel.recaption.language import LocalConfig
from openreel.recaption.pairs import Pair, pairs_of
from tests.recaption.adversarial import cases, complaint
from tests.recaption.tiny_language import tiny_language

PAIRS = [Pair(t.short, t.dense) for t in (describe(draw_scene(0, i)) for i in range(120))]
STYLE = Style.of((p.dense for p in PAIRS), PAIRS)
TINY = ExpanderSizes(dim=16, depth=1, num_heads=2, vocabulary=400, context=256)


def language_of(sizes: ExpanderSizes = TINY) -> LanguageModel:
    return new_language_model([t for p in PAIRS for t in (p.short, p.dense)], sizes, seed=0)


def task_of(rank: int = 0, world_size: int = 1, **settings: float) -> ExpanderTask:
    config = ExpanderTrainConfig(**{"batch_size": 4, **settings})
    return ExpanderTask(
        language_of(), PAIRS, config, style=STYLE, seed=1, rank=rank, world_size=world_size
    )


def test_the_loss_is_on_the_dense_caption_alone_and_padding_teaches_nothing() -> None:
    task = task_of(made_up=0.0)
    batch = task.next_batch()
    total, _ = task.model(batch)
    tokenizer, alone = task.language.tokenizer, 0.0
    order = [task._pair(i) for i in range(4)]
    for pair in order:
        short = tokenizer(f"<short>{pair.short}<dense>", add_special_tokens=False)["input_ids"]
        dense = tokenizer(f"{pair.dense}<end>", add_special_tokens=False)["input_ids"]
        logits = task.language.model(torch.tensor([short + dense])).logits[0]
        alone += float(F.cross_entropy(logits[len(short) - 1 : -1], torch.tensor(dense)))
    assert len({len(p.dense) for p in order}) > 1, "some are padded"
    assert float(total.detach()) == pytest.approx(alone, rel=1e-4)
    assert batch.weight == 4


def test_ranks_share_the_batches_of_one_and_a_restored_task_goes_on() -> None:
    alone = task_of()
    ranks = [task_of(rank=r, world_size=2) for r in range(2)]
    for i in range(6):
        assert torch.equal(alone.next_batch().ids_BK, ranks[i % 2].next_batch().ids_BK)
    later = task_of()
    later.restore(json.loads(json.dumps(alone.state())))
    assert torch.equal(later.next_batch().target_BK, alone.next_batch().target_BK)


def test_made_up_words_are_the_same_on_both_sides_and_the_pair_stays_true() -> None:
    changed = 0
    for i, pair in enumerate(PAIRS):
        strange = estranged(pair, np.random.default_rng(i))
        assert violations(strange.short, strange.dense) == ()
        changed += strange != pair
    assert changed > len(PAIRS) // 2


def test_pairs_are_of_one_clip_and_one_writer_and_torn_ones_are_counted() -> None:
    def said(kind: str, text: str, source: str = "videococa", **more: object) -> Caption:
        return Caption(kind=kind, text=text, source=source, **more)

    rows = [
        ClipCaptions(
            clip_id="1",
            captions=(
                said("short", "a dog", "manifest"),
                said("dense", "A brown dog runs.", "manifest"),
                said("short", "a brown dog"),
                said("dense", "A brown dog runs on grass."),
                said("dense", "A brown dog that is a cat.", flaw="unsupported"),
            ),
        ),
        ClipCaptions(
            clip_id="2", captions=(said("short", "two cats"), said("dense", "A cat sleeps."))
        ),
        ClipCaptions(clip_id="3", captions=(said("dense", "A bridge."),)),
    ]
    found = pairs_of(rows)
    assert found.usable == (
        Pair("a brown dog", "A brown dog runs on grass."),
        Pair("a dog", "A brown dog runs."),
    )
    assert found.torn == 1


def test_an_exported_folder_is_loaded_by_transformers_and_is_an_expander(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    task = task_of()
    task.export(tmp_path, task.model.state_dict())
    model = AutoModelForCausalLM.from_pretrained(tmp_path, local_files_only=True)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, task.language.model.state_dict()[name])
    tokenizer = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    chat = [{"role": "user", "content": "a Zürich 猫"}]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert text == "<short>a Zürich 猫<dense>"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text, "bytes: no text is unknown"
    assert Style.read(tmp_path) == STYLE
    own = own_model(tmp_path, LocalConfig(max_new_tokens=4))
    assert own.instruction == ""
    expander = GuardedExpander(own, corpus=STYLE.dense)
    for case in cases()[::20]:
        assert complaint(case, expander.expand(case.prompt)) == ""


def test_a_local_folder_can_be_gone_on_from(tmp_path: Path) -> None:
    language = pretrained(tiny_language(tmp_path))
    config = ExpanderTrainConfig(batch_size=2)
    task = ExpanderTask(language, PAIRS, config, style=STYLE, seed=0)
    batch = task.next_batch()
    text = language.tokenizer.decode(batch.ids_BK[0])
    assert text.startswith("<|start|>user a")
    wanted = batch.target_BK[0][batch.target_BK[0] >= 0]
    assert language.tokenizer.decode(wanted).endswith(".<|end|>")


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="dim: got 20"):
        ExpanderSizes(dim=20)
    with pytest.raises(InputError, match="vocabulary: got 10"):
        ExpanderSizes(vocabulary=10)
    with pytest.raises(InputError, match="made_up: got 2"):
        ExpanderTrainConfig(made_up=2)
    with pytest.raises(InputError, match="a folder that `openreel train expander` wrote"):
        own_model(tmp_path)
    with pytest.raises(InputError, match="model: got"):
        Style.read(tmp_path)
    narrow = language_of(ExpanderSizes(dim=16, depth=1, num_heads=2, vocabulary=400, context=4))
    with pytest.raises(InputError, match="pairs: got '120, none within 4 tokens'"):
        ExpanderTask(narrow, PAIRS, ExpanderTrainConfig(), style=STYLE, seed=0)
