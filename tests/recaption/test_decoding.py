"""The cached decoder is the uncached forward; draws belong to clips, not to batches."""

from dataclasses import replace

import pytest
import torch

from openreel.pipeline.errors import InputError
from openreel.recaption.decoding import Decoding, nucleus, write_captions
from openreel.recaption.reader import CachedReader
from openreel.recaption.tokenizer import CaptionTokenizer
from openreel.recaption.videococa import VideoCoCa, tiny

WORDS = CaptionTokenizer.fit(
    ["a red ball moves right across a dark striped background . the camera is still"],
    context_length=16,
)


def awake(words: CaptionTokenizer, ending: float = 0.0) -> VideoCoCa:
    """Untrained, with an output wide awake: captions differ between clips and in length.

    ending: how much likelier than others the end is.
    """
    torch.manual_seed(3)
    small = replace(tiny(words.vocab_size, words.context_length), image_size=16, width=48)
    model = VideoCoCa(replace(small, text_layers=2)).eval()
    with torch.no_grad():
        model.coca.text_decoder.text_projection *= 4
        model.coca.text_decoder.text_projection[:, words.end] += ending
        model.coca.text_decoder.ln_final.bias += 0.1
        model.coca.text.token_embedding.weight *= 20
        model.coca.text.positional_embedding *= 40
        for block in model.coca.text_decoder.cross_attn:
            block.attn.out_proj.weight *= 10
    return model


def tokens_of(model: VideoCoCa, clips: int) -> torch.Tensor:
    torch.manual_seed(4)
    with torch.no_grad():
        seen: torch.Tensor = model.encode_video(torch.randn(clips, 4, 3, 16, 16))[1]
    return seen


@pytest.fixture(scope="module")
def model() -> VideoCoCa:
    return awake(WORDS)


@pytest.fixture(scope="module")
def seen_BQE(model: VideoCoCa) -> torch.Tensor:
    return tokens_of(model, len(CLIPS))


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


