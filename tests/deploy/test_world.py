"""The world's captions are its truth: they are held to the rendered pixels, and to the files."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from openreel.deploy.world import (
    COLOURS,
    DIRECTIONS,
    MOTIONS,
    SHADES,
    SHAPES,
    SIZES,
    TEXTURES,
    Scene,
    describe,
    draw_scene,
    render,
)
from openreel.deploy.world_files import draw_film, write_world
from openreel.pipeline.errors import InputError
from openreel.pipeline.media import Frames, Span, stream_frames
from openreel.pipeline.probe import probe
from openreel.pipeline.shots import ShotConfig, find_shots

NUMBERS = {"num_videos": 3, "num_images": 2, "seed": 5}


def pixels_of(frames: Frames, colour: str) -> npt.NDArray[np.bool_]:
    """(T, H, W): where the pixel is nearly the colour's own."""
    own = np.array(next(rgb for name, rgb in COLOURS.items() if name == colour))
    return np.abs(frames.astype(int) - own).max(-1) < 30


def centre(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """(x, y) of a mask's middle, from its box."""
    rows, columns = np.nonzero(mask)
    return np.array([columns.min() + columns.max(), rows.min() + rows.max()]) / 2


def scenes(count: int) -> list[Scene]:
    return [draw_scene(3, i) for i in range(count)]


def test_a_key_always_gives_the_same_scene() -> None:
    late = draw_scene(3, 7)
    assert scenes(8)[7] == late
    assert draw_scene(4, 7) != late
    np.testing.assert_array_equal(render(late), render(late))


def test_everything_that_can_be_drawn_is() -> None:
    drawn = scenes(400)
    things = [thing for scene in drawn for thing in scene.objects]
    assert {(t.shape, t.colour) for t in things} == {(s, c) for s in SHAPES for c in COLOURS}
    assert {t.motion for t in things} == set(MOTIONS)
    assert {(s.shade, s.texture) for s in drawn} == {(a, b) for a in SHADES for b in TEXTURES}
    assert {(s.width, s.height) for s in drawn} == set(SIZES)
    assert {s.camera for s in drawn} == {"still", "left", "right"}
    assert 0.15 < sum(len(s.objects) == 2 for s in drawn) / len(drawn) < 0.25
    assert any(s.collide for s in drawn)
    assert any(s.pillar is not None for s in drawn)


def test_things_move_as_the_caption_says() -> None:
    seen = set()
    for scene in scenes(300):
        if scene.camera != "still" or scene.collide:
            continue
        frames = render(scene)
        side = np.array([scene.width, scene.height])
        for thing in scene.objects:
            mask = pixels_of(frames, thing.colour)
            assert f"{thing.colour} {thing.shape}" in describe(scene).short
            moved = (centre(mask[-1]) - centre(mask[0])) / side
            wanted = np.array(DIRECTIONS[thing.motion])
            # A box that the frame's edge cuts off moves a little less than its thing.
            assert moved @ wanted >= 0.3 * any(wanted)
            assert np.abs(moved * (wanted == 0)).max() < 0.05
            seen.add((thing.motion, len(scene.objects)))
    assert seen == {(motion, count) for motion in MOTIONS for count in (1, 2)}


def test_things_stay_mostly_visible() -> None:
    for scene in scenes(200):
        if scene.pillar is not None:
            continue
        for thing in scene.objects:
            areas = pixels_of(render(scene), thing.colour).sum((1, 2))
            assert areas.min() > 0.6 * areas.max() > 0


def test_what_passes_behind_the_pillar_is_hidden_for_a_while() -> None:
    passing = [scene for scene in scenes(300) if scene.pillar is not None]
    assert len(passing) > 5
    for scene in passing:
        slow = replace(scene, num_frames=41)
        hidden, open_ = (
            pixels_of(render(s), scene.objects[0].colour).sum((1, 2))
            for s in (slow, replace(slow, pillar=None))
        )
        assert hidden[20] < 0.75 * open_[20]
        assert min(hidden[0], hidden[-1]) > 0.75 * open_.max()
        assert "passes behind a grey pillar" in describe(scene).dense


def test_what_collides_meets_half_way_and_turns_back() -> None:
    colliding = [scene for scene in scenes(300) if scene.collide]
    assert len(colliding) > 5
    for scene in colliding:
        frames = render(replace(scene, num_frames=21))
        first, second = (pixels_of(frames, thing.colour) for thing in scene.objects)
        apart = [np.abs(centre(a) - centre(b)).max() for a, b in zip(first, second, strict=True)]
        assert np.argmin(apart) == 10
        assert apart[0] > apart[5] > apart[10] < apart[15] < apart[20]
        np.testing.assert_array_equal(frames, frames[::-1])
        assert "They meet in the middle" in describe(scene).dense


def test_a_pan_shifts_the_background_the_other_way() -> None:
    ways = set()
    for scene in scenes(200):
        if scene.camera == "still":
            continue
        slow = render(replace(scene, num_frames=41)).astype(int)
        grey = np.ptp(slow[[0, 4]], axis=-1).max(0) < 8
        error = {
            shift: np.abs(np.roll(slow[0], shift, 1) - slow[4])[grey & np.roll(grey, shift, 1)]
            for shift in (-2, -1, 0, 1, 2)
        }
        best = min(error, key=lambda shift: error[shift].mean())
        assert np.sign(best) == {"left": 1, "right": -1}[scene.camera]
        assert describe(scene).dense.endswith(f"The camera pans {scene.camera}.")
        ways.add(scene.camera)
    assert ways == {"left", "right"}


def test_a_frame_depends_on_its_time_alone() -> None:
    for scene in scenes(40):
        longer = render(replace(scene, num_frames=2 * scene.num_frames - 1, fps=2 * scene.fps))
        # The same times, but for the last bit of a float.
        difference = longer[::2].astype(int) - render(scene)
        assert np.abs(difference).max() <= 1


def test_an_image_moves_nothing_and_says_so() -> None:
    for i in range(40):
        scene = draw_scene(3, i, num_frames=1)
        text = describe(scene)
        assert render(scene).shape == (1, scene.height, scene.width, 3)
        assert not {"moves", "still", "camera", "stays", "meet"} & set(text.dense.lower().split())
        assert text.short.startswith("a ")


def test_the_captions_vocabulary_is_small() -> None:
    said = [describe(scene) for scene in scenes(500)]
    words = " ".join(f"{text.short} {text.dense}" for text in said).lower().replace(".", "").split()
    assert len(set(words)) < 60


@pytest.mark.parametrize("wrong", [{"objects": ()}, {"width": 0}, {"num_frames": 0}])
def test_an_impossible_scene_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match="accepted"):
        replace(draw_scene(0, 0), **wrong)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files") / "world"
    write_world(folder, **NUMBERS)
    return folder


