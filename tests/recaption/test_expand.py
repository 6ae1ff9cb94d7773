"""Expansion: deterministic, in the captions' style, and never against the prompt."""

import pytest

from openreel.deploy.world import describe, draw_scene
from openreel.recaption.expand import OfflineExpander
from openreel.recaption.guards import camera_still, negated, quoted, violations

TRUTHS = [describe(draw_scene(0, i, num_objects=1)) for i in range(400)]
TRUTHS += [describe(draw_scene(1, i, num_objects=1, num_frames=1)) for i in range(100)]
EXPANDER = OfflineExpander([truth.dense for truth in TRUTHS])

FOREIGN = [
    "un perro corre en la playa",
    "eine Katze springt auf den Tisch",
    "一只猫在雪地里奔跑",
    "قطة تجري في الثلج",
    "красный шар катится вправо",
    "🐈🐈🐈",
    "",
    "   ",
    "...",
]
PROMPTS = [
    "a red ball moves right",
    "a zebra",
    "a bar moves up",
    'the sign says "Hello. World!" and a dog barks',
    "a car drives left, not right",
    "no people, the street is empty",
    "camera pans left over the city",
    "three orange balls move up",
    "Anna and Bob walk through the park. They are happy.",
    "a static shot of the sea",
    "don't show the sky, a red car moves left",
    "a ball; a bar (blue) moves down!",
    *FOREIGN,
]


@pytest.mark.parametrize("index", range(0, 60, 7))
def test_a_short_caption_becomes_one_of_the_corpus_style(index: int) -> None:
    """The words that the dense captions add, in their order: equal once the drawn words are."""
    short, known = TRUTHS[index].short, {truth.dense for truth in TRUTHS}
    expansion = EXPANDER.expand(short)
    assert expansion.status == "expanded"
    size = " small " if " small " in expansion.text else " large "
    assert expansion.text.lower().replace(size, " ").startswith(short)
    skeletons = {" ".join(w for w in k.split() if w not in COLOURLESS) for k in known}
    assert " ".join(w for w in expansion.text.split() if w not in COLOURLESS) in skeletons


COLOURLESS = {"small", "large", "dark", "grey", "light", "plain", "striped", "checked", "shaded"}


def test_expansions_are_as_long_as_the_corpus_captions() -> None:
    corpus = [len(t.dense.split()) for t in TRUTHS if "pillar" not in t.dense]
    lengths = [len(EXPANDER.expand(t.short).text.split()) for t in TRUTHS]
    assert abs(sum(corpus) / len(corpus) - sum(lengths) / len(lengths)) < 1.5


def test_a_dense_caption_passes_byte_for_byte() -> None:
    for truth in TRUTHS[:60]:
        assert EXPANDER.expand(truth.dense).text == truth.dense
    once = EXPANDER.expand("a red ball moves right").text
    assert EXPANDER.expand(once).status == "unchanged"


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("expander", [EXPANDER, OfflineExpander()])
def test_no_prompt_is_broken(prompt: str, expander: OfflineExpander) -> None:
    expansion = expander.expand(prompt, seed=3)
    assert expansion.original == prompt
    assert violations(prompt, expansion.text) == () or expansion.text == prompt
    assert expansion == expander.expand(prompt, seed=3)
    if prompt in FOREIGN:
        assert expansion.text == prompt
    assert expansion.status in ("expanded", "unchanged")


def test_the_seed_draws_among_equals() -> None:
    texts = {EXPANDER.expand("a red ball moves right", seed=s).text for s in range(20)}
    assert len(texts) > 2


def test_a_camera_that_was_asked_for_is_left_alone() -> None:
    for prompt in ("the camera pans left over a red ball", "a static shot of the sea"):
        assert EXPANDER.expand(prompt).text.lower().count("camera") == prompt.count("camera")
    assert "camera" not in OfflineExpander(["A dog runs on the beach."]).expand("the cat").text


@pytest.mark.parametrize(
    ("prompt", "text", "broken"),
    [
        ('a sign "OPEN"', "A sign that is open.", "quoted text lost"),
        ("a sign “ÖFFEN”", "A sign ÖFFEN.", "quoted text lost"),
        ("three dogs", "Some dogs run.", "number lost: 3"),
        ("an empty beach, no people", "An empty beach with several people.", "negation inverted"),
        ("an empty beach, no people", "An empty beach.", "negation lost: people"),
        ("don't show the sky", "A wide sky.", "negation inverted: sky"),
        ("a car drives left, not right", "A car drives right, not left.", "direction"),
        ("a ball moves up", "A ball moves down and up.", "direction inverted: up became down"),
        ("camera pans left", "The camera is still, left.", "camera movement lost: pan"),
        ("static camera on a cat", "A cat. The camera zooms in.", "camera movement added: zoom"),
        ("a walk with Anna", "A woman walks.", "name lost: Anna"),
        ("a dog", "A dog and a man.", "person added: man"),
        ("a dog", "一只狗", "other language"),
        ("a dog", " ", "empty"),
        ("a dog", "a dog " * 150, "longer than"),
    ],
)
def test_guards_name_what_was_broken(prompt: str, text: str, broken: str) -> None:
    assert any(found.startswith(broken) for found in violations(prompt, text))
    assert violations(prompt, prompt) == ()


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("3 dogs", "Three brown dogs run across a field."),
        ("an empty beach, no people", "An empty beach at dusk without any people."),
        ("a car drives left, not right", "A small car drives left, not right, on a road."),
        ("camera pans left", "The camera slowly pans left across a room."),
        ("it says 'hi there'", "A sign; it says 'hi there' in red."),
    ],
)
def test_faithful_expansions_pass(prompt: str, text: str) -> None:
    assert violations(prompt, text) == ()


def test_reading_a_prompt() -> None:
    assert negated("don't show the sky") == {"sky"}
    assert negated("without any people or cars") == {"people"}
    assert quoted("say \"it\" or 'that', don't «ask»") == ['"it"', "'that'", "«ask»"]
    assert camera_still("The camera is still.")
    assert not camera_still("The camera pans left. A ball stays still.")
