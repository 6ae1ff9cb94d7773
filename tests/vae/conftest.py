"""A small autoencoder with random weights: untrained blocks are identities, which hides faults."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from openreel.vae.config import AutoencoderConfig, with_head
from openreel.vae.heads import FSQ, LFQ, Continuous
from openreel.vae.model import Autoencoder


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Micro-steps of tiny videos: a second thread costs more than it brings."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def config() -> AutoencoderConfig:
    return AutoencoderConfig(
        head=Continuous(channels=5),
        patch=2,
        widths=(8, 12, 16),
        blocks=(1, 1, 1),
        folds=((1, 2), (4, 2)),
        step=1,
    )


def randomised(config: AutoencoderConfig) -> Autoencoder:
    """Random weights throughout, statistics too."""
    made = Autoencoder(config).requires_grad_(False).eval()
    random = torch.Generator().manual_seed(0)
    for parameter in made.parameters():
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 4
        parameter += torch.randn(parameter.shape, generator=random) / fan_in**0.5
    made.latent_mean.normal_(generator=random)
    made.latent_std.uniform_(0.5, 2, generator=random)
    return made


@pytest.fixture(scope="session")
def model(config: AutoencoderConfig) -> Autoencoder:
    """With a continuous head."""
    return randomised(config)


@pytest.fixture(scope="session", params=[FSQ(levels=(8, 8, 5, 3)), LFQ(bits=7)], ids=["fsq", "lfq"])
def discrete(config: AutoencoderConfig, request: pytest.FixtureRequest) -> Autoencoder:
    """The same body with each of the discrete heads."""
    return randomised(with_head(config, request.param))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
