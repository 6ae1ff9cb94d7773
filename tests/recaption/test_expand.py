"""Expansion: deterministic, in the captions' style, and never against the prompt."""

import pytest

from openreel.deploy.world import describe, draw_scene
from openreel.recaption.expand import Grammar, OfflineExpander
from openreel.recaption.expansion import ExpandConfig
from openreel.recaption.guards import WordRange, violations
from openreel.recaption.reading import camera_still, negated, quoted, visible, words

TRUTHS = [describe(draw_scene(0, i, num_objects=1)) for i in range(400)]
TRUTHS += [describe(draw_scene(1, i, num_objects=1, num_frames=1)) for i in range(100)]
EXPANDER = OfflineExpander([truth.dense for truth in TRUTHS])
REAL = [
    "A brown dog runs along a sandy beach. The background is blurred. The camera is fixed.",
    "Two women in red coats talk on a bridge. The light is soft. The camera is fixed.",
    "A chef cuts onions in a kitchen. The camera remains static on his hands.",
    "Waves break on a rocky shore. The light is soft. The camera is fixed.",
]
"""captions as people's footage has them: no two of one pattern"""
COLOURLESS = {"small", "large", "dark", "grey", "light", "plain", "striped", "checked", "shaded"}


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


def test_expansions_are_as_long_as_the_corpus_captions() -> None:
    corpus = [len(t.dense.split()) for t in TRUTHS if "pillar" not in t.dense]
    lengths = [len(EXPANDER.expand(t.short).text.split()) for t in TRUTHS]
    assert abs(sum(corpus) / len(corpus) - sum(lengths) / len(lengths)) < 2
    assert EXPANDER.words == WordRange.of([t.dense for t in TRUTHS])
    assert EXPANDER.words.low < 15, "a style of short captions is held to its own measure"
    assert OfflineExpander().words == OfflineExpander(REAL).words == WordRange(low=15, high=80)


def test_a_dense_caption_passes_byte_for_byte() -> None:
    for truth in TRUTHS[:60]:
        assert EXPANDER.expand(truth.dense).text == truth.dense
    once = EXPANDER.expand("a red ball moves right").text
    assert EXPANDER.expand(once).status == "unchanged"


def test_without_captions_neutral_sentences_make_fifteen_words() -> None:
    for prompt in ("a zebra", "a dark street at night", "the camera pans over a sunny field"):
        expansion = OfflineExpander().expand(prompt)
        assert expansion.status == "expanded"
        assert 15 <= len(words(expansion.text)) <= 80
    night = OfflineExpander().expand("a dark street at night").text
    assert "light" not in night, "what the prompt speaks of is left to it"


def test_of_real_captions_only_what_claims_nothing_is_lent() -> None:
    text = OfflineExpander(REAL).expand("a zebra").text
    assert "The background is blurred." in text
    assert "The light is soft." in text
    assert "The camera is fixed." in text, "the commonest way to say it"
    assert not {"women", "hands", "dog", "red"} & set(words(text))
    lent = OfflineExpander(REAL).expand("a dog runs").text
    assert lent.startswith("A dog runs along a sandy beach."), "the nearest caption's place"


def test_a_style_without_a_camera_gets_none() -> None:
    loose = ExpandConfig(words=WordRange(low=1, high=40))
    style = OfflineExpander(["A dog runs on the beach."], loose)
    assert "camera" not in style.expand("the cat").text
    assert "camera" in OfflineExpander(REAL, loose).expand("the cat").text


def test_the_seed_draws_among_equals_and_nothing_else_does() -> None:
    texts = [EXPANDER.expand("a red ball moves right", seed=s).text for s in range(20)]
    assert len(set(texts)) > 2
    again = OfflineExpander([truth.dense for truth in TRUTHS])
    assert [again.expand("a red ball moves right", seed=s).text for s in range(20)] == texts


def test_a_camera_that_was_asked_for_is_left_alone() -> None:
    for prompt in ("the camera pans left over a red ball", "a static shot of the sea"):
        assert EXPANDER.expand(prompt).text.lower().count("camera") == prompt.count("camera")


def test_a_caption_of_the_first_frame_is_laid_into_the_prompt_and_nothing_is_guessed() -> None:
    seen = "A small red ball in front of a dark striped background."
    text = EXPANDER.expand("a red ball moves right", seen=seen).text
    assert text == "A small red ball moves right in front of a dark striped background."
    pair = EXPANDER.expand(
        "a red ball moves left and a blue bar stays still",
        seen="A large red ball and a small blue bar in front of a light plain background.",
    ).text
    assert pair.startswith("A large red ball moves left and a small blue bar stays still in front")
    other = EXPANDER.expand("she waves", seen="A woman in a green coat stands on a bridge.")
    assert other.text == "She waves. A woman in a green coat stands on a bridge."
    assert EXPANDER.expand("a red ball", seen="").text == EXPANDER.expand("a red ball").text


