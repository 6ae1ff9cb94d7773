"""Models of transformers that answer about pictures, random and small, built without a network."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SEE, SEEN, IMAGE, VIDEO = "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"
CORPUS = ["a red ball moves right across a dark striped background. The camera is still."]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for c in m.content %}"
    "{% if c.type == 'text' %}{{ c.text }}"
    "{% else %}<|vision_start|><|{{ c.type }}_pad|><|vision_end|>{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
}

VISION: dict[str, Any] = {
    "depth": 2,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_heads": 4,
    "patch_size": 4,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "out_hidden_size": 32,
}
"""of both Qwens"""


def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-pair encoding of 300 ids or so, trained on a sentence; every text can be written."""
    pairs = Tokenizer(models.BPE())
    pairs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    pairs.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=[PAD, START, END, SEE, SEEN, IMAGE, VIDEO],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    pairs.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=pairs, eos_token=END, pad_token=PAD)


def qwen(folder: Path, seed: int = 0) -> Path:
    """A Qwen2.5-VL: video and pictures of any aspect, positions in true time."""
    words = tokenizer()
    ids = words.convert_tokens_to_ids
    special = {"eos_token_id": ids(END), "pad_token_id": ids(PAD), "bos_token_id": None}
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}
    config = Qwen2_5_VLConfig(
        text_config=TEXT | special | {"vocab_size": len(words), "rope_parameters": rope},
        vision_config=VISION | {"window_size": 16, "fullatt_block_indexes": [1]},
        image_token_id=ids(IMAGE),
        video_token_id=ids(VIDEO),
        vision_start_token_id=ids(SEE),
        vision_end_token_id=ids(SEEN),
    )
    sizes = {"patch_size": 4, "merge_size": 2, "min_pixels": 64, "max_pixels": 4096}
    processor = Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(**sizes, temporal_patch_size=2),
        tokenizer=words,
        video_processor=Qwen2VLVideoProcessor(**sizes, temporal_patch_size=2),
        chat_template=TEMPLATE,
    )
    return _saved(folder, Qwen2_5_VLForConditionalGeneration, config, processor, seed)


def qwen3(folder: Path, seed: int = 0) -> Path:
    """A Qwen3-VL: writes each moment's second into the question."""
    words = tokenizer()
    ids = words.convert_tokens_to_ids
    special = {"eos_token_id": ids(END), "pad_token_id": ids(PAD), "bos_token_id": None}
    rope = {"rope_type": "default", "mrope_section": [2, 1, 1], "mrope_interleaved": True}
    config = Qwen3VLConfig(
        text_config=TEXT
        | special
        | {"head_dim": 8, "vocab_size": len(words), "rope_parameters": rope | {"rope_theta": 1e4}},
        vision_config=VISION | {"num_position_embeddings": 64, "deepstack_visual_indexes": [0]},
        image_token_id=ids(IMAGE),
        video_token_id=ids(VIDEO),
        vision_start_token_id=ids(SEE),
        vision_end_token_id=ids(SEEN),
    )
    sizes = {"patch_size": 4, "merge_size": 2, "temporal_patch_size": 2}
    area = {"shortest_edge": 64, "longest_edge": 4096 * 10}
    processor = Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(**sizes, min_pixels=64, max_pixels=4096),
        tokenizer=words,
        video_processor=Qwen3VLVideoProcessor(**sizes, size=area),
        chat_template=TEMPLATE,
    )
    return _saved(folder, Qwen3VLForConditionalGeneration, config, processor, seed)


def llava(folder: Path, seed: int = 0) -> Path:
    """A LLaVA: square pictures only, no video."""
    words = tokenizer()
    ids = words.convert_tokens_to_ids
    special = {"eos_token_id": ids(END), "pad_token_id": ids(PAD), "bos_token_id": None}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=16,
            patch_size=8,
            projection_dim=32,
        ),
        text_config=LlamaConfig(**TEXT, **special, vocab_size=len(words)),
        image_token_index=ids(IMAGE),
        image_seq_length=4,
        vision_feature_layer=-1,
    )
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(
            size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}
        ),
        tokenizer=words,
        patch_size=8,
        num_additional_image_tokens=1,
        vision_feature_select_strategy="default",
        image_token=IMAGE,
        chat_template=TEMPLATE,
    )
    return _saved(folder, LlavaForConditionalGeneration, config, processor, seed)


def _saved(folder: Path, family: Any, config: Any, processor: Any, seed: int) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = family(config)
        for parameter in model.parameters():
            # Trained models are sure of their words; random ones are only with large weights.
            parameter.data *= 3 if parameter.ndim > 1 else 1
    ids = processor.tokenizer.convert_tokens_to_ids
    model.generation_config.eos_token_id = ids(END)
    model.generation_config.pad_token_id = ids(PAD)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
