"""Shots tile the video, boundaries are found where they are, and nothing else is one."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from openreel.pipeline.errors import InputError
from openreel.pipeline.keyed import generator
from openreel.pipeline.media import Frames, write_video
from openreel.pipeline.shots import (
    Scan,
    ShotConfig,
    ShotScanner,
    find_shots,
    scan_frames,
    shots_of,
)
from tests.benchmarks.bench_shots import matched, real
from tests.benchmarks.films import Take, a_place, disturb, film, shoot

SIZE = (160, 90)


def view(
    seed: int,
    num_frames: int,
    *events: tuple[int, str],
    start: float = 0.0,
    pan: float = 0.4,
) -> Frames:
    """A place under a camera that pans from `start` on, with disturbances of the hard set."""
    rng = generator(seed, "view")
    take = Take.still(num_frames, SIZE)
    take.camera[:, 0] = start + pan * np.arange(num_frames)
    for at, name in events:
        disturb(rng, take, at, name, SIZE)
    return shoot(rng, a_place(rng, SIZE, dark=False), take, SIZE).astype(np.uint8)


def mix(a: Frames, b: Frames) -> Frames:
    """One sequence that turns into another of the same length."""
    share = np.linspace(0, 1, len(a))[:, None, None, None]
    return (a * (1 - share) + b * share).astype(np.uint8)


def boundaries(*parts: Frames) -> tuple[tuple[int, str], ...]:
    return scan_frames(np.concatenate(parts), ShotConfig()).boundaries


def steps(frames: Frames) -> np.ndarray:
    """Mean change of each frame to the one before, 0 to 1."""
    return np.abs(np.diff(frames.astype(int), axis=0)).mean((1, 2, 3)) / 255


# ---- what is a boundary -----------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_cuts_five_frames_apart_are_found_to_the_frame(seed: int) -> None:
    lengths = [12, 5, 5, 6, 20]
    shots = [view(10 * seed + i, n) for i, n in enumerate(lengths)]
    cuts = [int(c) for c in np.cumsum(lengths)[:-1]]
    assert boundaries(*shots) == tuple((c, "cut") for c in cuts)


@pytest.mark.parametrize("seed", range(4))
def test_a_cut_to_the_same_place_in_other_framing_is_found(seed: int) -> None:
    shots = view(seed, 30, pan=0), view(seed, 30, start=16, pan=0)
    before, after = shots[0][-1].astype(int), shots[1][0].astype(int)
    # What both show is the same, but for its place.
    assert np.abs(before[:, 24:] - after[:, 8:-16]).mean() < 0.3 * np.abs(before - after).mean()
    assert boundaries(*shots) == ((30, "cut"),)


def test_a_cut_between_dark_shots_is_found() -> None:
    dark = [(view(seed, 25) * 0.12).astype(np.uint8) for seed in (1, 2)]
    assert max(frames.mean() for frames in dark) < 20
    assert boundaries(*dark) == ((25, "cut"),)


def test_a_cut_between_plain_colours_of_one_brightness_is_found() -> None:
    frames = np.zeros((20, 48, 64, 3), np.uint8)
    frames[:10] = (200, 20, 60)
    frames[10:] = (20, 100, 110)
    assert boundaries(frames) == ((10, "cut"),)


def test_a_cut_at_the_second_and_at_the_last_frame_are_found() -> None:
    parts = view(1, 1), view(2, 20), view(3, 1)
    assert boundaries(*parts) == ((1, "cut"), (21, "cut"))


@pytest.mark.parametrize("colour", [0, 255])
def test_a_fade_through_one_colour_lies_where_it_is_plainest(colour: int) -> None:
    plain = np.full((12, *SIZE[::-1], 3), colour, np.uint8)
    a, b = view(4, 45), view(5, 45)
    found = boundaries(a[:33], mix(a[33:], plain), plain[:5], mix(plain, b[:12]), b[12:])
    assert [kind for _, kind in found] == ["fade"]
    assert 44 <= found[0][0] <= 51


@pytest.mark.parametrize("length", [12, 24, 40])
def test_a_dissolve_lies_in_its_middle(length: int) -> None:
    a, b = view(6, 30 + length, pan=0.1), view(7, 30 + length, pan=0.1)
    found = boundaries(a[:30], mix(a[30:], b[:length]), b[length:])
    assert [kind for _, kind in found] == ["dissolve"]
    assert abs(found[0][0] - (30 + length / 2)) <= 3


# ---- what is none -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["flash", "explosion", "whip", "flicker", "lamp", "exposure"])
def test_a_disturbance_is_no_boundary(name: str) -> None:
    for seed in (1, 2, 3):
        frames = view(seed, 70, (30, name))
        still = view(seed, 70)
        # It changes the picture as much as many a cut.
        assert steps(frames)[29:40].max() > 3 * steps(still)[29:40].max()
        assert boundaries(frames) == (), seed


def test_a_title_that_appears_slowly_is_no_boundary() -> None:
    frames = view(3, 60, pan=0)
    titled = frames.copy()
    titled[:, 30:55, 40:120] = 255
    assert boundaries(frames, mix(frames[:16], titled[:16]), titled) == ()


def test_noise_and_fades_at_the_ends_are_no_boundaries() -> None:
    noise = generator(0, "noise").integers(0, 256, (40, 54, 96, 3)).astype(np.uint8)
    assert boundaries(noise) == ()
    black = np.zeros((15, *SIZE[::-1], 3), np.uint8)
    frames = view(8, 60)
    whole = (mix(black, frames[:15]), frames[15:45], mix(frames[45:], black), black)
    assert boundaries(*whole) == ()


# ---- the scan ---------------------------------------------------------------------------------


def test_no_shot_is_shorter_than_asked_except_at_an_end() -> None:
    parts = [view(seed, 4) for seed in range(10)]
    found = scan_frames(np.concatenate(parts), ShotConfig(min_frames=6)).boundaries
    frames = [frame for frame, _ in found]
    assert len(frames) > 2
    assert min(np.diff(frames)) >= 6


@pytest.mark.parametrize("index", range(3))
def test_shots_cover_every_frame_once(index: int) -> None:
    frames = film(5, index).frames
    scan = scan_frames(frames, ShotConfig())
    pts = [3 + 2 * i for i in range(len(frames))]
    shots = shots_of(scan, pts, 3 + 2 * len(frames))
    covered = [frame for shot in shots for frame in range(shot.start_frame, shot.end_frame)]
    assert covered == list(range(len(frames)))
    assert len(shots) > 1
    assert [shot.opened_by for shot in shots] == ["start", *(k for _, k in scan.boundaries)]
    assert [shot.start_pts for shot in shots] == [pts[shot.start_frame] for shot in shots]
    assert [shot.end_pts for shot in shots[:-1]] == [shot.start_pts for shot in shots[1:]]
    assert shots[-1].end_pts == 3 + 2 * len(frames)


def test_brightness_and_change_are_measured() -> None:
    frames = np.zeros((3, 8, 8, 3), np.uint8)
    frames[1:] = 255
    scan = scan_frames(frames, ShotConfig())
    assert scan.luma == (0.0, 1.0, 1.0)
    assert scan.change == (0.0, 1.0, 0.0)


@pytest.mark.parametrize("size", [(1, 1), (160, 3), (3, 160), (17, 31)])
def test_odd_sizes_and_single_frames_are_scanned(size: tuple[int, int]) -> None:
    frames = generator(0, "odd").integers(0, 256, (30, *size, 3)).astype(np.uint8)
    for count in (0, 1, 2, 30):
        scan = scan_frames(frames[:count], ShotConfig())
        assert len(scan.luma) == len(scan.change) == count


def test_memory_does_not_grow_with_the_video() -> None:
    def held(num_frames: int) -> int:
        scanner = ShotScanner(ShotConfig())
        frames = np.concatenate([view(seed, 20) for seed in range(8)])
        for i in range(num_frames):
            scanner.add(frames[i % len(frames)])
        return sum(array.nbytes for array in arrays(scanner))

    few, many = held(120), held(700)
    assert 0 < many < 1.5 * few < 10e6


def arrays(value: object, seen: set[int] | None = None) -> Iterator[np.ndarray]:
    """Every array that an object holds."""
    seen = set() if seen is None else seen
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from arrays(item, seen)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from arrays(item, seen)
    elif hasattr(value, "__dict__"):
        yield from arrays(vars(value), seen)


# ---- files ------------------------------------------------------------------------------------


def test_shots_tile_the_file(tmp_path: Path) -> None:
    frames = np.concatenate([view(seed, 14) for seed in range(4)])
    write_video(tmp_path / "v.mp4", frames, fps=12)
    info, shots, scan = find_shots(tmp_path / "v.mp4", ShotConfig())
    assert [shot.start_frame for shot in shots] == [0, 14, 28, 42]
    assert [shot.start_pts for shot in shots] == [info.pts[i] for i in (0, 14, 28, 42)]
    assert [shot.opened_by for shot in shots] == ["start", "cut", "cut", "cut"]
    assert shots[-1].end_pts == info.end_pts
    assert len(scan.luma) == len(scan.change) == len(frames)


def test_a_stride_cuts_by_time(tmp_path: Path) -> None:
    config = ShotConfig(detector="stride", stride_s=0.5)
    write_video(tmp_path / "v.mp4", view(1, 40), fps=25)
    _, shots, _ = find_shots(tmp_path / "v.mp4", config)
    assert [shot.start_frame for shot in shots] == [0, 13, 25, 38]
    assert [shot.opened_by for shot in shots] == ["start", *["stride"] * 3]
    scanner = ShotScanner(config)
    for time_s in (0.0, 0.1, 1.7, 1.8, 2.0):  # unevenly: a stretch without a frame is no shot
        scanner.add(np.zeros((9, 16, 3), np.uint8), time_s)
    scanner_found = ShotScanner(ShotConfig(detector="stride", stride_s=0.5, min_frames=1))
    for time_s in (0.0, 0.1, 1.7, 1.8, 2.0):
        scanner_found.add(np.zeros((9, 16, 3), np.uint8), time_s)
    assert [frame for frame, _ in scanner_found.finish().boundaries] == [2, 4]


def test_pyscenedetects_own_detectors_may_be_asked() -> None:
    first, second, third = (view(seed, 30) for seed in (1, 2, 3))
    away = np.linspace(1, 0, 40)[:, None, None, None]  # too slow for a cut
    out = (second[-1:] * away).astype(np.uint8)
    back = (third[:1] * away[::-1]).astype(np.uint8)
    frames = np.concatenate([first, second, out, back, third])
    found = scan_frames(frames, ShotConfig(detector="pyscenedetect")).boundaries
    assert (30, "cut") in found
    assert any(kind == "fade" and 90 <= frame <= 110 for frame, kind in found)


# ---- the network ------------------------------------------------------------------------------


def brightness_network(path: Path) -> None:
    """An ONNX file with TransNetV2's inputs and outputs; it marks frames that are bright."""
    onnx = pytest.importorskip("onnx", reason="builds the network")
    helper, kinds = onnx.helper, onnx.TensorProto
    nodes = [
        helper.make_node("Cast", ["input"], ["float"], to=kinds.FLOAT),
        helper.make_node("ReduceMean", ["float", "axes"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "scale"], ["scaled"]),
        helper.make_node("Unsqueeze", ["scaled", "last"], ["output"]),
    ]
    constants = [
        helper.make_tensor("axes", kinds.INT64, [3], [2, 3, 4]),
        helper.make_tensor("scale", kinds.FLOAT, [], [1 / 255]),
        helper.make_tensor("last", kinds.INT64, [1], [2]),
    ]
    shape = ["batch", 100, 27, 48, 3]
    graph = helper.make_graph(
        nodes,
        "brightness",
        [helper.make_tensor_value_info("input", kinds.UINT8, shape)],
        [helper.make_tensor_value_info("output", kinds.FLOAT, ["batch", 100, 1])],
        constants,
    )
    opset = [helper.make_opsetid("", 18)]
    path.write_bytes(
        helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
    )


