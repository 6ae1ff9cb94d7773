"""Sizes: any, in words, with a cost, and a refusal that names what would fit."""

import pytest

from openreel.deploy.sizes import Costs, Size, frames_for
from openreel.pipeline.errors import InputError
from openreel.vae.config import tiny

COSTS = Costs(pixels=tiny(), patch=(1, 2, 2), dim=192, depth=6)
"""4x8x8"""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1080x1920", "1080 wide × 1920 tall, portrait"),
        ("1920X1080", "1920 wide × 1080 tall, landscape"),
        (" 97 x 97 ", "97 wide × 97 tall, square"),
        ("2048×128", "2048 wide × 128 tall, landscape"),
    ],
)
def test_sizes_are_width_by_height_and_said_in_words(text: str, words: str) -> None:
    assert Size.parse(text).words == words


@pytest.mark.parametrize(
    "text", ["1080", "0x0", "15x64", "64x", "-64x64", "64*64", "64x64x64", "axb", "", "1e3x64"]
)
def test_anything_else_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(InputError, match=r"size: got .*accepted: WIDTHxHEIGHT") as refused:
        Size.parse(text)
    assert "\n" not in str(refused.value)


def test_the_plan_counts_tokens_of_the_padded_grid() -> None:
    plan = COSTS.plan(Size(width=1080, height=1920), num_frames=81, fps=24)
    assert plan.latent_size == (21, 240, 135)
    assert plan.num_tokens == 21 * 120 * 68
    assert "1080 wide × 1920 tall, portrait" in plan.words


def test_what_does_not_fit_is_refused_with_the_largest_that_does() -> None:
    budget = 8 * 2**30
    with pytest.raises(InputError) as refused:
        COSTS.checked(Size(width=100_000, height=100_000), 17, 10, budget)
    named = str(refused.value).split("at most ")[1].split(" ")[0]
    largest = Size.parse(named)
    assert COSTS.checked(largest, 17, 10, budget).memory_bytes <= budget
    larger = Size(width=int(largest.width * 1.01) + 1, height=int(largest.height * 1.01) + 1)
    with pytest.raises(InputError):
        COSTS.checked(larger, 17, 10, budget)


def test_length_is_given_once_in_seconds_or_frames() -> None:
    assert frames_for(2.0, None, 12) == 24
    assert frames_for(None, 7, 12) == 7
    assert frames_for(0.001, None, 12) == 1
    for seconds, frames, fps in ((1.0, 9, 8), (None, 0, 8), (-1, None, 8), (1.0, None, 0)):
        with pytest.raises(InputError):
            frames_for(seconds, frames, fps)
    with pytest.raises(InputError, match="seconds"):
        frames_for(float("nan"), None, 8)
