"""Token drop: three laws, keyed exactly, and samples that stay what they are but for the gaps."""

import json
from functools import partial

import numpy as np
import pytest

from openreel.packing.batch import PackedBatch, collate
from openreel.packing.drop import TokenDrop
from openreel.packing.loader import to_sample
from openreel.packing.packer import PackerConfig
from openreel.packing.patches import patchify, positions
from openreel.pipeline.errors import InputError
from tests.packing.test_loader import latent, loader, rows

CONSTANT = TokenDrop(law="constant", rate=0.3)
BETA = TokenDrop(law="beta", rate=0.4, most_rate=0.8)
LENGTH = TokenDrop(law="length", least_rate=0.2, most_rate=0.6, shortest=100, longest=900)


def rates(drop: TokenDrop, num_tokens: int, count: int = 3000) -> np.ndarray:
    counts = [drop.count(num_tokens, 0, str(i), 0) for i in range(count)]
    return 1 - np.array(counts) / num_tokens


def test_a_constant_law_drops_the_same_share_of_every_sample() -> None:
    for n in (1, 2, 7, 100, 4097):
        assert set(rates(CONSTANT, n, 20)) == {1 - max(1, round(0.7 * n)) / n}


def test_a_beta_law_has_its_mean_its_variance_and_its_bound() -> None:
    found = rates(BETA, 100_000)
    mean = BETA.rate / BETA.most_rate
    assert found.mean() == pytest.approx(BETA.rate, abs=0.02)
    assert (found / BETA.most_rate).var() == pytest.approx(0.3 * mean * (1 - mean), rel=0.05)
    assert found.max() <= BETA.most_rate
    assert (found < 0.05).mean() > 0.03, "some samples are seen nearly whole"


def test_a_length_law_drops_more_of_longer_samples_and_never_far_from_its_mean() -> None:
    for n, mean in ((50, 0.2), (100, 0.2), (500, 0.4), (900, 0.6), (5000, 0.6)):
        found = rates(LENGTH, n, 1500)
        # A normal variable that is cut off at two deviations keeps 0.880 of its deviation.
        rounding = 0.5 / n
        assert found.mean() == pytest.approx(mean, abs=0.003)
        assert abs(found - mean).max() <= 0.04 + rounding + 1e-9
        assert found.std() == pytest.approx(0.880 * 0.02, abs=0.002 + rounding / 2)


@pytest.mark.parametrize("drop", [CONSTANT, BETA, LENGTH], ids=lambda drop: drop.law)
def test_what_is_kept_is_known_from_the_key_and_the_length_alone(drop: TokenDrop) -> None:
    kept = partial(drop.kept, 300, 5)
    first = kept("a", 0)
    assert first is not None
    again, other, later = kept("a", 0), kept("b", 0), kept("a", 1)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first, later)
    assert len(first) == drop.count(300, 5, "a", 0) <= drop.most(300)
    assert (np.diff(first) > 0).all()
    chosen = np.zeros(300)
    for i in range(600):
        mine = kept(str(i), 0)
        chosen[slice(None) if mine is None else mine] += 1
    shares = chosen / 600
    assert shares.std() < 0.04, "no place is kept more often than another"
    alone = drop.kept(1, 5, "a", 0)
    assert alone is None or alone.tolist() == [0], "one token is always kept"


def test_the_longest_a_sample_can_be_is_never_exceeded() -> None:
    for drop in (CONSTANT, BETA, LENGTH):
        for n in (3, 100, 500, 5000):
            assert max(drop.count(n, 1, str(i), 0) for i in range(300)) <= drop.most(n)
    assert LENGTH.most(500) < 500


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"law": "constant", "rate": 1.0}, "rate: got 1.0"),
        ({"law": "beta", "rate": 0.8, "most_rate": 0.8}, "rate: got 0.8; accepted: 0 < rate < mo"),
        ({"least_rate": 0.5, "most_rate": 0.4}, "least_rate, most_rate: got"),
        ({"shortest": 9, "longest": 9}, "shortest, longest: got"),
    ],
)
def test_a_law_that_cannot_be_is_refused(fields: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        TokenDrop(**fields)


def test_a_pack_holds_the_kept_tokens_at_their_own_places() -> None:
    packs = loader(drop=BETA)
    assert packs.next_items() == loader(drop=BETA).next_items()
    thinned = 0
    for _ in range(6):
        batch = packs.next_batch()
        assert sum(batch.lengths) == len(batch.tokens) <= 256
        for i, segment in enumerate(batch.segments()):
            video = latent(rows()[int(segment.sample_id)])
            whole = patchify(video.latents, (1, 2, 2))
            assert segment.kept is batch.kept[i]
            assert np.array_equal(batch.tokens[segment.tokens], segment.cut(whole))
            own = segment.cut(positions(segment.grid))
            assert np.array_equal(batch.positions[segment.tokens], own)
            assert batch.lengths[i] == packs.drop.count(
                len(whole), packs.seed, segment.sample_id, batch.epochs[i]
            )
            thinned += batch.lengths[i] < len(whole)
    assert thinned > 10


def test_dropping_nothing_gives_the_packs_that_there_were() -> None:
    plain, none = loader(), loader(drop=TokenDrop(law="none", rate=0.9))
    for _ in range(4):
        ours, theirs = plain.next_batch(), none.next_batch()
        assert ours.kept == theirs.kept == (None,) * len(ours.grids)
        assert np.array_equal(ours.tokens, theirs.tokens)
        assert ours.lengths == tuple(t * h * w for t, h, w in ours.grids)


def test_dropped_packs_are_full_and_go_on_exactly_on_other_ranks() -> None:
    packs = loader(drop=BETA)
    lengths = [sum(item.num_tokens for item in packs.next_items()) for _ in range(8)]
    assert np.mean(lengths) / 256 > 0.97
    state = json.loads(json.dumps(packs.state()))
    one, two = loader(drop=BETA), [loader(rank=r, world_size=2, drop=BETA) for r in range(2)]
    for resumed in (one, *two):
        resumed.restore(state)
    for _ in range(4):
        assert [one.next_items(), one.next_items()] == [r.next_items() for r in two]


def test_a_known_mask_is_cut_as_the_tokens_are() -> None:
    video = latent(rows()[4])
    known = np.arange(len(patchify(video.latents, (1, 2, 2)))) % 3 == 0
    kept = np.array([0, 1, 5, 6])
    sample = to_sample(
        video,
        text=np.zeros((1, 8), np.float32),
        patch=(1, 2, 2),
        sample_id="a",
        known=known,
        kept=kept,
    )
    assert collate([sample]).known.tolist() == [True, False, False, True]


def test_places_outside_the_grid_or_out_of_order_are_refused() -> None:
    batch = loader(drop=CONSTANT).next_batch()
    fields = {name: getattr(batch, name) for name in batch.__dataclass_fields__}
    kept = batch.kept[0]
    assert kept is not None
    for wrong in (kept[::-1], kept + 10_000, kept[:0]):
        with pytest.raises(ValueError, match="kept: got"):
            PackedBatch(**{**fields, "kept": (wrong, *batch.kept[1:])})


def test_a_long_sample_that_is_always_thinned_enough_is_not_left_out() -> None:
    longest = max(loader().num_tokens)
    assert loader(max_tokens=longest - 1).left_out
    half = TokenDrop(law="constant", rate=0.5)
    assert not loader(max_tokens=longest - 1, drop=half).left_out
    assert PackerConfig(max_tokens=longest - 1).most < longest