def captions(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "captions.jsonl").read_text().splitlines()]


def test_the_files_are_what_was_drawn(world: Path) -> None:
    for i in range(NUMBERS["num_videos"]):
        film = draw_film(NUMBERS["seed"], i)
        info = probe(world / film.name)
        wanted = np.stack(list(film.frames()))
        assert (info.num_frames, info.height, info.width) == wanted.shape[:3]
        assert info.fps == pytest.approx(film.shots[0].fps)
        read = np.stack(list(stream_frames(world / film.name, Span.whole(info))))
        assert np.abs(read.astype(int) - wanted).mean() < 4


def test_the_captions_spans_are_the_shots_that_detection_finds(world: Path) -> None:
    cuts = 0
    for i in range(NUMBERS["num_videos"]):
        film = draw_film(NUMBERS["seed"], i)
        _, shots, _ = find_shots(world / film.name, ShotConfig())
        own = [c for c in captions(world) if c["file"] == film.name and c["kind"] == "dense"]
        assert [c["text"] for c in own] == [describe(shot).dense for shot in film.shots]
        rate = film.shots[0].fps
        spans = [(float(str(c["start_s"])) * rate, float(str(c["end_s"])) * rate) for c in own]
        assert spans == [pytest.approx((s.start_frame, s.end_frame)) for s in shots]
        cuts += len(shots) - 1
    assert cuts > 3


def test_a_finished_world_is_left_alone_and_an_interrupted_one_completed(
    world: Path, tmp_path: Path
) -> None:
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in world.iterdir()}
    write_world(world, **NUMBERS)
    assert before == {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in world.iterdir()}
    other = tmp_path / "world"
    other.mkdir()
    for name in ("world.json", "video-0000.mp4"):
        (other / name).write_bytes(before[name][0])
    kept = (other / "video-0000.mp4").stat().st_mtime_ns
    write_world(other, **NUMBERS)
    assert (other / "video-0000.mp4").stat().st_mtime_ns == kept
    assert {p.name: p.read_bytes() for p in other.iterdir()} == {
        name: content for name, (content, _) in before.items()
    }


@pytest.mark.parametrize("finished", [True, False])
def test_a_world_is_not_continued_from_other_numbers(
    world: Path, tmp_path: Path, finished: bool
) -> None:
    folder = tmp_path / "world"
    folder.mkdir()
    for name in ("world.json", "video-0000.mp4", *(["captions.jsonl"] if finished else [])):
        (folder / name).write_bytes((world / name).read_bytes())
    with pytest.raises(InputError, match="world: got"):
        write_world(folder, **{**NUMBERS, "seed": 6})
    assert not (folder / "video-0001.mp4").exists()
