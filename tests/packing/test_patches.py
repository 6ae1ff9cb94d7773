"""Patchify loses nothing at any size."""

from itertools import product

import numpy as np
import pytest

from openreel.packing.patches import patch_grid, patchify, positions, unpatchify, valid_values

SIZES = list(product((1, 2, 5), (1, 4, 7), (1, 3, 8)))


@pytest.mark.parametrize("patch", [(1, 1, 1), (1, 2, 2), (2, 3, 2)], ids=str)
def test_unpatchify_inverts_patchify_at_every_size(patch: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    padded = 0
    for size in SIZES:
        latents = rng.standard_normal((4, *size)).astype(np.float32)
        tokens = patchify(latents, patch)
        assert len(tokens) == np.prod(patch_grid(size, patch))
        assert np.array_equal(unpatchify(tokens, size, patch), latents)
        valid = valid_values(size, patch, channels=4)
        assert valid.shape == tokens.shape
        assert valid.sum() == latents.size
        assert not tokens[~valid].any()
        padded += not valid.all()
    assert padded or patch == (1, 1, 1), "some sizes must not divide"


def test_positions_count_each_sample_from_its_own_origin() -> None:
    assert positions((2, 1, 2)).tolist() == [[0, 0, 0], [0, 0, 1], [1, 0, 0], [1, 0, 1]]
