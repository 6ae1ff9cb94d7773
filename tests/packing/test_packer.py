"""The packer fills, never overfills, loses nothing, starves nobody."""

from typing import Any

import numpy as np
import pytest

from openreel.packing.packer import Item, Packer, PackerConfig, pack_all
from openreel.pipeline.errors import InputError


def mixture(count: int, seed: int = 0) -> list[Item]:
    """Image and clip lengths of a 256-720 px mixture."""
    rng = np.random.default_rng(seed)
    frames = np.where(rng.random(count) < 0.3, 1, rng.integers(9, 130, count))
    area = rng.choice([256, 384, 480, 720], count) ** 2
    tokens = ((frames + 6) // 4) * (area // 256)
    return [Item(sample_id=str(i), num_tokens=int(n)) for i, n in enumerate(tokens) if n <= 32768]


def test_every_sample_is_packed_once_and_no_pack_overflows() -> None:
    items = mixture(3000)
    packs = list(pack_all(items, PackerConfig(max_tokens=32768, look_ahead=64)))
    packed = [item.sample_id for pack in packs for item in pack]
    assert sorted(packed) == sorted(i.sample_id for i in items)
    assert max(sum(i.num_tokens for i in pack) for pack in packs) <= 32768
    assert max(len(pack) for pack in packs) > 3, "the mixture must make packs of several samples"


@pytest.mark.parametrize(("look_ahead", "fill"), [(64, 0.997), (256, 0.999)])
def test_look_ahead_fills_where_next_fit_does_not(look_ahead: int, fill: float) -> None:
    items = mixture(8000)
    packs = list(pack_all(items, PackerConfig(max_tokens=32768, look_ahead=look_ahead)))
    full = packs[: -look_ahead // 4]
    fills = [sum(i.num_tokens for i in pack) / 32768 for pack in full]
    assert np.mean(fills) >= fill
    next_fit, room = 1, 32768
    for item in items:
        if item.num_tokens > room:
            next_fit, room = next_fit + 1, 32768
        room -= item.num_tokens
    assert len(packs) < 0.9 * next_fit


def test_the_oldest_sample_leaves_with_the_next_pack() -> None:
    config = PackerConfig(max_tokens=100, look_ahead=4)
    packer = Packer(config)
    awkward = Item(sample_id="awkward", num_tokens=99)
    packer.waiting = [awkward, *(Item(sample_id=str(i), num_tokens=50) for i in range(3))]
    assert packer.pop() == [awkward]


def test_a_pair_takes_the_last_place_when_it_fills_better() -> None:
    lengths = [40, 50, 35, 25]  # room for 60: 50 alone wastes 10, 35 + 25 nothing
    packer = Packer(PackerConfig(max_tokens=100))
    packer.waiting = [Item(sample_id=str(i), num_tokens=n) for i, n in enumerate(lengths)]
    assert sorted(i.num_tokens for i in packer.pop()) == [25, 35, 40]


def test_packs_of_one_flop_budget_cost_the_same_and_respect_the_token_cap() -> None:
    config = PackerConfig(
        max_tokens=80_000, look_ahead=256, attention_cost=2 / (12 * 512), max_cost=32768 * 12.0
    )
    packs = list(pack_all(mixture(20_000), config))[:-100]
    costs = np.array([sum(config.cost(i.num_tokens) for i in pack) for pack in packs])
    tokens = np.array([sum(i.num_tokens for i in pack) for pack in packs])
    capped = tokens > 75_000
    assert tokens.max() <= 80_000
    assert costs[~capped].mean() / costs.max() > 0.995
    assert tokens[~capped].max() / tokens[~capped].min() > 1.2, "equal costs, unequal tokens"


def test_a_sample_longer_than_a_pack_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"num_tokens: got 11; accepted: at most 10 tokens"):
        list(pack_all([Item(sample_id="a", num_tokens=11)], PackerConfig(max_tokens=10)))


def test_with_a_flop_budget_a_sample_dearer_than_a_pack_has_one_to_itself() -> None:
    config = PackerConfig(max_tokens=100, attention_cost=0.01, max_cost=120.0, longest=200)
    lengths = [90, 30, 150, 20, 100, 40, 10]
    assert [config.cost(n) > 120 for n in lengths] == [True, False, True, False, True, False, False]
    items = [Item(sample_id=str(i), num_tokens=n) for i, n in enumerate(lengths)]
    packs = [[i.num_tokens for i in pack] for pack in pack_all(items, config)]
    assert [90] in packs
    assert [150] in packs
    assert [100] in packs
    assert sorted(n for pack in packs for n in pack) == sorted(lengths)
    with pytest.raises(InputError, match=r"num_tokens: got 201; accepted: at most 200"):
        list(pack_all([Item(sample_id="a", num_tokens=201)], config))


def test_three_samples_close_a_pack_that_no_two_can() -> None:
    packer = Packer(PackerConfig(max_tokens=100))
    lengths = [40, 31, 17, 12, 44]  # room for 60: 31 + 17 + 12; the best pair leaves 3 empty
    packer.waiting = [Item(sample_id=str(i), num_tokens=n) for i, n in enumerate(lengths)]
    assert sorted(i.num_tokens for i in packer.pop()) == [12, 17, 31, 40]


def test_packs_of_a_micro_step_cost_the_same_on_every_rank() -> None:
    config = PackerConfig(max_tokens=65_536, attention_cost=2 / (12 * 1536), max_cost=149_300.0)
    packs = list(pack_all(mixture(12_000), config))[:-128]
    costs = np.array([sum(config.cost(i.num_tokens) for i in pack) for pack in packs])
    for ranks in (8, 64):
        steps = costs[: len(costs) // ranks * ranks].reshape(-1, ranks)
        assert len(steps) > 20
        assert steps.sum() / (steps.max(1).sum() * ranks) > 0.999


@pytest.mark.parametrize(
    "fields", [{"attention_cost": -1.0}, {"max_cost": 0.0}, {"longest": 9}, {"look_ahead": 0}]
)
def test_a_pack_that_cannot_be_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(fields))}: got"):
        PackerConfig(max_tokens=10, **fields)


def test_a_restored_packer_goes_on_exactly() -> None:
    config = PackerConfig(max_tokens=32768, look_ahead=64)
    items = mixture(600)
    packer = Packer(config, waiting=list(items[:400]))
    for _ in range(10):
        packer.pop()
    twin = Packer(config, waiting=list(packer.waiting))
    assert [packer.pop() for _ in range(10)] == [twin.pop() for _ in range(10)]
