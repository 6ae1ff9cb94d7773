"""Codebooks: indices, digits and sub-tokens are one another's exact inverses."""

import numpy as np
import pytest

from openreel.pipeline.errors import InputError
from openreel.vae.config import base, coarse, from_stored, small, tiny, with_head
from openreel.vae.heads import FSQ, LFQ, Codebook, Continuous

BOOKS = [FSQ(), LFQ(), FSQ(levels=(3, 4, 11)), LFQ(bits=1), FSQ(levels=(1024,) * 6), LFQ(bits=61)]


def some_indices(book: Codebook) -> np.ndarray:
    """All of a small book, or a hundred thousand and the ends of a large one."""
    if book.size <= 2**18:
        return np.arange(book.size)
    drawn = np.random.default_rng(0).integers(0, book.size, 100_000)
    return np.concatenate([drawn, [0, book.size - 1]])


@pytest.mark.parametrize("book", BOOKS, ids=str)
def test_indices_and_digits_are_a_bijection(book: Codebook) -> None:
    index = some_indices(book)
    digits = book.digits(index)
    assert digits.shape == (len(index), book.channels)
    assert (digits.min(0) == 0).all()
    assert (digits.max(0) == np.array(book.radices) - 1).all()
    np.testing.assert_array_equal(book.index(digits), index)


def test_the_default_books_are_the_published_ones() -> None:
    assert FSQ().size == 64_000
    assert LFQ().size == 2**18


def test_an_index_is_a_number_of_mixed_radix() -> None:
    """By numpy's own conversion, whose last axis is the lowest place."""
    book = FSQ(levels=(8, 5, 3))
    digits = book.digits(np.arange(book.size))
    expected = np.ravel_multi_index(tuple(digits.T[::-1]), (3, 5, 8))
    np.testing.assert_array_equal(expected, np.arange(book.size))
    bits = LFQ(bits=9).digits(np.arange(512))
    assert [int("".join(map(str, row[::-1])), 2) for row in bits] == list(range(512))


@pytest.mark.parametrize("book", BOOKS, ids=str)
def test_subtokens_name_the_same_code(book: Codebook) -> None:
    index = some_indices(book)
    for k in {1, 2, 3, book.channels} & set(range(1, book.channels + 1)):
        sizes = book.vocabularies(k)
        assert len(sizes) == k
        subtokens = book.subtokens(index, k)
        assert subtokens.min() == 0
        assert (subtokens < np.array(sizes)).all()
        np.testing.assert_array_equal(book.from_subtokens(subtokens), index)
    np.testing.assert_array_equal(book.subtokens(index, book.channels), book.digits(index))


def test_subtokens_are_groups_of_channels() -> None:
    assert LFQ().vocabularies(2) == (512, 512)
    assert FSQ().vocabularies(2) == (512, 125)
    assert FSQ().vocabularies(4) == (64, 40, 5, 5)
    index = np.arange(2**18)
    np.testing.assert_array_equal(LFQ().subtokens(index, 2), np.stack([index % 512, index >> 9], 1))


def test_shapes_are_kept() -> None:
    index = np.arange(24).reshape(2, 3, 4)
    assert FSQ().digits(index).shape == (2, 3, 4, 6)
    assert FSQ().subtokens(index, 2).shape == (2, 3, 4, 2)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: FSQ(levels=(8, 2)), r"levels: got \(8, 2\); accepted: 3 or more"),
        (lambda: FSQ(levels=()), "levels: got"),
        (lambda: FSQ(levels=(2048,) * 6), "levels: got .* a book below"),
        (lambda: LFQ(bits=62), "bits: got 62; accepted: 1 to 61"),
        (lambda: Continuous(channels=0), "channels: got 0"),
        (lambda: LFQ(bits=3).digits(np.array([8])), "indices: got '8 to 8'; accepted: 0 to 7"),
        (lambda: LFQ(bits=3).digits(np.array([-1])), "indices: got"),
        (lambda: FSQ().index(np.full(6, 5)), r"digits: got \(6,\)"),
        (lambda: FSQ().index(np.zeros(5, int)), r"digits: got \(5,\)"),
        (lambda: FSQ().subtokens(np.array([1]), 7), "k: got 7; accepted: 1 to 6"),
    ],
)
def test_what_does_not_fit_is_said(wrong: object, message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        wrong()  # type: ignore[operator]


@pytest.mark.parametrize("head", [Continuous(channels=7), FSQ(levels=(7, 5)), LFQ(bits=9)], ids=str)
def test_a_config_outlives_storage(head: Continuous | FSQ | LFQ) -> None:
    import json

    for preset in (tiny(), small(), base(), coarse()):
        config = with_head(preset, head)
        assert config.channels == head.channels
        assert from_stored(json.loads(json.dumps(config.stored()))) == config


def test_a_config_stored_before_there_were_heads_is_read() -> None:
    stored = {
        "channels": 16,
        "patch": 8,
        "widths": [96, 96],
        "blocks": [1, 2],
        "folds": [[4, 1]],
        "step": 2,
    }
    assert from_stored(stored) == tiny()
    assert {k: list(map(list, v)) if k == "folds" else list(v) if isinstance(v, tuple) else v
            for k, v in tiny().stored().items()} == stored  # fmt: skip
    with pytest.raises(TypeError, match="neither channels, levels nor bits"):
        from_stored({k: v for k, v in stored.items() if k != "channels"})
