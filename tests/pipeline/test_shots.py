"""Shots tile the video, cuts are found where they are, and movement is not one."""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from openreel.pipeline.errors import InputError, MediaError
from openreel.pipeline.media import Frames, Span, stream_frames, write_video
from openreel.pipeline.probe import probe
from openreel.pipeline.shots import ShotConfig, find_shots, scan_frames, shrunk


def scene(seed: int, num_frames: int, size: tuple[int, int]) -> Frames:
    """A striped grey background, panning, with a coloured disc that moves across it."""
    rng = np.random.default_rng(seed)
    width, height = size
    y, x = np.mgrid[:height, :width]
    base, stripe, pan = 40 + 45 * (seed % 4), rng.uniform(0.1, 0.4), rng.uniform(-1, 1)
    colour = np.eye(3)[seed % 3] * 200 + 30
    frames = np.empty((num_frames, height, width, 3))
    for t in range(num_frames):
        grey = base + 15 * np.sin(stripe * (x + pan * t) + 0.7 * seed)
        frames[t] = grey[..., None]
        centre = width * (0.2 + 0.6 * t / num_frames)
        frames[t][(x - centre) ** 2 + (y - height / 2) ** 2 < (min(size) / 4) ** 2] = colour
    return np.clip(frames, 0, 255).astype(np.uint8)


def film(seed: int, size: tuple[int, int]) -> tuple[Frames, list[int]]:
    lengths = np.random.default_rng(seed).integers(8, 18, 6)
    shots = [scene(seed * 10 + i, int(n), size) for i, n in enumerate(lengths)]
    return np.concatenate(shots), [int(c) for c in np.cumsum(lengths)[:-1]]


@pytest.mark.parametrize("size", [(54, 96), (72, 72), (110, 48)])
def test_short_shots_of_tiny_videos_are_found(size: tuple[int, int]) -> None:
    for seed in range(5):
        frames, cuts = film(seed, size)
        assert list(scan_frames(frames, ShotConfig()).cuts) == cuts


def test_shots_tile_the_file(tmp_path: Path) -> None:
    frames, cuts = film(1, (72, 72))
    write_video(tmp_path / "v.mp4", frames, fps=12)
    info = probe(tmp_path / "v.mp4")
    shots, scan = find_shots(tmp_path / "v.mp4", info, ShotConfig())
    assert [shot.start_frame for shot in shots] == [0, *cuts]
    assert [shot.end_frame for shot in shots] == [*cuts, len(frames)]
    assert [shot.start_pts for shot in shots] == [info.pts[frame] for frame in (0, *cuts)]
    assert shots[-1].end_pts == info.end_pts
    assert len(scan.luma) == len(scan.change) == len(frames)


def test_what_moves_flickers_or_fades_is_not_a_cut() -> None:
    moving = scene(3, 60, (96, 54))
    assert scan_frames(moving, ShotConfig()).cuts == ()
    fading = (moving * np.linspace(0, 1, 60)[:, None, None, None]).astype(np.uint8)
    assert scan_frames(fading, ShotConfig()).cuts == ()
    noise = np.random.default_rng(0).integers(0, 256, (40, 54, 96, 3), np.uint8)
    assert scan_frames(noise, ShotConfig()).cuts == ()


def test_brightness_and_change_are_measured() -> None:
    frames = np.zeros((3, 8, 8, 3), np.uint8)
    frames[1:] = 255
    scan = scan_frames(frames, ShotConfig())
    assert scan.luma == (0.0, 1.0, 1.0)
    assert scan.change == (0.0, 1.0, 0.0)


def test_shrinking_keeps_the_shape_and_never_enlarges(tmp_path: Path) -> None:
    write_video(tmp_path / "v.mp4", np.zeros((2, 100, 400, 3), np.uint8), fps=8)
    info = probe(tmp_path / "v.mp4")
    assert shrunk(info, 160) == (160, 40)
    assert shrunk(info, 1000) == (400, 100)


def test_the_config_is_validated() -> None:
    with pytest.raises(InputError, match=r"shots.min_frames: got 0"):
        ShotConfig(min_frames=0)


# ---- real files -------------------------------------------------------------------------------


def matched(found: list[int], true: list[int]) -> int:
    """The size of a one-to-one matching within one frame."""
    free, hits = set(true), 0
    for cut in found:
        near = [t for t in free if abs(t - cut) <= 1]
        if near:
            free.remove(min(near, key=lambda t: abs(t - cut)))
            hits += 1
    return hits


def usual(frames: Iterator[Frames]) -> list[int]:
    """PySceneDetect's adaptive detector with its own defaults, as the reference."""
    from scenedetect import AdaptiveDetector, FrameTimecode

    detector, cuts = AdaptiveDetector(min_scene_len=5), []
    for i, frame in enumerate(frames):
        bgr = np.ascontiguousarray(frame[..., ::-1])
        cuts += [c.frame_num for c in detector.process_frame(FrameTimecode(i, 30.0), bgr)]
    return cuts


@pytest.mark.slow
def test_real_cuts_are_found_at_least_as_well_as_by_the_usual_detector(media: Path) -> None:
    counts = {"ours": np.zeros(3, int), "usual": np.zeros(3, int)}  # hits, found, true
    with (media / "MANIFEST.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["file"].startswith("video/")]
    # Those with cuts, and the smaller ones without.
    rows = [row for row in rows if row["cut_frames"] or int(row["width"] or 9999) <= 700]
    for row in rows:
        try:
            info = probe(media / row["file"])
        except MediaError:
            continue
        true = [int(cut) for cut in row["cut_frames"].split(";") if cut]
        path, size = media / row["file"], shrunk(info, 160)
        frames = list(stream_frames(path, Span.whole(info), size=size))
        ours = list(scan_frames(frames, ShotConfig()).cuts)
        for name, found in [("ours", ours), ("usual", usual(iter(frames)))]:
            counts[name] += (matched(found, true), len(found), len(true))
    f1 = {name: 2 * hits / (found + true) for name, (hits, found, true) in counts.items()}
    recall = counts["ours"][0] / counts["ours"][2]
    assert counts["ours"][2] >= 35
    assert recall >= 0.9, counts
    assert f1["ours"] >= max(0.8, f1["usual"]), (f1, counts)
