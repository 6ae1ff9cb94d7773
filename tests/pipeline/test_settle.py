"""The second look changes verdicts once, names what stays, and keeps every score."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from openreel.pipeline import table
from openreel.pipeline.clip import Clip, digest
from openreel.pipeline.duplicates import DuplicateConfig
from openreel.pipeline.embedding import Embedding
from openreel.pipeline.judge import FilterConfig
from openreel.pipeline.settle import STAGE, settle

CONFIG, FILTERS = DuplicateConfig(), FilterConfig()


def clip(name: str, phashes: tuple[int, ...], **fields: object) -> Clip:
    known: dict[str, object] = {
        "clip_id": digest(name),
        "video_id": name,
        "uri": f"/{name}.mp4",
        "kind": "video",
        "start_frame": 0,
        "num_frames": 100,
        "start_pts": 0,
        "end_pts": 100,
        "time_base": "1/25",
        "fps": 25.0,
        "width": 640,
        "height": 360,
        "phashes": phashes,
        "stage": "clips",
        "sharpness": 0.5,
    }
    return Clip(**{**known, **fields})  # type: ignore[arg-type]


def hashes(seed: int) -> tuple[int, ...]:
    return tuple(int(h) for h in np.random.default_rng(seed).integers(1, 1 << 62, 8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two of the same in two sizes, one of another video, and one that was rejected before."""
    place = tmp_path / "clips"
    table.create(place, stage="clips", key="clip_id", fingerprint={})
    rows = [
        clip("small", hashes(0)),
        clip("large", hashes(0), width=1280, height=720),
        clip("other", hashes(1)),
        clip("dark", hashes(0), status="rejected", reason="too dark", width=9999),
    ]
    table.append(place, rows)
    return place


def rows(folder: Path) -> dict[str, Clip]:
    return {row.video_id: row for row in table.read(folder, Clip)}


def test_of_duplicates_the_larger_stays_and_is_named(folder: Path) -> None:
    before = rows(folder)
    settle(folder, None, CONFIG, FILTERS)
    after = rows(folder)
    small = after["small"]
    assert (small.status, small.stage, small.attempt) == ("rejected", STAGE, 2)
    assert small.duplicate_of == after["large"].clip_id
    assert small.reason == f"duplicate of {after['large'].clip_id} (distance 0)"
    verdict = ("status", "stage", "reason", "attempt", "version", "duplicate_of")
    assert replace(small, **{f: getattr(before["small"], f) for f in verdict}) == before["small"]
    assert {name: after[name] for name in ("large", "other", "dark")} == {
        name: before[name] for name in ("large", "other", "dark")
    }


def test_the_same_again_writes_nothing_and_new_clips_are_compared(folder: Path) -> None:
    settle(folder, None, CONFIG, FILTERS)
    parts = {path: path.stat().st_mtime_ns for path in folder.glob("[!_]*")}
    settle(folder, None, CONFIG, FILTERS)
    assert {path: path.stat().st_mtime_ns for path in folder.glob("[!_]*")} == parts
    table.append(folder, [clip("late", hashes(1), height=300)])
    settle(folder, None, CONFIG, FILTERS)
    assert rows(folder)["late"].duplicate_of == rows(folder)["other"].clip_id
    assert rows(folder)["small"].attempt == 2


def test_it_may_be_switched_off(folder: Path) -> None:
    settle(folder, None, DuplicateConfig(perceptual=False), FILTERS)
    assert {row.attempt for row in rows(folder).values()} == {1}


def test_scores_of_a_model_are_kept_and_judged(folder: Path, tmp_path: Path) -> None:
    seen = tmp_path / "embeddings"
    table.create(seen, stage="embedding", key="clip_id", fingerprint={})
    vectors = {"small": (1.0, 0.0), "large": (0.0, 1.0), "other": (0.6, 0.8)}
    aesthetic = {"small": 5.0, "large": 3.0, "other": 6.0}
    table.append(
        seen,
        [
            Embedding(clip_id=digest(name), vector=vector, aesthetic=aesthetic[name])
            for name, vector in vectors.items()
        ],
    )
    settle(folder, seen, DuplicateConfig(perceptual=False), FilterConfig(min_aesthetic=4.0))
    after = rows(folder)
    assert {name: after[name].aesthetic for name in aesthetic} == aesthetic
    assert {name: after[name].status for name in aesthetic} == {
        "small": "ok",
        "large": "rejected",
        "other": "ok",
    }
    assert "aesthetic" in after["large"].reason
    assert after["dark"].aesthetic is None


def test_look_alikes_are_found_by_their_embeddings(folder: Path, tmp_path: Path) -> None:
    seen = tmp_path / "embeddings"
    table.create(seen, stage="embedding", key="clip_id", fingerprint={})
    vectors = {"small": (1.0, 0.0), "large": (0.0, 1.0), "other": (0.995, 0.0998749)}
    table.append(seen, [Embedding(clip_id=digest(name), vector=v) for name, v in vectors.items()])
    config = DuplicateConfig(perceptual=False, semantic_threshold=0.99)
    settle(folder, seen, config, FILTERS)
    after = rows(folder)
    gone = [name for name in vectors if after[name].status == "rejected"]
    assert len(gone) == 1
    assert gone[0] in ("small", "other")
    (stays,) = {"small", "other"} - set(gone)
    assert after[gone[0]].reason.startswith(f"looks like {after[stays].clip_id}")