@pytest.mark.parametrize(
    ("prompt", "text", "broken"),
    [
        ('a sign "OPEN"', "A sign that is open.", "quoted text lost"),
        ("a sign “ÖFFEN”", "A sign ÖFFEN.", "quoted text lost"),
        ("three dogs", "Some dogs run.", "number lost: three"),
        ("two dogs and three cats", "Three dogs and two cats.", "torn apart"),
        ("a dog", "Three dogs run.", "number added: three"),
        ("an empty beach, no people", "An empty beach with several people.", "negation inverted"),
        ("an empty beach, no people", "An empty beach.", "negation lost: people"),
        ("don't show the sky", "A wide sky.", "negation inverted: sky"),
        ("a car drives left, not right", "A car drives right, not left.", "direction"),
        ("a ball moves up", "A ball moves down and up.", "direction inverted: up became down"),
        ("a ball stays still", "A ball stays still, then left.", "direction added: left"),
        ("a man walks from left to right", "A man walks from right to left.", "torn apart"),
        ("camera pans left", "The camera is still, left.", "camera movement lost: pan"),
        ("static camera on a cat", "A cat. The camera zooms in.", "camera movement added: zoom"),
        ("camera does not move", "Camera does not move, then zooms.", "camera movement added"),
        ("a walk with Anna", "A woman walks.", "word lost: anna"),
        ("a red ball and a blue cube", "A blue ball and a red cube.", "torn apart"),
        ("a red ball", "A red ball and a green ball.", "colour added: green ball"),
        ("a red ball", "A round ball.", "colour lost: red"),
        ("a large red ball", "A red ball.", "size lost: large"),
        ("a dog chases a cat", "A cat chases a dog.", "torn apart"),
        ("a cat under a table", "A cat on a table.", "word lost: under"),
        ("a dog", "A dog and a man.", "person added: man"),
        ("a dog", "一只狗", "other language"),
        ("a dog", "a dog\x1b[2J", "control characters"),
        ("a dog", " ", "empty"),
        ("a dog", "a dog " * 150, "300 words, longer than"),
        ("a dog", "A dog.", "2 words, fewer than"),
    ],
)
def test_guards_name_what_was_broken(prompt: str, text: str, broken: str) -> None:
    found = violations(prompt, text, limits=WordRange())
    assert any(name.startswith(broken) for name in found), found
    assert violations(prompt, prompt) == ()


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("3 dogs", "Three brown dogs run across a field."),
        ("an empty beach, no people", "An empty beach at dusk without any people."),
        ("a car drives left, not right", "A small car drives left, not right, on a road."),
        ("camera pans left", "The camera slowly pans left across a room."),
        ("it says 'hi there'", "A sign; it says 'hi there' in red."),
        ("a dog chasing a cat in the rain", "In the pouring rain, a wet dog chases a grey cat."),
        ("make me a cat, no cars", "A grey cat sleeps on a sill, with no cars in sight."),
        ("Please show a video of two foxes", "Two red foxes stand on a snowy hill at dawn."),
        ("a ball stays still", "A ball stays still. The camera pans left."),
    ],
)
def test_faithful_expansions_pass(prompt: str, text: str) -> None:
    assert violations(prompt, text) == ()


def test_reading_a_prompt() -> None:
    assert negated("don't show the sky") == {"sky"}
    assert negated("without any people or cars") == {"peopl", "car"}
    assert negated("no clouds and a dog") == {"cloud"}
    assert quoted("say \"it\" or 'that', don't «ask»") == ['"it"', "'that'", "«ask»"]
    assert camera_still("The camera is still.")
    assert not camera_still("The camera pans left. A ball stays still.")


def test_control_characters_go_and_honest_joiners_stay() -> None:
    assert visible("\x1b[31ma\x00 \u202edog\ufeff\x9b") == "a dog"
    for text in ("👨‍👩‍👧", "می‌دود", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "a\tb\nc"):
        assert visible(text) == text
    assert visible("a\U000e0041\ud800b\r\nc") == "ab\nc"


def test_the_grammar_is_a_backend_of_nothing_but_text() -> None:
    grammar = Grammar(REAL)
    assert (grammar.identity, grammar.instruction, grammar.translates) == ("offline", "", False)
