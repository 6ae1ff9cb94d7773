"""Words survive the trip through ids; both layouts keep what open_clip expects."""

import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer

from openreel.pipeline.errors import InputError
from openreel.recaption.caption import KINDS
from openreel.recaption.tokenizer import BPE_END, BPE_START, CaptionTokenizer, detokenise

CORPUS = [
    "a red ball moves right",
    "A large red ball moves right across a dark striped background. The camera is still.",
]


@pytest.mark.parametrize("text", CORPUS)
@pytest.mark.parametrize("published", [True, False])
def test_what_is_encoded_is_decoded(text: str, published: bool) -> None:
    tokenizer = CaptionTokenizer(context_length=40)
    if not published:
        tokenizer = CaptionTokenizer.fit(CORPUS, context_length=40)
    (row_K,) = tokenizer.encode([text], ["dense"])
    assert tokenizer.decode(row_K.tolist()) == text


def test_the_compact_layout_is_a_renaming_of_the_published_one() -> None:
    compact = CaptionTokenizer.fit(CORPUS, context_length=40)
    assert compact.vocab_size < 40
    for text in CORPUS:
        published = CaptionTokenizer(context_length=40).words(text)
        assert [compact.bpe_ids[i - 6] for i in compact.words(text)] == published


def test_an_original_caption_in_the_published_layout_is_open_clips() -> None:
    oracle = SimpleTokenizer(context_length=40)(CORPUS)
    ours = CaptionTokenizer(context_length=40).encode(CORPUS, ["original"] * 2)
    assert torch.equal(ours, oracle)
    assert int(ours[0, 0]) == BPE_START
    assert BPE_END in ours[0]


def test_each_kind_begins_with_an_id_of_its_own_that_no_caption_contains() -> None:
    for tokenizer in (CaptionTokenizer(context_length=9), CaptionTokenizer.fit(CORPUS, 9)):
        starts = {tokenizer.start(kind) for kind in KINDS}
        assert len(starts) == len(KINDS)
        assert starts <= set(tokenizer.unspeakable)
        assert tokenizer.end not in tokenizer.unspeakable
        assert max(starts) < tokenizer.vocab_size


def test_a_word_outside_the_corpus_is_counted_not_lost_in_silence() -> None:
    tokenizer = CaptionTokenizer.fit(CORPUS, context_length=40)
    assert tokenizer.num_unknown("a red ball") == 0
    assert tokenizer.num_unknown("a red zebra") >= 1
    assert CaptionTokenizer(context_length=40).num_unknown("a red zebra") == 0


def test_too_long_a_text_is_cut_and_still_ends() -> None:
    tokenizer = CaptionTokenizer.fit(CORPUS, context_length=6)
    assert tokenizer.overflows(CORPUS[1])
    (row_K,) = tokenizer.encode([CORPUS[1]], ["dense"])
    assert int(row_K[-1]) == tokenizer.end
    assert not tokenizer.overflows("a red ball")


@pytest.mark.parametrize(
    ("spaced", "clean"),
    [
        ("the camera is still . it is 2 4 fps .", "The camera is still. It is 24 fps."),
        ("a close - up of a ball", "a close-up of a ball"),
        ("at 1 . 5 m , it 's near ( very near ) .", "At 1.5 m, it's near (very near)."),
        ("a red ball moves right", "a red ball moves right"),
        ("", ""),
    ],
)
def test_detokenised_text_reads_like_writing(spaced: str, clean: str) -> None:
    assert detokenise(spaced) == clean


def test_mistakes_are_named() -> None:
    with pytest.raises(InputError, match="kind: got 'long'; accepted: original, short, dense"):
        CaptionTokenizer(context_length=9).start("long")
    with pytest.raises(InputError, match="corpus"):
        CaptionTokenizer.fit(["", " "], context_length=9)
    with pytest.raises(InputError, match="context_length: got 2"):
        CaptionTokenizer(context_length=2)
