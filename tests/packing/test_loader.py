"""The loader: every sample each epoch, the same samples on any ranks, exact resume."""

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest

from openreel.packing.batch import PackedBatch, collate
from openreel.packing.loader import CaptionMix, PackLoader, to_sample
from openreel.packing.packer import PackerConfig
from openreel.pipeline.errors import InputError
from openreel.recaption.caption import Caption, ClipCaptions
from openreel.vae.latent import LatentRow, LatentVideo

SHAPES = [(4, t, h, w) for t in (1, 2, 3, 5) for h, w in ((9, 16), (16, 9), (7, 7), (5, 21))]


def latent(row: LatentRow) -> LatentVideo:
    rng = np.random.default_rng(int(row.clip_id))
    return LatentVideo(
        latents=rng.standard_normal(row.shape).astype(np.float32),
        num_frames=row.num_frames,
        height=row.height,
        width=row.width,
        fps=row.fps,
        codec="c",
    )


def rows(count: int = 48) -> list[LatentRow]:
    return [
        LatentRow(
            clip_id=str(i),
            codec="c",
            shape=SHAPES[i % len(SHAPES)],
            num_frames=1,
            height=8,
            width=8,
        )
        for i in range(count)
    ]


def loader(
    rank: int = 0,
    world_size: int = 1,
    max_tokens: int = 256,
    mix: CaptionMix | None = None,
    longest: int | None = None,
    **options: Any,
) -> PackLoader:
    captions = {
        r.clip_id: ClipCaptions(
            clip_id=r.clip_id,
            captions=(
                Caption(kind="short", text=f"short {r.clip_id}", source="t"),
                Caption(kind="dense", text=f"dense {r.clip_id}", source="t"),
            ),
        )
        for r in rows()
    }
    return PackLoader(
        rows(),
        captions,
        read=latent,
        embed=lambda text: np.full((1 + len(text) % 3, 8), len(text), np.float32),
        patch=(1, 2, 2),
        packer=PackerConfig(max_tokens=max_tokens, look_ahead=16, longest=longest),
        mix=mix or CaptionMix(),
        seed=3,
        rank=rank,
        world_size=world_size,
        **options,
    )


def test_each_epoch_holds_every_sample_once() -> None:
    packs, seen = loader(), Counter[tuple[int, str]]()
    while min((epoch for epoch, _ in seen), default=0) == 0 and len(seen) < 120:
        seen.update((i.epoch, i.sample_id) for i in packs.next_items())
    first = [sample for epoch, sample in seen if epoch == 0]
    assert sorted(first, key=int) == [str(i) for i in range(48)]
    assert max(seen.values()) == 1


def test_two_ranks_see_what_one_rank_sees() -> None:
    one, two = loader(), [loader(rank=r, world_size=2) for r in range(2)]
    for _ in range(8):
        assert [one.next_items(), one.next_items()] == [r.next_items() for r in two]
    assert json.dumps(one.state()) == json.dumps(two[0].state()) == json.dumps(two[1].state())


def test_resuming_from_the_state_goes_on_bit_for_bit_across_an_epoch() -> None:
    packs = loader()
    for _ in range(3):
        packs.next_batch()
    twin = loader()
    twin.restore(json.loads(json.dumps(packs.state())))
    for _ in range(12):
        ours, theirs = packs.next_batch(), twin.next_batch()
        assert ours.sample_ids == theirs.sample_ids
        assert np.array_equal(ours.tokens, theirs.tokens)
        assert np.array_equal(ours.text, theirs.text)
    assert packs.epoch >= 1, "the test must cross an epoch"


@pytest.mark.parametrize(("begun", "resumed"), [(4, 1), (1, 3), (3, 2), (2, 6)])
def test_a_resume_on_other_ranks_goes_on_in_the_same_order(begun: int, resumed: int) -> None:
    packs = [loader(rank=r, world_size=begun) for r in range(begun)]
    alone = loader()
    for _ in range(3):
        assert [p.next_items() for p in packs] == [alone.next_items() for _ in packs]
    states = [json.dumps(p.state()) for p in packs]
    assert set(states) == {json.dumps(alone.state())}, "every rank saves the same"
    others = [loader(rank=r, world_size=resumed) for r in range(resumed)]
    for other in others:
        other.restore(json.loads(states[-1]))
    for _ in range(8):
        assert [p.next_items() for p in others] == [alone.next_items() for _ in others]
    assert alone.epoch >= 1, "the test must cross an epoch"


