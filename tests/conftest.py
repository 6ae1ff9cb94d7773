"""Fixtures that several folders share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def media() -> Path:
    """The folder of real test media: MANIFEST.csv, video/, image/."""
    folder = Path(os.environ.get("OPENREEL_TEST_MEDIA", REPOSITORY.parent / "shared" / "media"))
    if not (folder / "MANIFEST.csv").is_file():
        pytest.skip(f"no test media in {folder}; set OPENREEL_TEST_MEDIA")
    return folder


@pytest.fixture(scope="session")
def ray_local() -> Iterator[None]:
    """Ray on two processors of this machine, started once."""
    import ray

    from openreel.pipeline.cluster import start_ray

    start_ray(num_cpus=2)
    yield
    ray.shutdown()
