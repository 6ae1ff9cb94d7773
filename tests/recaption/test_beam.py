"""Beam search finds what an exhaustive search finds, and what transformers' own search finds."""

import itertools
from typing import Any

import pytest
import torch

from openreel.recaption.beam import beam_search, closed_up
from openreel.recaption.decoding import Decoding, write_captions
from openreel.recaption.reader import CachedReader
from openreel.recaption.tokenizer import CaptionTokenizer
from openreel.recaption.videococa import VideoCoCa
from tests.recaption.test_decoding import CLIPS, WORDS, awake, tokens_of

FEW = CaptionTokenizer.fit(["red ball rolls"], context_length=6)
ENDING = 0.6
"""captions end at various lengths"""


def logprobs(
    model: VideoCoCa, words: CaptionTokenizer, seen_1QE: torch.Tensor, ids_RK: torch.Tensor
) -> torch.Tensor:
    """(R, K, V), unspeakable ids left out, from the uncached forward of (start, ids)."""
    start_R1 = torch.full((len(ids_RK), 1), words.start("dense"))
    text_RK = torch.cat([start_R1, ids_RK], 1)[:, : words.context_length]
    with torch.no_grad():
        tokens_RKE = model.encode_text(text_RK)[1]
        logits_RKV = model.read(seen_1QE.expand(len(ids_RK), -1, -1), tokens_RKE)
    logits_RKV[..., list(words.unspeakable)] = float("-inf")
    return logits_RKV.log_softmax(-1)


def exhaustive(
    model: VideoCoCa, seen_1QE: torch.Tensor, penalty: float
) -> tuple[tuple[int, ...], float]:
    """The best of all captions that end within the context, and its mean log-probability."""
    spoken = [i for i in range(FEW.vocab_size) if i not in (*FEW.unspeakable, FEW.end)]
    best: tuple[float, tuple[int, ...], float] = (float("-inf"), (), 0.0)
    for length in range(1, FEW.context_length):
        rows = [(*row, FEW.end) for row in itertools.product(spoken, repeat=length - 1)]
        ids_RK = torch.tensor(rows)
        chance = logprobs(model, FEW, seen_1QE, ids_RK)[:, :length]
        total_R = chance.gather(2, ids_RK[:, :, None])[..., 0].double().sum(1)
        top = int(total_R.argmax())
        total = float(total_R[top])
        best = max(best, (total / length**penalty, rows[top], total / length))
    return best[1], best[2]


@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
def test_with_room_for_all_captions_the_best_of_all_is_found(penalty: float) -> None:
    model = awake(FEW, ending=-1.0)
    seen_BQE = tokens_of(model, len(CLIPS))
    # 3 words, 5 ids: fewer than 3 ** 5 captions go on at once, and none is ever dropped.
    decoding = Decoding(beams=3**5, length_penalty=penalty)
    written = write_captions(model, FEW, seen_BQE, "dense", CLIPS, decoding)
    for b, caption in enumerate(written):
        ids, logprob = exhaustive(model, seen_BQE[b : b + 1], penalty)
        assert caption.ids == ids
        assert caption.logprob == pytest.approx(logprob, abs=1e-5)
    assert len({w.ids for w in written}) > 1


