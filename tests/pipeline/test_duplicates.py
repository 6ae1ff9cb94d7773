"""Duplicates: what is the same is found, what is not is not, whatever the order and the memory."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from openreel.pipeline.bands import Bands
from openreel.pipeline.duplicates import (
    Duplicate,
    DuplicateConfig,
    Item,
    Search,
    find_duplicates,
)
from openreel.pipeline.errors import InputError
from openreel.pipeline.signature import distance
from tests.benchmarks.bench_duplicates import copied, film, flips


def video(clip_id: str, hashes: Sequence[int], rank: int = 0, **more: object) -> Item:
    return Item(clip_id=clip_id, kind="video", phashes=tuple(hashes), rank=(rank,), **more)  # type: ignore[arg-type]


def found(items: Sequence[Item], scratch: Path, **config: object) -> dict[str, Duplicate]:
    return find_duplicates(items, scratch, DuplicateConfig(**config))  # type: ignore[arg-type]


# ---- the search -------------------------------------------------------------------------------


def films(count: int, seed: int) -> list[Item]:
    """Films, and for each third a chain of copies of copies, in ranks that have nothing to do."""
    rng = np.random.default_rng(seed)
    items = []
    for i in range(count):
        hashes = film(rng, int(rng.integers(4, 16)))
        for copy in range(1 + (i % 3 == 0) * int(rng.integers(1, 5))):
            items.append(video(f"{i}-{copy}", hashes.tolist(), int(rng.integers(50))))
            hashes = (
                copied(rng, hashes) if len(hashes) > 4 else hashes ^ flips(rng, len(hashes), 3.0)
            )
    return items


def by_all_pairs(items: Sequence[Item], config: DuplicateConfig) -> dict[str, Duplicate]:
    """What find_duplicates is to find, by comparing every clip with every one that is kept."""
    kept: list[Item] = []
    duplicates = {}
    for item in sorted(items, key=lambda i: (i.rank, i.clip_id)):
        for other in kept:
            mine, its = (np.array(i.phashes, np.uint64) for i in (item, other))
            bits = distance(mine, its, min_overlap=config.min_overlap)
            if bits <= config.max_distance:
                duplicates[item.clip_id] = Duplicate(kept=other.clip_id, distance=bits)
                break
        else:
            kept.append(item)
    return duplicates


@pytest.mark.slow
def test_it_finds_what_comparing_all_pairs_finds(tmp_path: Path) -> None:
    total = other = 0
    for seed in range(3):
        items = {item.clip_id: item for item in films(200, seed)}
        oracle = by_all_pairs(list(items.values()), DuplicateConfig())
        duplicates = found(list(items.values()), tmp_path)
        for clip_id, one in duplicates.items():
            mine, its = (np.array(items[i].phashes, np.uint64) for i in (clip_id, one.kept))
            assert distance(mine, its, min_overlap=0.8) == one.distance <= 8.0
            assert one.kept not in duplicates
            assert items[one.kept].rank <= items[clip_id].rank
        total += len(oracle)
        other += sum(duplicates.get(i) != oracle.get(i) for i in duplicates.keys() | oracle.keys())
    assert total > 300
    assert other <= 0.02 * total


def test_neither_order_nor_partitions_matter(tmp_path: Path) -> None:
    items = films(150, seed=5)
    searches: list[Search] = []
    first = find_duplicates(items, tmp_path, DuplicateConfig(), searches.append)
    assert len(first) > 50
    assert len(items) > 200, "more than are merged at once"
    for rows in (3, 100, 10_000):
        shuffled = [items[i] for i in np.random.default_rng(rows).permutation(len(items))]
        config = DuplicateConfig(partition_rows=rows)
        assert find_duplicates(shuffled, tmp_path, config, searches.append) == first
    assert len({(s.clips, s.compared, s.verified) for s in searches}) == 1
    assert not list(tmp_path.iterdir())


def test_crowded_buckets_are_told_and_their_best_clips_are_compared_anyhow(tmp_path: Path) -> None:
    hashes = np.random.default_rng(0).integers(1, 1 << 63, 6, dtype=np.uint64)
    items = [video(f"{i:03}", hashes.tolist(), rank=i) for i in range(40)]
    searches: list[Search] = []
    for rows in (11, 1 << 19):
        config = DuplicateConfig(max_bucket=4, partition_rows=rows)
        with pytest.warns(UserWarning, match="raise max_bucket"):
            duplicates = find_duplicates(items, tmp_path, config, searches.append)
        assert {d.kept for d in duplicates.values()} == {"000"}
        assert len(duplicates) == 39
    assert searches[0] == searches[1]
    # For each of 15 keys 6 buckets of 40 rows: row i is compared with the first 4 before it.
    assert searches[0].compared == 15 * 6 * sum(min(i, 4) for i in range(40))
    assert searches[0].crowded == 15 * 6 * 35
    assert searches[0].verified == 39


def test_a_copy_of_a_copy_is_held_against_the_clip_that_stays(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    a = np.repeat(film(rng, 1), 8)  # a still, so that distances are plain numbers of bits
    six = np.uint64(0b111111)
    b, c = a ^ six, a ^ six ^ (six << np.uint64(9))
    chain = {"a": a, "b": b, "c": c}
    assert distance(b, a, min_overlap=1) == distance(c, b, min_overlap=1) == 6
    assert distance(c, a, min_overlap=1) == 12
    for ranks, expected in (
        ("abc", {"b": "a"}),
        ("bac", {"a": "b", "c": "b"}),
        ("cba", {"b": "c"}),
    ):
        items = [video(name, chain[name].tolist(), ranks.index(name)) for name in chain]
        assert {k: v.kept for k, v in found(items, tmp_path).items()} == expected


def test_an_excerpt_goes_and_a_whole_stays(tmp_path: Path) -> None:
    whole = film(np.random.default_rng(2), 40).tolist()
    for rank, expected in ((1, {"excerpt": "whole"}), (-1, {})):
        items = [video("whole", whole), video("excerpt", whole[11:17], rank)]
        assert {k: v.kept for k, v in found(items, tmp_path).items()} == expected


def test_what_must_be_found_of_a_clip(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    a, other = film(rng, 10), film(rng, 10)
    for shared, expected in ((10, True), (8, True), (7, False)):
        mixed = [*a[:shared].tolist(), *other[shared:].tolist()]
        items = [video("a", a.tolist()), video("mixed", mixed, 1)]
        assert ("mixed" in found(items, tmp_path)) == expected


def test_plain_short_and_neighbouring_clips_are_no_copies(tmp_path: Path) -> None:
    hashes = film(np.random.default_rng(4), 8).tolist()
    plain = [video(f"{i}", [0] * 8, i) for i in range(3)]
    assert not found(plain, tmp_path)
    fading = [hashes[0], *[0] * 7]
    assert not found([video("a", hashes), video("b", fading, 1)], tmp_path), "one sample alone"
    assert found([video("a", hashes), video("b", hashes[:2], 1)], tmp_path)
    for source, expected in (("s", 0), ("t", 1), ("", 1)):
        items = [video("a", hashes, source="s"), video("b", hashes, 1, source=source)]
        assert len(found(items, tmp_path)) == expected
    between = [
        video("a", hashes, source="s"),
        video("b", hashes, 1, source="t"),
        video("c", hashes, 2, source="s"),
    ]
    assert set(found(between, tmp_path)) == {"b"}
    assert not found([], tmp_path)


@pytest.mark.parametrize(("count", "keys"), [(5, 10), (6, 15)])
def test_few_bits_apart_always_share_a_key(count: int, keys: int) -> None:
    bands = Bands(count=count, per_key=2)
    masks = bands.masks()
    assert len(masks) == keys
    rng = np.random.default_rng(0)
    shared = []
    for bits in range(1, 8):
        hashes = rng.integers(1, 1 << 63, 400, dtype=np.uint64)
        errors = np.zeros(400, np.uint64)
        for i in range(400):
            for bit in rng.choice(63, bits, replace=False):
                errors[i] |= np.uint64(1) << np.uint64(bit)
        shared.append(np.any([(hashes ^ errors) & m == hashes & m for m in masks], axis=0).mean())
    assert bands.certain == count - 2
    assert shared[: bands.certain] == [1.0] * bands.certain
    assert 0.1 < shared[6] < shared[bands.certain] < 1


# ---- embeddings -------------------------------------------------------------------------------


def looks(count: int, seed: int, width: int = 64) -> list[Item]:
    """Embeddings in a narrow cone, as those of natural pictures are, each third with look-alikes
    at cosines on both sides of 0.95."""
    rng = np.random.default_rng(seed)
    cone = rng.standard_normal(width)
    items = []
    for i in range(count):
        vector = rng.standard_normal(width) + 1.2 * cone
        for copy in range(1 + (i % 3 == 0) * 3):
            unit = vector / np.linalg.norm(vector)
            rank = (int(rng.integers(50)),)
            one = Item(
                clip_id=f"{i}-{copy}", kind="video", phashes=(), rank=rank, vector=tuple(unit)
            )
            items.append(one)
            noise = rng.standard_normal(width) / width**0.5
            vector = unit + rng.uniform(0.05, 0.45) * noise
    return items


def test_lookalikes_are_those_that_comparing_all_finds(tmp_path: Path) -> None:
    items = looks(600, seed=0)
    vectors = {i.clip_id: np.array(i.vector, np.float32) for i in items}
    others = np.stack(list(vectors.values())) @ np.stack(list(vectors.values())).T
    assert np.median(others) > 0.4, "a cone"
    kept: list[str] = []
    oracle = {}
    for item in sorted(items, key=lambda i: (i.rank, i.clip_id)):
        near = [k for k in kept if vectors[item.clip_id] @ vectors[k] >= 0.95]
        if near:
            oracle[item.clip_id] = near[0]
        else:
            kept.append(item.clip_id)
    assert len(oracle) > 200
    assert len(kept) > 700
    searches: list[Search] = []
    config = DuplicateConfig(perceptual=False, semantic_threshold=0.95)
    duplicates = find_duplicates(items, tmp_path, config, searches.append)
    assert all(d.semantic and d.distance <= 0.05 for d in duplicates.values())
    missed = sum(duplicates.get(k) is None or duplicates[k].kept != v for k, v in oracle.items())
    assert missed <= 0.03 * len(oracle)
    assert searches[0].verified < 5 * len(items), "that it did not compare all"


def test_two_embeddings_are_enough(tmp_path: Path) -> None:
    for second, expected in (((0.6, 0.8), 1), ((0.61, 0.7924), 1), ((0.8, 0.6), 0)):
        items = [video("a", [], vector=(0.6, 0.8)), video("b", [], 1, vector=second)]
        assert len(found(items, tmp_path, semantic_threshold=0.97)) == expected


def test_frames_and_embeddings_make_one_clustering(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    first, second = film(rng, 6).tolist(), film(rng, 6).tolist()
    one, two = (0.8, 0.6), (0.6, 0.8)
    items = [
        video("a", first, 0, vector=one),
        video("b", first, 1, vector=two),  # a's frames
        video("c", second, 2, vector=two),  # b's look, but b goes
        video("d", second, 3, vector=one),  # a's look and c's frames
        video("e", second, 4),  # c's frames, and no embedding
    ]
    duplicates = found(items, tmp_path, semantic_threshold=0.99)
    assert {k: (v.kept, v.semantic) for k, v in duplicates.items()} == {
        "b": ("a", False),
        "d": ("a", True),
        "e": ("c", False),
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_distance": -1.0},
        {"max_image_distance": 40.0},
        {"min_overlap": 0.0},
        {"semantic_threshold": 1.5},
        {"max_bucket": 0},
    ],
)
def test_a_wrong_setting_is_told(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        DuplicateConfig(**wrong)  # type: ignore[arg-type]


def test_a_wrong_item_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="63 bits"):
        video("a", [1 << 63])
    with pytest.raises(InputError, match="kind"):
        Item(clip_id="a", kind="sound", phashes=(), rank=())
    with pytest.raises(InputError, match="length 1"):
        video("a", [], vector=(1.0, 1.0))
    with pytest.raises(InputError, match="2 numbers"):
        found([video("a", [], vector=(0.0, 1.0)), video("b", [], 1, vector=(1.0,))], tmp_path)
    hashes = film(np.random.default_rng(0), 4).tolist()
    with pytest.raises(InputError, match="an id for each clip"):
        found([video("a", hashes), video("a", hashes, 1)], tmp_path)
