"""The expander of one's own: a small causal language model for the words of one data set.

A folder holds what transformers loads by itself (weights, tokenizer, chat template) and
expander.json: the captions of the style, whose lengths and words the guards go by.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from openreel.pipeline.errors import InputError
from openreel.recaption.language import LocalConfig, LocalModel, Script
from openreel.recaption.pairs import Pair

STYLE = "expander.json"
STYLE_SIZE = 2000
"""captions and pairs that are kept to show a style"""
PAD, END, SHORT, DENSE = "<pad>", "<end>", "<short>", "<dense>"
TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'user' %}<short>{{ m['content'] }}"
    "{% else %}<dense>{{ m['content'] }}<end>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<dense>{% endif %}"
)


@dataclass(frozen=True, kw_only=True)
class Style:
    """What is known of the captions that a denoiser was trained on."""

    dense: tuple[str, ...] = ()
    pairs: tuple[Pair, ...] = ()

    @staticmethod
    def of(dense: Iterable[str], pairs: Iterable[Pair] = ()) -> "Style":
        """At most STYLE_SIZE of each, spread evenly over the alphabet."""
        return Style(dense=_spread(sorted(set(dense))), pairs=_spread(sorted(set(pairs))))

    def write(self, folder: Path) -> None:
        """Into an existing folder."""
        (folder / STYLE).write_text(json.dumps(asdict(self), indent=0), encoding="utf-8")

    @staticmethod
    def read(folder: Path) -> "Style":
        """Of a bundle or an expander. Raises InputError for another folder."""
        try:
            found = json.loads((folder / STYLE).read_text(encoding="utf-8"))
            pairs = tuple(Pair(str(p["short"]), str(p["dense"])) for p in found["pairs"])
            return Style(dense=tuple(map(str, found["dense"])), pairs=pairs)
        except (OSError, ValueError, KeyError, TypeError) as error:
            accepted = f"a bundle or an expander's folder, with {STYLE} ({error})"
            raise InputError("model", str(folder), accepted) from error


def _spread(found: Sequence[Any]) -> tuple[Any, ...]:
    count = min(STYLE_SIZE, len(found))
    return tuple(found[i * len(found) // count] for i in range(count))


@dataclass(frozen=True, kw_only=True)
class ExpanderSizes:
    """A new model's sizes; the defaults have 0.9 million parameters."""

    dim: int = 128
    depth: int = 4
    num_heads: int = 4
    vocabulary: int = 1024
    """at most: bytes, and what the captions often put together"""
    context: int = 512
    """tokens of a prompt and its expansion"""

    def __post_init__(self) -> None:
        for name in ("dim", "depth", "num_heads", "context"):
            if getattr(self, name) < 1:
                raise InputError(name, getattr(self, name), "1 or more")
        if self.dim % (2 * self.num_heads):
            raise InputError("dim", self.dim, f"a multiple of {2 * self.num_heads}")
        if self.vocabulary < 300:
            raise InputError("vocabulary", self.vocabulary, "300 or more: 256 bytes and marks")


@dataclass(frozen=True)
class LanguageModel:
    """A model and its tokenizer, which has a chat template and an end."""

    model: Any
    tokenizer: Any


def new_language_model(corpus: Sequence[str], sizes: ExpanderSizes, *, seed: int) -> LanguageModel:
    """An untrained model for the words of a corpus. It can read and write any text, by bytes."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = _tokenizer(corpus, sizes.vocabulary)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=sizes.dim,
        intermediate_size=3 * sizes.dim,
        num_hidden_layers=sizes.depth,
        num_attention_heads=sizes.num_heads,
        max_position_embeddings=sizes.context,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LanguageModel(LlamaForCausalLM(config), tokenizer)


def _tokenizer(corpus: Sequence[str], size: int) -> Any:
    """Byte-level BPE: no text is unknown, and joins come in a fixed order."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[PAD, END, SHORT, DENSE],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sorted(set(corpus)), trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[SHORT, DENSE],
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = TEMPLATE
    return fast


def pretrained(folder: Path) -> LanguageModel:
    """A chat model to go on from. Raises InputError for a folder without one."""
    from openreel.recaption.language import loaded

    tokenizer, model = loaded(folder, "cpu")
    if tokenizer.eos_token_id is None:
        raise InputError("init", str(folder), "a model whose tokenizer has an end of text")
    return LanguageModel(model.float(), tokenizer)


def own_model(folder: Path, config: LocalConfig | None = None) -> LocalModel:
    """An expander that was trained here. Raises InputError for another folder."""
    if not (folder / STYLE).is_file():
        raise InputError("expander", str(folder), "a folder that `openreel train expander` wrote")
    return LocalModel(folder, Script(instruction=""), config)