def by_transformers(
    model: VideoCoCa, seen_1QE: torch.Tensor, beams: int, penalty: float
) -> tuple[list[int], float]:
    """transformers' beam search over the uncached model: ids and score."""
    from transformers import GenerationConfig, GenerationMixin, PretrainedConfig, PreTrainedModel
    from transformers.modeling_outputs import CausalLMOutput

    class Config(PretrainedConfig):  # type: ignore[misc]
        model_type = "captions"

    class Captions(PreTrainedModel, GenerationMixin):  # type: ignore[misc]
        config_class = Config

        def __init__(self) -> None:
            config = Config(vocab_size=WORDS.vocab_size, num_hidden_layers=1)
            super().__init__(config)
            self.anchor = torch.nn.Parameter(torch.zeros(1))

        def prepare_inputs_for_generation(self, input_ids: torch.Tensor, **_: Any) -> Any:
            return {"input_ids": input_ids}

        def forward(self, input_ids: torch.Tensor, **_: Any) -> CausalLMOutput:
            return CausalLMOutput(logits=logprobs(model, WORDS, seen_1QE, input_ids[:, 1:]))

    settings = GenerationConfig(
        num_beams=beams,
        do_sample=False,
        use_cache=False,
        early_stopping=True,
        length_penalty=penalty,
        max_length=WORDS.context_length,
        pad_token_id=WORDS.pad,
        eos_token_id=WORDS.end,
        output_scores=True,
        return_dict_in_generate=True,
    )
    start_11 = torch.tensor([[WORDS.start("dense")]])
    found = Captions().eval().generate(start_11, generation_config=settings)
    ids = [i for i in found.sequences[0, 1:].tolist() if i != WORDS.pad]
    return ids, float(found.sequences_scores[0])


@pytest.mark.parametrize("beams", [2, 5])
@pytest.mark.parametrize("penalty", [0.0, 1.0, 1.5])
def test_the_result_is_that_of_transformers(beams: int, penalty: float) -> None:
    model = awake(WORDS, ending=ENDING)
    seen_BQE = tokens_of(model, len(CLIPS))
    decoding = Decoding(beams=beams, length_penalty=penalty)
    written = write_captions(model, WORDS, seen_BQE, "dense", CLIPS, decoding)
    greedy = write_captions(model, WORDS, seen_BQE, "dense", CLIPS, Decoding())
    ended = 0
    for b, caption in enumerate(written):
        ids, score = by_transformers(model, seen_BQE[b : b + 1], beams, penalty)
        if ids[-1] == WORDS.end:  # ours prefers an ended caption to one that is cut off
            ended += 1
            assert list(caption.ids) == ids
            length = len(ids)
            assert caption.logprob * length / length**penalty == pytest.approx(score, abs=1e-4)
    assert ended >= 4, "hardly any caption ended: little was compared"
    assert [w.ids for w in written] != [w.ids for w in greedy], "beams changed nothing"
    assert len({len(w.ids) for w in written}) > 1, "all ended at once: none left the batch early"


def test_one_beam_is_the_greedy_decoder() -> None:
    model = awake(WORDS, ending=ENDING)
    seen_BQE = tokens_of(model, len(CLIPS))
    greedy = write_captions(model, WORDS, seen_BQE, "dense", CLIPS, Decoding())
    with torch.no_grad():
        found = beam_search(
            CachedReader(model, seen_BQE),
            torch.full((len(CLIPS),), WORDS.start("dense")),
            beams=1,
            length_penalty=1.0,
            end=WORDS.end,
            unspeakable=torch.tensor(WORDS.unspeakable),
            steps=WORDS.context_length - 1,
        )
    for ids_K, caption in zip(found.ids_BK.tolist(), greedy, strict=True):
        assert tuple(i for i in ids_K if i >= 0) == caption.ids
    assert any(w.ended for w in greedy)


def test_a_clips_caption_does_not_depend_on_its_neighbours() -> None:
    model = awake(WORDS, ending=ENDING)
    seen_BQE = tokens_of(model, len(CLIPS))
    decoding = Decoding(beams=3)
    together = write_captions(model, WORDS, seen_BQE, "dense", CLIPS, decoding)
    for b in range(len(CLIPS)):
        (alone,) = write_captions(model, WORDS, seen_BQE[b : b + 1], "dense", CLIPS[:1], decoding)
        assert alone.ids == together[b].ids
        assert alone.logprob == pytest.approx(together[b].logprob, abs=1e-5)


def test_the_last_takes_an_ended_ones_place() -> None:
    for count in range(1, 7):
        for pattern in itertools.product([False, True], repeat=count):
            rows = closed_up(torch.tensor(pattern)).tolist()
            live = [i for i, ended in enumerate(pattern) if not ended]
            assert sorted(rows) == live
            moved = sum(row != i for i, row in enumerate(rows))
            assert moved == sum(i >= len(live) for i in live), "as few as can be"
