"""One caption of several windows says what each of them says, once, in order, and no more."""

import re

import pytest

from openreel.recaption.merge import Part, merge


def parts(*texts: str) -> list[Part]:
    return [Part(start_s=8.0 * i, end_s=8.0 * (i + 1), text=text) for i, text in enumerate(texts)]


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.lower()))


GLUE = {"first", "then", "from", "to", "s"}

CASES = [
    ("A red ball moves right. The camera is still.", "A red ball moves left. The camera is still."),
    (
        "A man in a blue shirt sits at a desk. Sun falls in.",
        "A man in a blue shirt stands up and walks to the door. Sun falls in.",
        "A man in a blue shirt opens the door. He leaves. Sun falls in.",
    ),
    ("Two dogs play. A cat looks on.", "Two dogs sleep. A cat looks on.", "Two dogs play."),
    ("A car drives by.", "Nothing happens.", "A car drives by."),
    ("Ein Hund läuft.", "Ein Hund schläft."),
    ("no stop at the end", 'A sign says "STOP!" Rain falls.'),
    ("What is it? A bird!", "What is it? A plane!"),
]


def test_one_window_and_equal_ones_pass_unchanged() -> None:
    text = "a red  ball ; it moves"
    assert merge(parts(text)).text == text
    assert merge(parts(text, text, text)).text == text
    with pytest.raises(ValueError, match="parts: got none"):
        merge([])


@pytest.mark.parametrize("texts", CASES)
@pytest.mark.parametrize("times", [True, False])
def test_nothing_is_lost_and_nothing_invented(texts: tuple[str, ...], times: bool) -> None:
    merged = merge(parts(*texts), times=times).text
    said = set().union(*map(words, texts))
    assert said <= words(merged)
    assert words(merged) - said <= GLUE
    assert bool(re.search(r"\d to \d+ s", merged)) is times


def test_what_stays_the_same_is_said_once_and_what_happens_in_order() -> None:
    merged = merge(
        parts(
            "A red ball moves right across a dark background. The camera is still.",
            "A red ball moves left across a dark background. The camera is still.",
            "A red ball moves up across a dark background. The camera is still.",
        )
    ).text
    assert merged == (
        "A red ball moves first right (0 to 8 s), then left (8 to 16 s), then up (16 to 24 s) "
        "across a dark background. The camera is still."
    )


def test_different_subjects_stay_apart_and_have_their_times() -> None:
    merged = merge(parts("A red ball falls. It rains.", "A white cat runs. It rains.")).text
    assert merged == (
        "First, from 0 to 8 s, a red ball falls. Then, from 8 to 16 s, a white cat runs. It rains."
    )
    plurals = merge(parts("Two red cars stop.", "Two red cats sleep."), times=False).text
    assert plurals == "First, two red cars stop. Then, two red cats sleep."


def test_what_holds_for_some_windows_has_their_time_as_one_span() -> None:
    merged = merge(parts("It rains. A dog barks.", "It rains. A dog barks.", "It rains.")).text
    assert merged == "It rains. From 0 to 16 s, a dog barks."
    back = merge(parts("A car drives by.", "Nothing happens.", "A car drives by.")).text
    assert back.count("car drives by") == 2


CONTRADICTIONS = [
    (
        ("The camera is still.", "The camera pans left."),
        "the camera still (0 to 8 s) and pans left",
    ),
    (("The camera pans left.", "A static shot of a cat."), "still (8 to 16 s) and pans left"),
    (("The camera zooms in.", "The camera zooms out."), "zooms in (0 to 8 s) and zooms out"),
    (("A red ball rolls.", "A cat.", "The blue ball stops."), "red ball (0 to 8 s) and blue ball"),
    (("A man in a green shirt.", "A man in a black shirt."), "green shirt (0 to 8 s) and black"),
]
HARMONIES = [
    ("The camera pans left.", "The camera pans left slowly."),
    ("The camera pans left.", "The camera tilts up."),
    ("The camera is still.", "A still lake lies there. A man moves left."),
    ("A red ball and a blue ball roll.", "The blue ball stops."),
    ("A gray wall.", "A grey wall."),
    ("A red ball rolls left.", "A red ball rolls right."),
    ("A red ball rolls.", "A blue car stops."),
    ("He wears red and blue.", "He wears green and blue."),
]


@pytest.mark.parametrize(("texts", "found"), CONTRADICTIONS)
def test_contradictions_are_found(texts: tuple[str, ...], found: str) -> None:
    assert found in merge(parts(*texts)).contradiction
    assert merge(parts(texts[0], texts[0])).contradiction == ""


@pytest.mark.parametrize("texts", HARMONIES)
def test_what_may_well_change_is_no_contradiction(texts: tuple[str, ...]) -> None:
    assert merge(parts(*texts)).contradiction == ""
