"""The cached decoder is the uncached forward; draws belong to clips, not to batches."""

from dataclasses import replace

import pytest
import torch

from openreel.pipeline.errors import InputError
from openreel.recaption.decoding import CachedReader, Decoding, nucleus, write_captions
from openreel.recaption.tokenizer import CaptionTokenizer
from openreel.recaption.videococa import VideoCoCa, tiny

WORDS = CaptionTokenizer.fit(
    ["a red ball moves right across a dark striped background . the camera is still"],
    context_length=16,
)


@pytest.fixture(scope="module")
def model() -> VideoCoCa:
    """Untrained, with an output wide awake: captions differ between clips and run long."""
    torch.manual_seed(3)
    small = replace(tiny(WORDS.vocab_size, WORDS.context_length), image_size=16, width=48)
    model = VideoCoCa(replace(small, text_layers=2)).eval()
    with torch.no_grad():
        model.coca.text_decoder.text_projection *= 4
        for block in model.coca.text_decoder.cross_attn:
            block.attn.out_proj.weight *= 20
    return model


@pytest.fixture(scope="module")
def seen_BQE(model: VideoCoCa) -> torch.Tensor:
    torch.manual_seed(4)
    with torch.no_grad():
        seen: torch.Tensor = model.encode_video(torch.randn(6, 4, 3, 16, 16))[1]
    return seen


CLIPS = [f"clip-{i}" for i in range(6)]


def test_cached_steps_equal_the_uncached_forward(model: VideoCoCa, seen_BQE: torch.Tensor) -> None:
    text_BK = torch.randint(0, WORDS.vocab_size, (6, WORDS.context_length))
    text_BK[:, 0] = WORDS.start("dense")
    text_BK[text_BK == WORDS.pad] = WORDS.end  # a pad would be hidden from the class token only
    reader = CachedReader(model, seen_BQE)
    with torch.no_grad():
        whole_BKV = model.read(seen_BQE, model.encode_text(text_BK)[1])
        for k in range(WORDS.context_length):
            torch.testing.assert_close(
                reader.step(text_BK[:, k]), whole_BKV[:, k], atol=2e-4, rtol=2e-4
            )


def slow_greedy(model: VideoCoCa, seen_1QE: torch.Tensor, kind: str) -> tuple[list[int], float]:
    """The definition: run the whole model again for each id."""
    ids, logprobs = [WORDS.start(kind)], []
    while len(ids) < WORDS.context_length and ids[-1] != WORDS.end:
        text_1K = torch.full((1, WORDS.context_length), WORDS.pad)
        text_1K[0, : len(ids)] = torch.tensor(ids)
        logits_V = model.read(seen_1QE, model.encode_text(text_1K)[1])[0, len(ids) - 1]
        logits_V[list(WORDS.unspeakable)] = float("-inf")
        ids.append(int(logits_V.argmax()))
        logprobs.append(float(logits_V.log_softmax(0)[ids[-1]]))
    return ids[1:], sum(logprobs) / len(logprobs)


@pytest.mark.parametrize("kind", ["short", "dense"])
def test_greedy_captions_equal_the_slow_decoder(
    model: VideoCoCa, seen_BQE: torch.Tensor, kind: str
) -> None:
    written = write_captions(model, WORDS, seen_BQE, kind, CLIPS, Decoding())
    assert len({w.text for w in written}) > 1, "all clips read alike: nothing was compared"
    for b, caption in enumerate(written):
        with torch.no_grad():
            ids, logprob = slow_greedy(model, seen_BQE[b : b + 1], kind)
        assert list(caption.ids) == ids
        assert caption.logprob == pytest.approx(logprob, abs=1e-4)
        assert caption.ended == (ids[-1] == WORDS.end)


def test_the_kind_changes_the_caption(model: VideoCoCa, seen_BQE: torch.Tensor) -> None:
    short, dense = (
        write_captions(model, WORDS, seen_BQE, k, CLIPS, Decoding()) for k in ("short", "dense")
    )
    assert any(s.text != d.text for s, d in zip(short, dense, strict=True))


def test_a_sampled_caption_does_not_depend_on_its_batch(
    model: VideoCoCa, seen_BQE: torch.Tensor
) -> None:
    decoding = Decoding(top_p=0.9, temperature=2.0, seed=5)
    together = write_captions(model, WORDS, seen_BQE, "dense", CLIPS, decoding)
    for b in (4, 1):
        (alone,) = write_captions(model, WORDS, seen_BQE[b : b + 1], "dense", [CLIPS[b]], decoding)
        assert alone.ids == together[b].ids
    other = write_captions(model, WORDS, seen_BQE, "dense", CLIPS, replace(decoding, seed=6))
    greedy = write_captions(model, WORDS, seen_BQE, "dense", CLIPS, Decoding())
    assert [w.ids for w in other] != [w.ids for w in together] != [w.ids for w in greedy]


def test_the_nucleus_is_the_smallest_set_that_holds_top_p() -> None:
    chances = torch.tensor([0.1, 0.5, 0.15, 0.25])
    draws = {nucleus(chances.log(), Decoding(top_p=0.7), u / 1000) for u in range(1000)}
    assert draws == {1, 3}  # 0.5 alone is not enough, 0.5 + 0.25 is
    counts = [nucleus(chances.log(), Decoding(top_p=1.0), (u + 0.5) / 1000) for u in range(1000)]
    for i, chance in enumerate(chances.tolist()):
        assert counts.count(i) == pytest.approx(1000 * chance, abs=1.5)


def test_mistakes_are_named() -> None:
    with pytest.raises(InputError, match=r"top_p: got 1\.5"):
        Decoding(top_p=1.5)
    with pytest.raises(InputError, match="temperature: got 0"):
        Decoding(temperature=0)
