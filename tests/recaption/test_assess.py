"""What is said of a captioner follows from its captions; each author is looked at alone."""

import pytest

from openreel.recaption.assess import Author, against_originals, assess, by_author
from openreel.recaption.caption import Caption, ClipCaptions
from openreel.recaption.ngrams import score

RIGHT = "a red ball moves right"


def said_by(model: str, text: str, kind: str = "dense", **more: object) -> Caption:
    return Caption(kind=kind, text=text, source="videococa", model=model, **more)  # type: ignore[arg-type]


ORIGINALS = [RIGHT, "a small blue box stays still on a table", "two green bars move up slowly"]
ROWS = [
    ClipCaptions(
        clip_id=f"clip-{i}",
        captions=(
            Caption(kind="original", text=text, source="manifest"),
            said_by("one", text.upper() + ".", logprob=-0.5 * i, agreement=0.1 * i),
            said_by("one", "a thing", kind="short"),
            said_by("two", RIGHT, flaw="" if i else "boilerplate: the image shows"),
        ),
    )
    for i, text in enumerate(ORIGINALS)
]


def author(model: str, kind: str = "dense", source: str = "videococa") -> Author:
    return Author(source=source, model=model, prompt="", kind=kind)


def test_each_author_and_kind_is_a_group() -> None:
    found = by_author(ROWS)
    assert set(found) == {
        author("", "original", "manifest"),
        author("one"),
        author("one", "short"),
        author("two"),
    }
    assert all(len(said) == 3 for said in found.values())


def test_figures_are_those_of_the_captions() -> None:
    found = by_author(ROWS)
    one, two = assess(found[author("one")]), assess(found[author("two")])
    assert one is not None
    assert two is not None
    assert one.words == pytest.approx((5, 5.2, 6, 8.4, 9))
    assert one.logprob == pytest.approx(-0.5)
    assert one.agreement == pytest.approx(0.1)
    assert (one.flawed, one.boilerplate, one.repeated) == (0, 0, 0)
    assert one.distinct_2 == 1
    assert two.flaws == {"boilerplate": 1}
    assert two.flawed == two.boilerplate == pytest.approx(1 / 3)
    assert two.repeated == 1
    assert two.distinct_2 == pytest.approx(1 / 3), "four pairs, each three times"
    assert two.logprob is two.agreement is None


def test_windows_are_counted_and_left_out() -> None:
    window = said_by("one", "a far longer caption of one window alone", whole=False, end_s=2.0)
    row = ClipCaptions(clip_id="c", captions=(said_by("one", RIGHT), window, window))
    found = assess(by_author([row])[author("one")])
    assert found is not None
    assert (found.captions, found.windows, found.words[-1]) == (1, 2, 5)
    only = ClipCaptions(clip_id="c", captions=(window,))
    assert assess(by_author([only])[author("one")]) is None


def test_one_clip_captioned_twice_alike_repeats_nobody() -> None:
    takes = (said_by("one", RIGHT), said_by("one", RIGHT.title(), logprob=-1.0))
    found = assess(by_author([ClipCaptions(clip_id="c", captions=takes)])[author("one")])
    assert found is not None
    assert (found.captions, found.repeated) == (2, 0)
    silent = ClipCaptions(clip_id="c", captions=(said_by("one", "", flaw="empty"),))
    found = assess(by_author([silent])[author("one")])
    assert found is not None
    assert (found.distinct_2, found.flaws) == (0, {"empty": 1})


def test_the_originals_of_the_same_kind_are_the_reference() -> None:
    said = by_author(ROWS)
    same, apart = (against_originals(said, author(model)) for model in ("one", "two"))
    assert same is not None
    assert apart is not None
    assert (same.bleu_4, same.rouge_l, same.cider) == pytest.approx((1, 1, 10))
    references = {f"clip-{i}": [text] for i, text in enumerate(ORIGINALS)}
    assert apart == score(dict.fromkeys(references, RIGHT), references)
    assert 0 < apart.rouge_l < 1
    assert against_originals(said, author("", "original", "manifest")) is None
    dense = Caption(kind="dense", text="no word in common", source="manifest")
    said = by_author([*ROWS, ClipCaptions(clip_id="clip-0", captions=(dense,))])
    of_kind = against_originals(said, author("one"))
    assert of_kind is not None
    assert (of_kind.clips, of_kind.rouge_l) == (1, 0)
    unknown = by_author([ClipCaptions(clip_id="c", captions=(said_by("one", RIGHT),))])
    assert against_originals(unknown, author("one")) is None
