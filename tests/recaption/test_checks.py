"""The checks find what is wrong with a caption, name it, and let good captions pass."""

import pytest

from openreel.deploy.world import describe, draw_scene
from openreel.pipeline.errors import InputError
from openreel.recaption.checks import CaptionChecks, flaw
from openreel.recaption.writer import Written

STRICT = CaptionChecks(max_words=9, max_repeats=1)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" . ", "empty"),
        ("ball", "length: 1 words, not 3 to 9"),
        ("a b c d e f g h i j", "length: 10 words"),
        ("A red ball. A red ball.", "repetition: a sentence twice"),
        ("a red red red ball", "repetition: a word three times"),
        ("a b c d a b c d", "repetition: four words 2 times: a b c d"),
        ("A red ball moves right. It is big.", ""),
    ],
)
def test_length_and_repetition(text: str, reason: str) -> None:
    found = flaw(Written(text=text), STRICT)
    assert found.startswith(reason)
    assert bool(found) is bool(reason)


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        (Written(text="a red ball", outcome="truncated", reason="at 76"), "cut off: at 76"),
        (Written(outcome="blocked", reason="content filter"), "refusal: content filter"),
        (Written(outcome="error", reason="HTTP 500"), "error: HTTP 500"),
    ],
)
def test_what_the_writer_says_itself_comes_first(written: Written, reason: str) -> None:
    assert flaw(written, CaptionChecks()) == reason


BOILERPLATE = [
    "The image shows a red ball.",
    "This video depicts a man who walks.",
    "In this video, a man walks his dog.",
    "The video captures a busy street.",
    "This is a video of a cat on a roof.",
    "A photo of a cat on a roof.",
    "A black and white photo of a cat on a roof.",
    "The short clip features a cat on a roof.",
    "The scene opens with a cat on a roof.",
    "**Caption:** a cat on a roof.",
    "Sure! Here is a caption of the clip.",
    "Here's a detailed description of it.",
    "In the footage we find a cat.",
    "We see a cat on a roof.",
    '"The picture shows a cat."',
    "Based on the images, a cat is on a roof.",
    "It appears that a cat is on the roof.",
]
REFUSALS = [
    "I'm sorry, but I can't help with that.",
    "I’m sorry, I cannot see this.",
    "As an AI language model, I have no eyes.",
    "I am unable to view videos.",
    "Unfortunately, the frames are black.",
    "I do not have the ability to see it.",
    "No image was provided to me here.",
]
FOREIGN = [
    "Ein roter Ball rollt auf der Straße und die Kamera ist still.",
    "Une balle rouge roule dans la rue et la caméra est fixe.",
    "Una pelota roja rueda por la calle y la cámara está quieta.",
    "Красный мяч катится по улице.",
    "一个红色的球在街上滚动。",
    "a red ball 红色的球在街上滚动",
    "rojo pelota rueda calle lentamente hacia abajo",
    "赤いボールが通りを転がる。",
]
FINE = [
    "A red ball moves right across a dark striped background. The camera is still.",
    "Close-up shot of a bee on a thistle, sunlit, petals trembling in wind.",
    "A man holds a sign that reads \"I'm sorry, I can't\" in front of a shop.",
    'A neon sign reads "你好世界" above a door in the rain.',
    "A film of dust covers the table.",
    "A woman shows a photo of her son to a man.",
    "An image in a gilded frame hangs on the wall.",
    "A camera stands on a tripod in the video shop.",
    "red car drives fast",
    "Two café tables stand on a piazza; a fiancée waits.",
    "The scene of a crash: two cars, glass on the road.",
    "A small dog runs across the lawn in Los Angeles.",
]


@pytest.mark.parametrize(
    ("texts", "name"), [(BOILERPLATE, "boilerplate"), (REFUSALS, "refusal"), (FOREIGN, "language")]
)
def test_each_check_finds_its_own(texts: list[str], name: str) -> None:
    found = {text: flaw(Written(text=text), CaptionChecks()) for text in texts}
    assert {text: f for text, f in found.items() if not f.startswith(f"{name}: ")} == {}


@pytest.mark.parametrize("text", FINE)
def test_good_captions_pass(text: str) -> None:
    assert flaw(Written(text=text), CaptionChecks()) == ""


def test_all_true_captions_of_the_world_pass() -> None:
    said = [describe(draw_scene(0, i)) for i in range(300)]
    texts = [text for one in said for text in (one.short, one.dense)]
    assert {flaw(Written(text=text), CaptionChecks()) for text in texts} == {""}


def test_captions_may_be_in_another_language_or_in_any() -> None:
    german, chinese, _ = FOREIGN[0], FOREIGN[4], FOREIGN[5]
    assert flaw(Written(text=german), CaptionChecks(language="German")) == ""
    assert flaw(Written(text=chinese), CaptionChecks(language="Chinese")) == ""
    assert flaw(Written(text=german), CaptionChecks(language="any")) == ""
    assert "not Chinese" in flaw(Written(text=german), CaptionChecks(language="Chinese"))
    assert "not German" in flaw(Written(text=FINE[0]), CaptionChecks(language="German"))


def test_claims_that_the_clip_does_not_support_are_found_once_a_threshold_is_set() -> None:
    weak, strong = (Written(text="a red ball", agreement=a) for a in (0.1, 0.4))
    checks = CaptionChecks(min_agreement=0.25)
    assert flaw(weak, checks) == "unsupported: agreement 0.100, below 0.25"
    assert flaw(strong, checks) == flaw(weak, CaptionChecks()) == ""
    assert flaw(Written(text="a red ball"), checks) == "", "who cannot tell is not accused"


def test_a_merged_caption_may_be_longer() -> None:
    long = Written(text="a dog and the cat on top of the car")
    assert flaw(long, STRICT).startswith("length: 10 words")
    assert flaw(long, STRICT, windows=2) == ""


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_words": 0}, "min_words: got 0"),
        ({"max_repeats": 0}, "max_repeats: got 0"),
        ({"language": "Klingon"}, "language: got 'Klingon'; accepted: any, English"),
        ({"min_agreement": 2.0}, "min_agreement: got 2.0"),
    ],
)
def test_mistakes_are_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        CaptionChecks(**settings)
