"""The captioner's batches, loss and learning."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from openreel.deploy.world import Scene, Thing, describe, draw_scene, render
from openreel.pipeline.clip import Clip
from openreel.pipeline.errors import InputError
from openreel.recaption.decoding import Decoding, write_captions
from openreel.recaption.frames import Frames, collate, normalised, prepare
from openreel.recaption.loss import caption_loss, contrastive_loss
from openreel.recaption.train import CaptionerTask, CaptionerTrainConfig
from openreel.recaption.variation import mirrored
from openreel.recaption.weights import Captioner, load_captioner, new_captioner
from tests.benchmarks.captions import clip_of

SCENES = {str(i): draw_scene(0, i, num_objects=1, size=(48, 36)) for i in range(40)}


def read(clip: Clip) -> Frames:
    return render(SCENES[clip.clip_id])


def task_of(*, rank: int = 0, world_size: int = 1, **settings: object) -> CaptionerTask:
    clips = [clip_of(i, scene) for i, scene in SCENES.items()]
    captioner = new_captioner((t.text for c in clips for t in c.texts), seed=0)
    config = CaptionerTrainConfig(**{"batch_size": 4, **settings})
    return CaptionerTask(captioner, clips, read, config, seed=1, rank=rank, world_size=world_size)


def test_two_ranks_together_take_the_batches_of_one() -> None:
    alone = task_of()
    ranks = [task_of(rank=r, world_size=2) for r in range(2)]
    for i in range(6):
        expected, actual = alone.next_batch(), ranks[i % 2].next_batch()
        assert torch.equal(expected.text_NK, actual.text_NK)
        assert torch.equal(expected.frames_BTHWC, actual.frames_BTHWC)
    assert ranks[0].state() == ranks[1].state() == alone.state()


def test_a_restored_task_goes_on_exactly() -> None:
    first = task_of()
    for _ in range(13):  # beyond the first epoch of ten batches
        first.next_batch()
    second = task_of()
    second.restore(first.state())
    a, b = first.next_batch(), second.next_batch()
    assert torch.equal(a.frames_BTHWC, b.frames_BTHWC)
    assert torch.equal(a.text_NK, b.text_NK)
    assert not torch.equal(a.text_NK, first.next_batch().text_NK)


def test_an_epoch_shows_every_clip_once_and_both_kinds_occur() -> None:
    task, seen = task_of(variation=0.0, mirror=False), []
    kinds = set()
    for _ in range(10):
        batch = task.next_batch()
        seen += [row.tobytes() for row in batch.frames_BTHWC.numpy()[:, 0]]
        kinds |= set(batch.text_NK[:, 0].tolist())
    assert len(seen) == len(SCENES)
    assert len(kinds) == 2
    assert batch.weight == len(batch.text_NK) == 8.0


def test_a_clips_texts_share_its_frames_and_are_no_negatives_of_each_other() -> None:
    """One text a clip and two give each text the same loss, up to the other negatives."""
    batch = task_of(texts=2).next_batch()
    assert batch.clip_N.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert len(batch.frames_BTHWC) == 4
    model = task_of().model.eval()
    with torch.no_grad():
        _, together = model(batch)
        single = []
        for first in (0, 1):
            kept = slice(first, None, 2)
            half = replace(batch, text_NK=batch.text_NK[kept], clip_N=batch.clip_N[kept])
            single.append(float(model(half)[1]["captioning"]))
    assert float(together["captioning"]) == pytest.approx(sum(single) / 2, rel=1e-5)
    torch.manual_seed(0)
    clip, text = (F.normalize(torch.randn(3, 8), dim=-1) for _ in range(2))
    ids = torch.tensor([[3, 7, 8], [4, 9, 9], [3, 6, 6]])  # the first two belong to one clip
    owners, scale = torch.tensor([0, 0, 1]), torch.tensor(10.0)
    loss = contrastive_loss(clip, text, ids, owners, scale)
    alone = contrastive_loss(clip[[0, 2]], text[[0, 2]], ids[[0, 2]], owners[[0, 2]], scale)
    assert float(loss[0]) == pytest.approx(float(alone[0]), abs=1e-6)


def test_variation_moves_and_shrinks_but_keeps_the_colours_and_the_cache_changes_nothing() -> None:
    plain, varied, uncached = (
        task_of(**s).next_batch()
        for s in ({"variation": 0.0, "mirror": False}, {}, {"cache_mib": 0})
    )
    assert not torch.equal(plain.frames_BTHWC, varied.frames_BTHWC)
    assert torch.equal(varied.frames_BTHWC, uncached.frames_BTHWC)
    means = [batch.frames_BTHWC.float().mean((1, 2, 3)) for batch in (plain, varied)]
    assert (means[0] - means[1]).abs().max() < 40


def test_a_mirrored_clip_has_its_left_and_right_exchanged() -> None:
    assert mirrored("A ball moves Left; leftmost, right. A bright bar is upright.") == (
        "A ball moves right; rightmost, left. A bright bar is upright."
    )
    settings = {"variation": 0.0, "batch_size": 8}
    plain, other = (task_of(mirror=m, **settings).next_batch() for m in (False, True))
    exchanged = 0
    for b in range(8):
        frames, shown = plain.frames_BTHWC[b], other.frames_BTHWC[b]
        if torch.equal(frames, shown):
            assert torch.equal(plain.text_NK[2 * b], other.text_NK[2 * b])
            continue
        assert torch.equal(frames.flip(2), shown)
        exchanged += 1
    assert 0 < exchanged < 8


def test_equal_captions_are_no_negatives_of_each_other() -> None:
    torch.manual_seed(0)
    clip, text = (F.normalize(torch.randn(4, 8), dim=-1) for _ in range(2))
    text[2] = text[0]
    ids = torch.tensor([[3, 7, 8], [3, 7, 9], [4, 7, 8], [3, 9, 9]])  # 0 and 2: one text, two kinds
    owners, scale = torch.arange(4), torch.tensor(10.0)
    loss = contrastive_loss(clip, text, ids, owners, scale)
    kept = [0, 1, 3]
    alone = contrastive_loss(clip[kept], text[kept], ids[kept], owners[kept], scale)
    assert float(loss[0]) == pytest.approx(float(alone[0]), abs=1e-6)
    assert float(loss[1]) > float(alone[1]), "for the others both are negatives"


def test_without_duplicates_the_losses_are_open_clips() -> None:
    from open_clip.loss import CoCaLoss

    torch.manual_seed(0)
    clip, text = (F.normalize(torch.randn(5, 8), dim=-1) for _ in range(2))
    ids, logits = torch.randint(1, 9, (5, 6)), torch.randn(5, 6, 9)
    oracle = CoCaLoss(caption_loss_weight=2.0, clip_loss_weight=1.0, pad_id=0)
    contrast, caption = oracle(clip, text, logits[:, :-1], ids[:, 1:], torch.tensor(7.0))
    ours = contrastive_loss(clip, text, ids, torch.arange(5), torch.tensor(7.0)).mean()
    assert float(ours) == pytest.approx(float(contrast), abs=1e-5)
    # No padding: the mean over captions is the mean over tokens.
    assert float(2 * caption_loss(logits, ids, pad=0).mean()) == pytest.approx(float(caption), 1e-5)


def test_padding_teaches_nothing() -> None:
    logits = torch.randn(1, 6, 9)
    ids = torch.tensor([[3, 5, 2, 0, 0, 0]])
    short = caption_loss(logits[:, :3], ids[:, :3], pad=0)
    assert torch.equal(caption_loss(logits, ids, pad=0), short)


def test_the_loss_of_a_batch_is_a_sum_over_its_captions() -> None:
    task = task_of(contrastive_weight=0.0)
    batch = task.next_batch()
    with torch.no_grad():
        loss, figures = task.model(batch)
    assert float(loss) == pytest.approx(2 * 8 * float(figures["captioning"]), rel=1e-5)


def test_mistakes_are_named() -> None:
    with pytest.raises(InputError, match="batch_size: got 1"):
        CaptionerTrainConfig(batch_size=1)
    with pytest.raises(InputError, match="variation: got 1"):
        CaptionerTrainConfig(variation=1)
    captioner = new_captioner(["a ball"], seed=0)
    with pytest.raises(InputError, match="clips: got '0 with a text'"):
        CaptionerTask(captioner, [], read, CaptionerTrainConfig(), seed=0)


def scene_of(colour: str, motion: str) -> Scene:
    start = {"left": (0.75, 0.5), "right": (0.25, 0.5)}[motion]
    thing = Thing(
        **{"shape": "ball", "colour": colour, "size": "large", "motion": motion},
        **{"diameter": 0.6, "start": start, "travel": 0.5},
    )
    return Scene(
        **{"objects": (thing,), "shade": "grey", "texture": "plain"},
        **{"width": 32, "height": 32, "fps": 8.0, "num_frames": 6},
    )


@pytest.mark.slow
def test_it_learns_colour_and_motion_and_tells_a_reversed_clip(tmp_path: Path) -> None:
    """Four things to say; the same pixels in reverse order must flip the direction."""
    scenes = {f"{c} {m}": scene_of(c, m) for c in ("red", "blue") for m in ("left", "right")}
    clips = [clip_of(name, scene) for name, scene in scenes.items()]
    captioner = new_captioner((t.text for c in clips for t in c.texts), seed=0)
    task = CaptionerTask(
        captioner,
        clips,
        lambda clip: render(scenes[clip.uri]),
        CaptionerTrainConfig(batch_size=8, variation=0.0, mirror=False),
        seed=0,
    )
    optimiser = torch.optim.AdamW(task.model.parameters(), lr=2e-3)
    warmup = torch.optim.lr_scheduler.LinearLR(optimiser, 0.05, total_iters=20)
    for _ in range(160):
        batch = task.next_batch()
        loss, _ = task.model(batch)
        optimiser.zero_grad()
        (loss / batch.weight).backward()
        torch.nn.utils.clip_grad_norm_(task.model.parameters(), 1.0)
        optimiser.step()
        warmup.step()
    task.export(tmp_path, task.model.state_dict())
    loaded = load_captioner(tmp_path)
    for scene in scenes.values():
        frames = render(scene)
        assert said(loaded, frames, "short") == describe(scene).short
        assert said(loaded, frames, "dense") == describe(scene).dense
        reverse = {"left": "right", "right": "left"}[scene.objects[0].motion]
        backwards = scene_of(scene.objects[0].colour, reverse)
        assert said(loaded, frames[::-1], "short") == describe(backwards).short


def said(captioner: Captioner, frames: Frames, kind: str) -> str:
    prepared = prepare(frames, len(frames), captioner.model.config.sight)
    with torch.no_grad():
        _, seen = captioner.model.encode_video(normalised(collate([prepared])[0]))
    return write_captions(captioner.model, captioner.tokenizer, seen, kind, ["x"], Decoding())[
        0
    ].text
