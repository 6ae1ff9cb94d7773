"""Every threshold rejects what is beyond it, says so with both numbers, and keeps the scores."""

from dataclasses import fields, replace
from typing import Any

import pytest

from openreel.pipeline.clip import Clip
from openreel.pipeline.errors import InputError
from openreel.pipeline.judge import FilterConfig, judge

GOOD = Clip(
    clip_id="c",
    video_id="v",
    uri="/v.mp4",
    kind="video",
    start_frame=0,
    num_frames=12,
    start_pts=0,
    end_pts=1000,
    time_base="1/1000",
    fps=12.0,
    width=100,
    height=60,
    luma=0.5,
    change=0.1,
    motion=0.1,
    camera="pan",
    static=0.3,
    black=0.2,
    dark=0.25,
    bright=0.15,
    sharpness=0.6,
    blockiness=0.4,
    text_area=0.05,
    crop_y=15,
    crop_width=100,
    crop_height=30,
    phashes=(7,),
    aesthetic=5.5,
    semantic=-0.1,
)
BROKEN = [
    ({"min_s": 1.1}, "seconds below 1.1: 1"),
    ({"min_side": 64}, "shorter side below 64: 60"),
    ({"max_aspect": 1.5}, "aspect above 1.5: 1.667"),
    ({"min_luma": 0.6}, "luma below 0.6: 0.5"),
    ({"max_luma": 0.4}, "luma above 0.4: 0.5"),
    ({"max_black": 0.1}, "black above 0.1: 0.2"),
    ({"max_static": 0.2}, "static above 0.2: 0.3"),
    ({"min_motion": 0.2}, "motion below 0.2: 0.1"),
    ({"max_motion": 0.05}, "motion above 0.05: 0.1"),
    ({"min_sharpness": 0.7}, "sharpness below 0.7: 0.6"),
    ({"max_blockiness": 0.2}, "blockiness above 0.2: 0.4"),
    ({"max_text_area": 0.01}, "text above 0.01: 0.05"),
    ({"max_dark": 0.2}, "dark above 0.2: 0.25"),
    ({"max_bright": 0.1}, "bright above 0.1: 0.15"),
    ({"max_bars": 0.4}, "bars above 0.4: 0.5"),
    ({"min_aesthetic": 6.0}, "aesthetic below 6: 5.5"),
    ({"min_semantic": 0.0}, "semantic below 0: -0.1"),
]


@pytest.mark.parametrize(("thresholds", "reason"), BROKEN)
def test_each_filter_gives_its_reason(thresholds: dict[str, Any], reason: str) -> None:
    assert judge(GOOD, FilterConfig()) == GOOD
    rejected = judge(GOOD, FilterConfig(**thresholds))
    assert rejected == replace(GOOD, status="rejected", reason=reason)
    # Another judgement of the same row starts afresh.
    assert judge(rejected, FilterConfig()) == GOOD


def test_every_threshold_is_tried_here() -> None:
    assert {name for thresholds, _ in BROKEN for name in thresholds} == {
        field.name for field in fields(FilterConfig)
    }


def test_a_clip_at_its_thresholds_is_kept() -> None:
    exact = FilterConfig(
        min_s=1.0,
        min_side=60,
        min_luma=0.5,
        max_luma=0.5,
        max_black=0.2,
        max_static=0.3,
        min_motion=0.1,
        max_motion=0.1,
        min_sharpness=0.6,
        max_blockiness=0.4,
        max_text_area=0.05,
        max_dark=0.25,
        max_bright=0.15,
        max_bars=0.5,
        min_aesthetic=5.5,
        min_semantic=-0.1,
    )
    assert judge(GOOD, exact) == GOOD
    # 30000/1001 frames a second in ticks of a millisecond are not quite half a second.
    almost = replace(GOOD, num_frames=15, fps=15 / 0.4996)
    assert judge(almost, FilterConfig()).status == "ok"
    assert judge(replace(almost, fps=15 / 0.48), FilterConfig()).status == "rejected"


def test_the_first_reason_is_given() -> None:
    config = FilterConfig(min_s=2.0, max_text_area=0.0, min_sharpness=1.0)
    assert judge(GOOD, config).reason.startswith("seconds below 2")


def test_the_defaults_reject_only_what_nobody_can_use() -> None:
    poor: dict[str, Any] = {"sharpness": 0.0, "blockiness": 9.0, "text_area": 1.0, "static": 1.0}
    poor |= {"dark": 0.999, "motion": 0.0, "black": 1.0, "aesthetic": None, "semantic": None}
    assert judge(replace(GOOD, **poor), FilterConfig()).status == "ok"
    for useless in ({"num_frames": 4}, {"height": 20}, {"dark": 1.0}):
        assert judge(replace(GOOD, **useless), FilterConfig()).status == "rejected"


def test_an_image_is_exempt_from_what_is_about_time() -> None:
    image = replace(GOOD, kind="image", num_frames=1, fps=0.0, motion=0.0, camera="unknown")
    strict = FilterConfig(min_s=5.0, min_motion=0.5, max_motion=0.6, max_static=0.0, max_black=0.0)
    assert judge(image, strict).status == "ok"
    assert judge(image, FilterConfig(min_sharpness=0.7)).status == "rejected"


def test_what_was_not_measured_is_not_judged() -> None:
    unmoved = replace(GOOD, motion=0.0, camera="unknown")
    assert judge(unmoved, FilterConfig(min_motion=0.1)).status == "ok"
    # Motion can be known where the camera's part of it is not.
    busy = replace(GOOD, motion=0.05, camera="unknown")
    assert judge(busy, FilterConfig(min_motion=0.1)).status == "rejected"
    unseen = replace(GOOD, phashes=(), sharpness=0.0)
    assert judge(unseen, FilterConfig(min_sharpness=0.5, max_bars=0.1)).status == "ok"
    unscored = replace(GOOD, aesthetic=None, semantic=None)
    assert judge(unscored, FilterConfig(min_aesthetic=6.0, min_semantic=0.5)).status == "ok"


@pytest.mark.parametrize(
    ("thresholds", "message"),
    [
        ({"min_luma": -1}, r"filters.min_luma: got -1; accepted: 0 or more"),
        ({"max_motion": float("nan")}, r"filters.max_motion: got nan"),
        ({"max_text_area": float("inf")}, r"filters.max_text_area: got inf"),
        ({"max_aspect": 0.5}, r"filters.max_aspect: got 0.5; accepted: 1 or more"),
        ({"min_luma": 0.6, "max_luma": 0.4}, r"filters.min_luma: .* at most max_luma = 0.4"),
        ({"min_motion": 0.6, "max_motion": 0.4}, r"filters.min_motion: .* max_motion = 0.4"),
        ({"min_semantic": float("nan")}, r"filters.min_semantic: got nan; accepted: a number"),
    ],
)
def test_the_config_is_validated(thresholds: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        FilterConfig(**thresholds)
