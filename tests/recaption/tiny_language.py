"""A chat model of a few kilobytes with random weights, built without a network."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

TEMPLATE = (
    "{% for m in messages %}<|start|>{{ m['role'] }} {{ m['content'] }}<|end|>{% endfor %}"
    "<|start|>assistant "
)


def tiny_language(folder: Path, context: int = 4096) -> Path:
    """Fill a folder with a Qwen2 that reads bytes."""
    special = ["<|start|>", "<|end|>", "<pad>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=special[2],
        eos_token=special[1],
        additional_special_tokens=special[:1],
    )
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
        heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
        ends = {"eos_token_id": fast.eos_token_id, "pad_token_id": fast.pad_token_id}
        config = Qwen2Config(
            vocab_size=len(fast), max_position_embeddings=context, **sizes, **heads, **ends
        )
        Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder
