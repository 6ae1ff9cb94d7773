"""A token's place in its sample: the same in any pack, bounded at any size."""

import numpy as np
import torch

from openreel.dit.config import DiTConfig
from openreel.dit.model import DiT
from openreel.dit.places import WIDTH, places
from openreel.packing.batch import Sample, collate
from openreel.packing.patches import patchify, positions, valid_values


def of_grid(grid: tuple[int, int, int]) -> torch.Tensor:
    places_L3 = torch.from_numpy(positions(grid))
    return places(places_L3, torch.tensor([grid]), torch.zeros(len(places_L3), dtype=torch.long))


def test_ends_are_alike_at_any_size_and_the_middle_is_the_middle() -> None:
    for grid in ((1, 1, 1), (3, 5, 7), (2, 101, 3)):
        found = of_grid(grid)
        assert found.shape == (np.prod(grid), WIDTH)
        assert found.abs().max() <= 1
        assert len(torch.unique(found, dim=0)) == len(found)  # every token has a place of its own
    middle = of_grid((3, 5, 7))[(1 * 5 + 2) * 7 + 3]
    assert torch.equal(middle, of_grid((1, 1, 1))[0])
    halves, thirds = of_grid((1, 1, 2))[0], of_grid((1, 1, 6))[1]
    torch.testing.assert_close(halves, thirds)  # both centres lie a quarter of the way along


def test_the_model_sees_places_and_packing_moves_them_not() -> None:
    torch.manual_seed(0)
    sizes = {"latent_channels": 4, "text_dim": 8, "dim": 24, "depth": 1, "num_heads": 2}
    dit = DiT(DiTConfig(**sizes, fractional_places=True))
    torch.nn.init.normal_(dit.head.weight)
    rng = np.random.default_rng(0)
    samples = [
        Sample(
            sample_id=str(size),
            tokens=patchify(rng.standard_normal((4, *size), np.float32), (1, 2, 2)),
            valid=valid_values(size, (1, 2, 2), 4),
            positions=positions(grid),
            grid=grid,
            text=rng.standard_normal((3, 8), np.float32),
            fps=8.0,
        )
        for size, grid in (((2, 4, 6), (2, 2, 3)), ((1, 6, 4), (1, 3, 2)))
    ]

    def run(packed: list[Sample]) -> torch.Tensor:
        batch = collate(packed).map(torch.as_tensor)
        levels = torch.full((len(packed),), 0.5)
        return dit(batch.tokens, levels, batch.text, dit.layout(batch))

    together = run(samples)
    torch.testing.assert_close(together, torch.cat([run([s]) for s in samples]))
    assert dit.embed_place is not None
    torch.nn.init.zeros_(dit.embed_place.weight)
    assert not torch.allclose(together, run(samples))
