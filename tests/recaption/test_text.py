"""Text encoders: one vector a token, none of a text lost, padding and company without effect."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoTokenizer,
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
)

from openreel.pipeline.errors import InputError
from openreel.recaption.ragged import by_length
from openreel.recaption.text import TextEncoder, load_text_encoder, text_identity
from openreel.recaption.weights import new_captioner, save_captioner

CORPUS = ["a red ball moves right across a dark striped background . the camera is still"]
TEXTS = ["a red ball", "", "a dark striped background", "the camera is still and a zebra"]


def captioner_folder(folder: Path) -> Path:
    captioner = new_captioner(CORPUS, seed=0)
    model = captioner.model
    save_captioner(folder, model.config, captioner.tokenizer, model.state_dict())
    return folder


def t5_folder(folder: Path, kind: str) -> Path:
    """A random T5 of a few kilobytes with a word-level tokenizer, built without a network."""
    words = {w: i for i, w in enumerate(["<pad>", "</s>", "<unk>", *CORPUS[0].split()])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    config, family = {
        "t5": (T5Config, T5EncoderModel),
        "umt5": (UMT5Config, UMT5EncoderModel),
    }[kind]
    torch.manual_seed(0)
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
    family(config(vocab_size=32, **sizes)).save_pretrained(folder)
    return folder


def clip_folder(folder: Path, *, whole: bool = False) -> Path:
    """A random CLIP text tower, or a whole CLIP, with CLIP's own tokenizer on an alphabet."""
    alphabet = "abcdefghijklmnopqrstuvwxyz."
    pieces = [*alphabet, *(f"{c}</w>" for c in alphabet), "re", "red</w>"]
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    CLIPTokenizer(vocab=vocab, merges=[("r", "e"), ("re", "d</w>")]).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 2}
    text = CLIPTextConfig(
        vocab_size=len(vocab), **sizes, bos_token_id=len(vocab) - 2, eos_token_id=len(vocab) - 1
    )
    if whole:
        vision = {**sizes, "image_size": 8, "patch_size": 4}
        CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision)).save_pretrained(
            folder
        )
    else:
        CLIPTextModel(text).save_pretrained(folder)
    return folder


def spec_of(kind: str, folder: Path) -> str:
    folder.mkdir(exist_ok=True)
    if kind == "captioner":
        return f"captioner:{captioner_folder(folder)}"
    return f"{kind}:{clip_folder(folder) if kind == 'clip' else t5_folder(folder, kind)}"


@pytest.fixture(params=["captioner", "t5", "umt5", "clip"])
def encoder(request: pytest.FixtureRequest, tmp_path: Path) -> TextEncoder:
    return load_text_encoder(spec_of(request.param, tmp_path))


def test_a_text_is_the_same_alone_in_any_company_and_in_any_order(encoder: TextEncoder) -> None:
    long = " ".join(["a red ball moves right"] * 30)
    texts = [*TEXTS, long, "a red ball"]
    together, turned = encoder.encode(texts), encoder.encode(texts[::-1])[::-1]
    assert len({len(e) for e in together}) > 3, "equal lengths: nothing was padded"
    for text, embedding, other in zip(texts, together, turned, strict=True):
        (alone,) = encoder.encode([text])
        assert embedding.dtype == np.float32
        assert embedding.shape == (len(alone), encoder.dim)
        assert len(alone) >= 1
        np.testing.assert_allclose(embedding, alone, atol=1e-5)
        np.testing.assert_allclose(embedding, other, atol=1e-5)
        assert np.isfinite(embedding).all()
    assert np.array_equal(together[0], together[-1])
    assert len(together[1]) <= 2, "the empty text has its special tokens alone"
    assert encoder.encode([]) == []


def test_batches_hold_each_row_once_and_keep_to_the_budget() -> None:
    lengths = np.random.default_rng(0).integers(1, 90, 300).tolist()
    batches = list(by_length([*lengths, 500], max_tokens=256))
    assert sorted(i for batch in batches for i in batch) == list(range(301))
    assert batches[0] == [300], "a row above the budget is alone"
    costs = [len(b) * max(lengths[i] for i in b) for b in batches[1:]]
    assert max(costs) <= 256
    assert len(batches) < 100, "rows share batches"
    padded = sum(costs) / sum(lengths)
    assert padded < 1.1, "rows of like length do"


@pytest.mark.parametrize("kind", ["t5", "umt5"])
def test_t5_is_the_models_own_run_without_padding(kind: str, tmp_path: Path) -> None:
    encoder: Any = load_text_encoder(spec_of(kind, tmp_path))
    for text, embedding in zip(TEXTS, encoder.encode(TEXTS), strict=True):
        ids = encoder.tokenizer(text, return_tensors="pt").input_ids
        with torch.no_grad():
            own = encoder.model(input_ids=ids).last_hidden_state[0]
        np.testing.assert_allclose(embedding, own.numpy(), atol=1e-5)


@pytest.mark.parametrize("whole", [False, True])
def test_clip_is_the_models_own_run_with_its_own_padding(whole: bool, tmp_path: Path) -> None:
    encoder = load_text_encoder(f"clip:{clip_folder(tmp_path, whole=whole)}")
    model = CLIPTextModel.from_pretrained(tmp_path).eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    texts = [*TEXTS, "red " * 75]
    lengths = []
    for text, embedding in zip(texts, encoder.encode(texts), strict=True):
        padded = tokenizer(text, padding="max_length", max_length=77, return_tensors="pt")
        assert padded.input_ids.shape == (1, 77)
        with torch.no_grad():
            own = model(input_ids=padded.input_ids).last_hidden_state[0]
        np.testing.assert_allclose(embedding, own[: len(embedding)].numpy(), atol=1e-5)
        lengths.append(len(embedding))
        assert len(embedding) == int(padded.attention_mask.sum())
    assert min(lengths) == 2
    assert max(lengths) == 77, "one text fills the context"