def test_workers_change_neither_packs_nor_state() -> None:
    alone, shared = loader(), loader(workers=3)
    assert shared.state() == alone.state()
    for _ in range(5):
        ours, theirs = alone.next_batch(), shared.next_batch()
        assert ours.sample_ids == theirs.sample_ids
        assert np.array_equal(ours.tokens, theirs.tokens)
        assert shared.state() == alone.state(), "packs that were read ahead do not count"
    assert len(shared._ahead) == 3
    twin = loader(workers=2)
    twin.next_batch()
    twin.restore(json.loads(json.dumps(shared.state())))
    for _ in range(5):
        assert np.array_equal(twin.next_batch().tokens, alone.next_batch().tokens)


def test_a_fault_of_a_worker_is_raised_with_its_pack() -> None:
    first = loader().next_items()[0].sample_id

    def read(row: LatentRow) -> LatentVideo:
        raise OSError(f"gone: {row.clip_id}")

    packs = loader(workers=2)
    packs.read = read
    with pytest.raises(OSError, match=f"gone: {first}"):
        packs.next_batch()


def test_a_batch_gives_each_sample_back() -> None:
    batch = loader().next_batch()
    assert len(batch.sample_ids) > 1
    for segment in batch.segments():
        alone = latent(rows()[int(segment.sample_id)])
        sample = to_sample(alone, text=batch.text[segment.text], patch=(1, 2, 2), sample_id="")
        assert np.array_equal(batch.tokens[segment.tokens], sample.tokens)
        assert np.array_equal(batch.positions[segment.tokens], sample.positions)


def test_the_mix_is_drawn_in_its_shares_and_by_key_alone() -> None:
    both = ClipCaptions(
        clip_id="a",
        captions=(
            Caption(kind="original", text="o", source="t"),
            Caption(kind="short", text="s", source="t"),
            Caption(kind="dense", text="d", source="t"),
        ),
    )
    mix = CaptionMix(original=0.05, short=0.35, dense=0.60, dropped=0.1)
    drawn = Counter(mix.draw(both, seed=0, epoch=e) for e in range(4000))
    shares = {k: v / 4000 for k, v in drawn.items()}
    assert shares == pytest.approx({"": 0.1, "o": 0.045, "s": 0.315, "d": 0.54}, abs=0.02)
    assert mix.draw(both, seed=0, epoch=7) == mix.draw(both, seed=0, epoch=7)


def said(*captions: tuple[str, str], flaw: str = "", clip_id: str = "a") -> ClipCaptions:
    """(source, text) of captions whose kind is the text's first word."""
    kept = [
        Caption(kind=text.split()[0], text=text, source=source, flaw=flaw)
        for source, text in captions
    ]
    return ClipCaptions(clip_id=clip_id, captions=tuple(kept))


def shares(captions: ClipCaptions, mix: CaptionMix) -> dict[str, float]:
    return {caption.text: share for caption, share in mix.usable(captions).items()}


def test_originals_have_their_share_wherever_a_clip_has_both() -> None:
    mix, own = CaptionMix(), ("manifest", "original o")
    assert shares(said(own, ("vlm", "dense d")), mix) == pytest.approx(
        {"original o": 0.05, "dense d": 0.95}
    )
    # What came with the file is original, whatever its kind, and fills in where there is no other.
    given = (("manifest", "short g"), ("manifest", "dense g"))
    both = shares(said(*given, ("vlm", "short s"), ("vlm", "dense d")), mix)
    assert both["short g"] + both["dense g"] == pytest.approx(0.05)
    assert both["short s"] / both["dense d"] == pytest.approx(0.35 / 0.60)
    assert sum(both.values()) == pytest.approx(1)
    alone = shares(said(*given), mix)
    assert alone["dense g"] == pytest.approx(0.60 / 0.95)
    assert shares(said(*given), CaptionMix(original=0, short=1, dense=0)) == {"short g": 1}
    assert shares(said(own), CaptionMix(original=0, short=1, dense=0)) == {"original o": 1}