def test_clips_that_leave_take_nothing_with_them(model: VideoCoCa, seen_BQE: torch.Tensor) -> None:
    """After keep and follow, each row is the uncached forward of its own clip and ids."""
    torch.manual_seed(5)
    reader, beams = CachedReader(model, seen_BQE, beams=2), 2
    clips_R = torch.arange(6).repeat_interleave(beams)
    ids_RK = torch.empty(12, 0, dtype=torch.long)
    orders = {2: [0, 5, 2, 3], 4: [3, 1], 5: [1, 0], 8: [0]}
    for k in range(12):
        latest_R = torch.randint(8, WORDS.vocab_size, (len(clips_R),))
        ids_RK = torch.cat([ids_RK, latest_R[:, None]], 1)
        with torch.no_grad():
            tokens_RKE = model.encode_text(torch.nn.functional.pad(ids_RK, (0, 15 - k)))[1]
            whole_RV = model.read(seen_BQE[clips_R], tokens_RKE)[:, k]
            torch.testing.assert_close(reader.step(latest_R), whole_RV, atol=2e-4, rtol=2e-4)
        parents_BW = torch.randint(0, beams, (len(ids_RK) // beams, beams))
        reader.follow(parents_BW)
        rows_R = (torch.arange(len(parents_BW))[:, None] * beams + parents_BW).flatten()
        ids_RK, clips_R = ids_RK[rows_R], clips_R[rows_R]
        if k in orders:
            kept = torch.tensor(orders[k])
            reader.keep(kept)
            rows_R = (kept[:, None] * beams + torch.arange(beams)).flatten()
            ids_RK, clips_R = ids_RK[rows_R], clips_R[rows_R]
    assert len(clips_R) == beams, "no clip left: nothing was tested"


def slow_greedy(
    model: VideoCoCa, words: CaptionTokenizer, seen_1QE: torch.Tensor, kind: str
) -> tuple[list[int], float]:
    """The definition: run the whole model again for each id."""
    ids, logprobs = [words.start(kind)], []
    while len(ids) < words.context_length and ids[-1] != words.end:
        text_1K = torch.full((1, words.context_length), words.pad)
        text_1K[0, : len(ids)] = torch.tensor(ids)
        with torch.no_grad():
            logits_V = model.read(seen_1QE, model.encode_text(text_1K)[1])[0, len(ids) - 1]
        logits_V[list(words.unspeakable)] = float("-inf")
        ids.append(int(logits_V.argmax()))
        logprobs.append(float(logits_V.log_softmax(0)[ids[-1]]))
    return ids[1:], sum(logprobs) / len(logprobs)


@pytest.mark.parametrize("kind", ["short", "dense"])
@pytest.mark.parametrize("ending", [0.0, 0.4])
def test_greedy_captions_equal_the_slow_decoder(kind: str, ending: float) -> None:
    model = awake(WORDS, ending)
    seen_BQE = tokens_of(model, len(CLIPS))
    written = write_captions(model, WORDS, seen_BQE, kind, CLIPS, Decoding())
    assert len({w.text for w in written}) > 1, "all clips read alike: nothing was compared"
    if ending:
        assert len({len(w.ids) for w in written}) > 2, "no clip left the batch before the others"
    for b, caption in enumerate(written):
        ids, logprob = slow_greedy(model, WORDS, seen_BQE[b : b + 1], kind)
        assert list(caption.ids) == ids
        assert caption.logprob == pytest.approx(logprob, abs=1e-4)
        assert caption.ended == (ids[-1] == WORDS.end)


def test_a_finished_clip_costs_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    model = awake(WORDS, ending=0.4)
    rows: list[int] = []
    step = CachedReader.step

    def counted(reader: CachedReader, ids_R: torch.Tensor) -> torch.Tensor:
        rows.append(len(ids_R))
        return step(reader, ids_R)

    monkeypatch.setattr(CachedReader, "step", counted)
    seen_BQE = tokens_of(model, len(CLIPS))
    written = write_captions(model, WORDS, seen_BQE, "dense", CLIPS, Decoding())
    lengths = [len(w.ids) for w in written]
    assert sum(rows) == sum(lengths) < len(CLIPS) * max(lengths)
    assert write_captions(model, WORDS, seen_BQE[:0], "dense", [], Decoding()) == []


@pytest.mark.parametrize("beams", [1, 3])
def test_a_context_beyond_open_clips_76_is_used(beams: int) -> None:
    words = replace(WORDS, context_length=120)
    model = awake(words, ending=-20.0)
    seen_BQE = tokens_of(model, 2)
    written = write_captions(model, words, seen_BQE, "dense", CLIPS[:2], Decoding(beams=beams))
    for b, caption in enumerate(written):
        assert len(caption.ids) == 119, "the caption ended early: the long context was not used"
        assert not caption.ended
        if beams == 1 and b == 0:
            assert list(caption.ids) == slow_greedy(model, words, seen_BQE[b : b + 1], "dense")[0]


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

    def drawn(top_p: float, uniform_B: torch.Tensor) -> list[int]:
        logits_BV = chances.log().expand(len(uniform_B), -1)
        return nucleus(logits_BV, Decoding(top_p=top_p), uniform_B).tolist()

    assert set(drawn(0.7, torch.arange(1000) / 1000)) == {1, 3}  # 0.5 is not enough, 0.5 + 0.25 is
    counts = drawn(1.0, (torch.arange(1000) + 0.5) / 1000)
    for i, chance in enumerate(chances.tolist()):
        assert counts.count(i) == pytest.approx(1000 * chance, abs=1.5)


def test_mistakes_are_named() -> None:
    with pytest.raises(InputError, match=r"top_p: got 1\.5"):
        Decoding(top_p=1.5)
    with pytest.raises(InputError, match="temperature: got 0"):
        Decoding(temperature=0)
    with pytest.raises(InputError, match="beams: got 0"):
        Decoding(beams=0)
    with pytest.raises(InputError, match="beams: got 4"):
        Decoding(beams=4, top_p=0.9)
    with pytest.raises(InputError, match="length_penalty: got nan"):
        Decoding(length_penalty=float("nan"))