@pytest.mark.parametrize("num_frames", [60, 260])
def test_the_network_is_asked_and_its_frames_are_ours(tmp_path: Path, num_frames: int) -> None:
    pytest.importorskip("onnxruntime", reason="runs the network")
    brightness_network(tmp_path / "net.onnx")
    frames = np.zeros((num_frames, 90, 160, 3), np.uint8)
    bright = list(range(20, num_frames, 37))
    for i in bright:
        frames[i : i + 3] = 255
    config = ShotConfig(detector="transnet", transnet=tmp_path / "net.onnx")
    scan = scan_frames(frames, config)
    assert scan.boundaries == tuple((i, "cut") for i in bright)


def test_a_network_that_cannot_be_used_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = tmp_path / "none.onnx"
    with pytest.raises(InputError, match=r"shots.transnet: got .*none.onnx"):
        ShotScanner(ShotConfig(detector="transnet", transnet=missing))
    missing.write_bytes(b"")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match="onnxruntime installed"):
        ShotScanner(ShotConfig(detector="transnet", transnet=missing))


def test_the_config_is_validated() -> None:
    with pytest.raises(InputError, match=r"shots.min_frames: got 0"):
        ShotConfig(min_frames=0)
    with pytest.raises(InputError, match=r"shots.transnet: got None"):
        ShotConfig(detector="transnet")
    with pytest.raises(InputError, match=r"shots.detector: got 'best'"):
        ShotConfig(detector="best")  # type: ignore[arg-type]


