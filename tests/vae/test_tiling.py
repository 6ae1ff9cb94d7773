"""Tiles are exact because the halo is what the layers reach: no less, and hardly more."""

import dataclasses

import numpy as np
import pytest

from openreel.pipeline.errors import InputError
from openreel.vae.blocks import Past
from openreel.vae.config import base
from openreel.vae.model import Autoencoder
from openreel.vae.tiling import cell_bytes, plan, spans, tiles


@pytest.mark.parametrize("size", [1, 2, 7, 12])
@pytest.mark.parametrize("side", [1, 3, 12, 50])
def test_tiles_keep_every_cell_once(size: int, side: int) -> None:
    kept = np.zeros((size, 9), int)
    for rows, columns in tiles(size, 9, side, halo=2):
        kept[rows.own(), columns.own()] += 1
        outer = np.arange(size)[rows.outer()]
        np.testing.assert_array_equal(outer[rows.crop()], np.arange(size)[rows.own()])
    assert (kept == 1).all()


def test_a_halo_ends_at_the_border() -> None:
    assert [(s.outer_start, s.outer_stop) for s in spans(10, 4, 3)] == [(0, 7), (1, 10), (5, 10)]


@pytest.mark.parametrize(("height", "width"), [(131, 77), (96, 200)])
@pytest.mark.parametrize("tile", [3, 5])
def test_tiled_is_whole(
    model: Autoencoder, rng: np.random.Generator, height: int, width: int, tile: int
) -> None:
    assert tile < -(-min(height, width) // 8)
    frames = rng.integers(0, 256, (4, height, width, 3), dtype=np.uint8)
    video = model.encode_video(frames, fps=8)
    tiled = model.encode_video(frames, fps=8, tile=tile)
    np.testing.assert_array_equal(tiled.latents, video.latents)
    whole = model.decode_video(video)
    np.testing.assert_array_equal(model.decode_video(video, tile=tile), whole)


@pytest.mark.parametrize("step", [2, 4, 5])
def test_tiled_is_whole_in_long_micro_steps(
    model: Autoencoder, rng: np.random.Generator, step: int
) -> None:
    """From 16 frames at once a CPU takes other convolutions, unless it is told not to."""
    stepped = Autoencoder(dataclasses.replace(model.config, step=step))
    stepped.load_state_dict(model.state_dict())
    frames = rng.integers(0, 256, (1 + 4 * step, 61, 131, 3), dtype=np.uint8)
    video = stepped.encode_video(frames, fps=8)
    tiled = stepped.encode_video(frames, fps=8, tile=5)
    np.testing.assert_array_equal(tiled.latents, video.latents)
    np.testing.assert_array_equal(stepped.decode_video(video, tile=5), stepped.decode_video(video))


def test_the_reach_is_tight(model: Autoencoder, rng: np.random.Generator) -> None:
    """A pixel at the reach moves a latent, one beyond it does not."""
    frames = rng.integers(0, 256, (1, 8, 160, 3), dtype=np.uint8)
    before = model.encode_video(frames, fps=0).latents
    cell, reach = 10, model.encoder.reach
    moved = []
    for distance in (reach - model.config.patch + 1, reach + 1):
        changed = frames.copy()
        changed[:, :, (cell + 1) * 8 - 1 + distance] ^= 255
        moved.append((model.encode_video(changed, fps=0).latents != before)[..., cell].any())
    assert moved == [True, False]


def test_a_smaller_halo_would_be_seen(
    model: Autoencoder, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = rng.integers(0, 256, (5, 8, 160, 3), dtype=np.uint8)
    whole = model.encode_video(frames, fps=8).latents
    assert model.halo > 1
    monkeypatch.setattr(Autoencoder, "halo", 1)
    assert (model.encode_video(frames, fps=8, tile=3).latents != whole).any()


def _num_bytes(past: Past) -> int:
    if past is None:
        return 0
    if isinstance(past, tuple):
        return sum(map(_num_bytes, past))
    return past.numel() * past.element_size()


def test_the_cache_is_as_large_as_said(model: Autoencoder, rng: np.random.Generator) -> None:
    frames = model._whole_cells(rng.integers(0, 256, (1, 24, 40, 3), dtype=np.uint8))
    latents, past = model.encode_step(frames, None)
    cache, _ = cell_bytes(model.config)
    assert _num_bytes(past) == 3 * 5 * cache
    _, past = model.decode_step(latents, None)
    assert _num_bytes(past) == 3 * 5 * cache


def test_a_smaller_budget_takes_more_tiles() -> None:
    plans = [
        plan(base(), halo=9, height=1080, width=1920, budget_bytes=gib * 2**30)
        for gib in (1000, 8, 2)
    ]
    assert plans[0].num_tiles == 1
    assert plans[0].overhead == 0
    assert plans[0].num_tiles < plans[1].num_tiles < plans[2].num_tiles
    for made, gib in zip(plans, (1000, 8, 2), strict=True):
        assert made.cache_bytes + made.working_bytes <= gib * 2**30


@pytest.mark.parametrize("mib", [20, 60, 300, 3000])
def test_the_largest_tile_that_fits_is_taken(model: Autoencoder, mib: int) -> None:
    """Against trying every side; a person's 8K picture is planned at once."""
    config, halo = model.config, model.halo
    cell, fitting = sum(cell_bytes(config)), []
    for side in range(1, 541):
        widths = [
            max(s.outer_stop - s.outer_start for s in spans(n, side, halo)) for n in (270, 540)
        ]
        if widths[0] * widths[1] * cell <= mib * 2**20:
            fitting.append(side)
    made = plan(config, halo=halo, height=2160, width=4320, budget_bytes=mib * 2**20)
    assert made.side <= fitting[-1]
    assert -(-540 // made.side) == -(-540 // fitting[-1])
    assert made.num_bytes <= mib * 2**20
    assert made.num_tiles == len(list(tiles(270, 540, made.side, halo)))


def test_a_budget_below_one_tile_is_refused() -> None:
    with pytest.raises(InputError, match=r"budget_bytes: got 1000; accepted: [0-9]+ or more"):
        plan(base(), halo=9, height=1080, width=1920, budget_bytes=1000)
