"""A local language model as expander: its mistakes fall back, its draws move no other noise."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from openreel.pipeline.errors import InputError
from openreel.recaption.language import LanguageExpander

TEMPLATE = "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} {% endfor %}assistant"
WORDS = [
    *("system", "user", "assistant", "a", "red", "ball", "moves", "right", "left", "the"),
    *("camera", "pans", "still", "dog", "man"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Qwen2 of a few kilobytes, built without a network."""
    path = tmp_path_factory.mktemp("qwen")
    words = {w: i for i, w in enumerate(["<pad>", "<eos>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    )
    fast.chat_template = TEMPLATE
    fast.save_pretrained(path)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    config = Qwen2Config(vocab_size=len(words), **sizes, **heads, eos_token_id=1, pad_token_id=0)
    Qwen2ForCausalLM(config).save_pretrained(path)
    return path


def test_a_refused_expansion_falls_back_to_the_original_with_reasons(folder: Path) -> None:
    expander = LanguageExpander(folder, max_new_tokens=12)
    expansion = expander.expand('a red ball moves right past "ZEBRA"')
    assert expansion.status == "fell back"
    assert expansion.text == expansion.original
    assert any("quoted text lost" in broken for broken in expansion.violations)
    assert expansion.backend.startswith("language:")


def test_the_same_prompt_gives_the_same_bytes_and_the_global_generator_stays(folder: Path) -> None:
    expander = LanguageExpander(folder, max_new_tokens=12)
    torch.manual_seed(7)
    state = torch.get_rng_state()
    first = expander.expand("a dog")
    torch.manual_seed(8)
    assert expander.expand("a dog") == first
    torch.manual_seed(7)
    expander.expand("a red ball")
    assert torch.equal(torch.get_rng_state(), state)


def test_a_faithful_answer_is_used_and_thoughts_are_dropped(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expander = LanguageExpander(folder)
    answer = "<think>a man? no</think> A large red ball moves right."
    monkeypatch.setattr(expander.tokenizer, "decode", lambda *_, **__: answer)
    monkeypatch.setattr(expander.model, "generate", lambda **inputs: inputs["input_ids"])
    expansion = expander.expand("a red ball moves right")
    assert (expansion.status, expansion.text) == ("expanded", "A large red ball moves right.")


def test_one_attempt_to_mend_names_the_mistake(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expander, asked = LanguageExpander(folder), []
    answers = iter(["A red ball moves left.", "A red ball moves right."])

    def answer(chat: list[dict[str, str]]) -> str:
        asked.append(chat[-1]["content"])
        return next(answers)

    monkeypatch.setattr(expander, "_answer", answer)
    assert expander.expand("a red ball moves right").status == "expanded"
    assert "direction lost: right" in asked[1]


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expander: got"):
        LanguageExpander(tmp_path)