# ---- many films -------------------------------------------------------------------------------


def usual(frames: Frames) -> list[int]:
    """PySceneDetect's adaptive detector with its own defaults, as the reference."""
    from scenedetect import AdaptiveDetector, FrameTimecode

    detector, cuts = AdaptiveDetector(), []
    for i, frame in enumerate(frames):
        bgr = np.ascontiguousarray(frame[..., ::-1])
        cuts += [c.frame_num for c in detector.process_frame(FrameTimecode(i, 30.0), bgr)]
    return cuts


def f1(counts: np.ndarray) -> float:
    hits, found, true = counts
    return float(2 * hits / (found + true))


@pytest.mark.slow
def test_hard_films_are_cut_far_better_than_by_the_usual_detector() -> None:
    ours, theirs, gradual = np.zeros(3), np.zeros(3), np.zeros(2)
    for index in range(8):
        made = film(77, index)
        scan: Scan = scan_frames(made.frames, ShotConfig())
        for counts, found in ((ours, list(scan.cuts)), (theirs, usual(made.frames))):
            counts += (matched(found, made.cuts()), len(found), len(made.cuts()))
        for truth in made.truths:
            if truth.kind != "cut":
                near = [
                    truth.start <= f <= truth.end for f, k in scan.boundaries if k == truth.kind
                ]
                gradual += (any(near), 1)
    assert ours[2] > 15
    assert gradual[1] > 3
    assert f1(ours) > max(0.85, f1(theirs) + 0.1), (ours, theirs)
    assert gradual[0] >= 0.5 * gradual[1]


@pytest.mark.slow
def test_real_cuts_are_found(media: Path) -> None:
    ours, theirs = np.zeros(3), np.zeros(3)
    for frames, true, _ in real(media):
        for counts, found in (
            (ours, list(scan_frames(frames, ShotConfig()).cuts)),
            (theirs, usual(frames)),
        ):
            counts += (matched(found, true), len(found), len(true))
    assert ours[2] >= 35
    assert f1(ours) >= 0.95, ours
    assert f1(ours) > f1(theirs)
