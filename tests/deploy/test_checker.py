"""The checker against rendered scenes, whose truth is known, clean and damaged."""

import cv2
import numpy as np
import pytest

from openreel.deploy.checker import NOTHING, PROMPTS, Frames, score, summarise
from openreel.deploy.world import describe, draw_scene, render
from openreel.pipeline.errors import InputError


def scenes(count: int) -> list[tuple[str, Frames]]:
    """Prompts and clips of single things before a camera that stands still."""
    found, index = [], 0
    while len(found) < count:
        scene = draw_scene(7, f"checker {index}", num_objects=1, num_frames=13)
        index += 1
        if scene.camera == "still":
            prompt = describe(scene).short.replace("stays still", "is still")
            found.append((prompt, render(scene)))
    return found


def damaged(frames: Frames, strength: float) -> Frames:
    """Blurred and noisy, as a small autoencoder leaves it."""
    noise = np.random.default_rng(0).normal(0, 10 * strength, frames.shape)
    soft = np.stack([cv2.GaussianBlur(f, (0, 0), 1.2 * strength) for f in frames])
    return np.clip(soft + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("strength", "colour", "shape", "direction"), [(0.0, 0.98, 0.95, 0.95), (1.0, 0.97, 0.9, 0.93)]
)
def test_it_sees_what_was_drawn(
    strength: float, colour: float, shape: float, direction: float
) -> None:
    scores = [
        score(damaged(frames, strength) if strength else frames, prompt)
        for prompt, frames in scenes(200)
    ]
    assert len({s.seen_direction for s in scores}) == 5
    found = summarise(scores)
    assert found.colour >= colour
    assert found.shape >= shape
    assert found.direction >= direction


def test_a_video_played_backwards_moves_the_other_way() -> None:
    opposite = {"left": "right", "right": "left", "up": "down", "down": "up", "still": "still"}
    for prompt, frames in scenes(60):
        forwards, backwards = score(frames, prompt), score(frames[::-1], prompt)
        assert backwards.seen_direction == opposite[forwards.seen_direction]


def test_noise_and_blank_frames_show_nothing() -> None:
    random = np.random.default_rng(0)
    grey_noise = np.repeat(random.integers(0, 256, (9, 72, 72, 1)), 3, -1).astype(np.uint8)
    for frames in (grey_noise, np.full((9, 72, 72, 3), 128, np.uint8)):
        found = score(frames, PROMPTS[0])
        assert (found.colour, found.shape, found.direction) == (False, False, False)
        assert (found.seen_colour, found.seen_shape) == (NOTHING, NOTHING)


def test_the_prompts_are_balanced() -> None:
    assert len(set(PROMPTS)) == 24
    for word in ("red", "purple"):
        assert sum(word in p for p in PROMPTS) == 4
    for word in ("ball", "bar", "triangle"):
        assert sum(f" {word} " in p for p in PROMPTS) == 8
    for word in ("left", "right", "up", "down"):
        assert sum(p.endswith(word) for p in PROMPTS) == 6


def test_a_prompt_that_cannot_be_judged_is_refused() -> None:
    with pytest.raises(InputError, match="prompt"):
        score(np.zeros((2, 8, 8, 3), np.uint8), "a dog runs")


def test_a_summary_of_nothing_is_zero() -> None:
    assert summarise([]).all == 0.0
