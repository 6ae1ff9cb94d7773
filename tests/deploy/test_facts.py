"""Every sentence that the world can say is read back as the scene that it came from."""

import numpy as np
import pytest

from openreel.deploy.facts import Facts, ThingFacts, agreement, facts, reversed_in_time
from openreel.deploy.world import describe, draw_scene

SCENES = [draw_scene(3, i) for i in range(400)]


def test_descriptions_are_read_back_as_their_scene() -> None:
    seen: set[str] = set()
    for scene in SCENES:
        said = facts(describe(scene).dense)
        still_image = scene.num_frames == 1
        expected = tuple(
            ThingFacts(
                colour=o.colour, shape=o.shape, size=o.size, motion="" if still_image else o.motion
            )
            for o in scene.objects
        )
        assert said.things == expected
        assert (said.shade, said.texture, said.camera) == (scene.shade, scene.texture, scene.camera)
        assert (said.pillar, said.collide) == (scene.pillar is not None, scene.collide)
        seen |= {f"{len(expected)} things", scene.camera} | {o.motion for o in scene.objects}
        seen |= {"pillar"} if said.pillar else set()
        seen |= {"collide"} if said.collide else set()
    assert {"2 things", "pillar", "collide", "left", "up"} <= seen, "each case occurred"


def test_a_short_caption_claims_a_part_of_the_dense_one() -> None:
    for scene in SCENES:
        truth = describe(scene)
        short, dense = facts(truth.short).claims(), facts(truth.dense).claims()
        assert short < dense


def test_backwards_twice_is_forwards_and_a_moving_clip_differs() -> None:
    for scene in SCENES:
        truth = facts(describe(scene).dense)
        assert reversed_in_time(reversed_in_time(truth)) == truth
        moving = scene.camera != "still" or any(o.motion != "still" for o in scene.objects)
        if moving and not scene.collide:
            assert reversed_in_time(truth) != truth


def test_agreement_counts_claims() -> None:
    said = facts("a red ball moves left and a blue bar stays still")
    truth = facts("a red ball moves right")
    found = agreement([(said, truth)])
    assert (found.right, found.claimed, found.true) == (1, 4, 2)
    assert found.precision == pytest.approx(0.25)
    assert found.recall == pytest.approx(0.5)
    assert found.f1 == pytest.approx(2 * 0.25 * 0.5 / 0.75)
    assert agreement([(said, truth)], "thing").precision == pytest.approx(0.5)
    assert agreement([(Facts(), Facts())]).f1 == 1


def test_prose_claims_nothing() -> None:
    assert facts("My holiday at the sea, with a reddish sky") == Facts()
    rng = np.random.default_rng(0)
    assert facts(" ".join(map(chr, rng.integers(33, 3000, 200)))) == Facts()