def test_a_text_beyond_clips_context_is_read_in_windows(tmp_path: Path) -> None:
    encoder = load_text_encoder(f"clip:{clip_folder(tmp_path)}")
    words = ["red", "a", "b", "c"]
    many = [words[i % 4] for i in range(160)]
    (embedding,) = encoder.encode([" ".join(many)])
    windows = encoder.encode([" ".join(many[i : i + 75]) for i in (0, 75, 150)])
    assert [len(w) for w in windows] == [77, 77, 12]
    np.testing.assert_allclose(embedding, np.concatenate(windows), atol=1e-5)


def test_what_is_not_known_is_counted(encoder: TextEncoder) -> None:
    assert encoder.num_unknown(TEXTS[0]) == 0
    if not hasattr(encoder, "kind") or encoder.kind != "clip":  # whose bytes are all known
        assert encoder.num_unknown(TEXTS[3]) >= 1


def test_no_word_of_a_long_text_is_lost(encoder: TextEncoder) -> None:
    long = " ".join(["a red ball moves right"] * 40)
    (embedding,) = encoder.encode([long])
    (short,) = encoder.encode(["a red ball moves right"])
    assert len(embedding) >= 40 * (len(short) - 2)
    changed = long[: -len("right")] + "red"
    assert np.abs(encoder.encode([changed])[0][-1] - embedding[-1]).max() > 1e-3


def test_word_order_matters(encoder: TextEncoder) -> None:
    one, other = encoder.encode(["a red ball", "a ball red"])
    assert np.abs(one[-1] - other[-1]).max() > 1e-3


@pytest.mark.parametrize("kind", ["captioner", "t5", "umt5", "clip"])
def test_identity_follows_the_weights_and_needs_none_loaded(kind: str, tmp_path: Path) -> None:
    specs = [spec_of(kind, tmp_path / f"{i}") for i in range(2)]
    first, same = (load_text_encoder(spec).identity for spec in specs)
    assert first == same == text_identity(specs[0])
    weights = tmp_path / "1" / "model.safetensors"
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    assert load_text_encoder(specs[1]).identity == text_identity(specs[1]) != first


def test_half_precision_is_another_encoder(tmp_path: Path) -> None:
    spec = spec_of("t5", tmp_path)
    half = load_text_encoder(spec, dtype=torch.bfloat16)
    assert half.identity == f"{text_identity(spec)}:bfloat16"
    assert half.encode(["a red ball"])[0].dtype == np.float32


def test_t5_and_umt5_are_two_names_of_one_kind(tmp_path: Path) -> None:
    folder = t5_folder(tmp_path, "umt5")
    one, other = (load_text_encoder(f"{name}:{folder}") for name in ("t5", "umt5"))
    assert one.identity == other.identity
    assert np.array_equal(one.encode(TEXTS)[0], other.encode(TEXTS)[0])


def test_the_captioners_vectors_are_its_text_towers_whatever_the_padding(tmp_path: Path) -> None:
    captioner = new_captioner(CORPUS, seed=0)
    encoder = load_text_encoder(f"captioner:{captioner_folder(tmp_path)}")
    text_BK = captioner.tokenizer.encode(["a red ball"], ["dense"])
    with torch.no_grad():
        _, tokens_BKE = captioner.model.eval().encode_text(text_BK)
    padded = torch.nn.functional.layer_norm(tokens_BKE[0, 1:5], (encoder.dim,))
    np.testing.assert_allclose(encoder.encode(["a red ball"])[0], padded.numpy(), atol=1e-5)


@pytest.mark.parametrize(
    "spec", ["vae:/x", "t5", "captioner:", "t5:/none", "captioner:/none", "clip:/none", ""]
)
def test_mistakes_are_named(spec: str) -> None:
    with pytest.raises(InputError, match=r"^(text_encoder|captioner): got"):
        load_text_encoder(spec)
    with pytest.raises(InputError, match=r"^text_encoder: got"):
        text_identity(spec)


@pytest.mark.parametrize("kind", ["t5", "clip"])
def test_a_folder_that_lacks_something_is_one_line(kind: str, tmp_path: Path) -> None:
    def refused(spec: str, match: str) -> None:
        with pytest.raises(InputError, match=match) as caught:
            load_text_encoder(spec)
        assert "\n" not in str(caught.value)

    spec = spec_of(kind, tmp_path / "whole")
    folder = tmp_path / "whole"
    refused(f"{'clip' if kind == 't5' else 't5'}:{folder}", "a model of")
    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    some = {k: v for k, v in tensors.items() if "layer_norm" not in k}
    assert len(some) < len(tensors)
    save_file(some, weights, metadata={"format": "pt"})
    refused(spec, "weights with .*layer_norm")
    weights.write_bytes(b"nonsense")
    refused(spec, r"\.safetensors weights")
    weights.unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    refused(spec, r"\.safetensors weights")
    with pytest.raises(InputError, match="weights"):
        text_identity(spec)
    save_file(tensors, weights, metadata={"format": "pt"})
    load_text_encoder(spec)
    for name in folder.glob("tokenizer*"):
        name.unlink()
    refused(spec, "tokenizer")