def test_of_several_captioners_the_newest_usable_caption_is_drawn() -> None:
    mix = CaptionMix()
    old, new = said(("a", "dense old")), said(("b", "dense new"))
    flawed = said(("b", "dense bad"), flaw="empty")
    windows = ClipCaptions(
        clip_id="a", captions=(Caption(kind="dense", text="part", source="b", whole=False),)
    )

    def together(*rows: ClipCaptions) -> ClipCaptions:
        return ClipCaptions(clip_id="a", captions=tuple(c for r in rows for c in r.captions))

    assert shares(together(old, new), mix) == {"dense new": 1}
    assert shares(together(old, flawed, windows), mix) == {"dense old": 1}
    assert shares(together(flawed, windows), mix) == {}


def test_the_proportions_that_are_stored_and_drawn_are_told() -> None:
    packs = loader(mix=CaptionMix(original=0.0, short=0.5, dense=0.5, dropped=0.25))
    told = packs.proportions()
    assert told.stored == {"dense t": 1.0, "short t": 1.0}
    assert told == loader(rank=1, world_size=2, mix=packs.mix).proportions()
    seen: Counter[str] = Counter()
    texts = {r.clip_id: packs.mix.draw(packs.captions[r.clip_id], 3, 0) for r in packs.rows}
    seen.update(text.split()[0] if text else "none" for text in texts.values())
    assert told.drawn == {
        name if name == "none" else f"{name} t": n / len(packs.rows) for name, n in seen.items()
    }
    assert len(seen) == 3


def test_a_sample_that_no_pack_holds_is_left_out_with_its_reason() -> None:
    packs = loader(max_tokens=64)
    assert packs.left_out
    assert len(packs.left_out) + len(packs.rows) == 48
    reason = next(iter(packs.left_out.values()))
    tokens, cap = [int(word) for word in reason.replace(";", "").split() if word.isdigit()]
    assert tokens > cap == 64
    with pytest.raises(InputError, match="48 x a pack holds at most 1"):
        loader(max_tokens=1)


def test_a_sample_without_a_caption_is_left_out_with_its_reason() -> None:
    silent = loader(mix=CaptionMix(original=0.0, short=0.0, dense=1.0))
    assert not silent.left_out
    captions = dict(silent.captions)
    del captions["7"]
    captions["8"] = said(("t", "short s"), clip_id="8")
    packs = PackLoader(
        rows(),
        captions,
        read=latent,
        embed=silent.embed,
        patch=(1, 2, 2),
        packer=PackerConfig(max_tokens=256),
        mix=silent.mix,
        seed=0,
    )
    assert packs.left_out == dict.fromkeys(["7", "8"], "no caption that the mix can draw")


def test_a_sample_longer_than_a_pack_has_one_to_itself_up_to_a_cap() -> None:
    lengths = sorted(set(loader().num_tokens))
    cap, longest = lengths[-3], lengths[-2]
    packs = loader(max_tokens=cap, longest=longest)
    assert len(packs.left_out) == sum(n == lengths[-1] for n in loader().num_tokens)
    made = [packs.next_items() for _ in range(40)]
    over = [pack for pack in made if sum(item.num_tokens for item in pack) > cap]
    assert over
    assert all(len(pack) == 1 for pack in over)
    assert {pack[0].num_tokens for pack in over} == {longest}
    first = {item.sample_id for pack in made for item in pack if item.epoch == 0}
    assert len(first) == len(packs.rows), "none of them starves"


def test_a_batch_that_contradicts_itself_is_refused() -> None:
    batch = loader().next_batch()
    fields = {name: getattr(batch, name) for name in batch.__dataclass_fields__}
    with pytest.raises(ValueError, match="known: got shape"):
        PackedBatch(**{**fields, "known": batch.known[:-1]})
    with pytest.raises(ValueError, match="cu_seqlens: got"):
        PackedBatch(**{**fields, "cu_seqlens": batch.cu_seqlens + np.int32(1)})
    with pytest.raises(ValueError, match="at least one"):
        collate([])
