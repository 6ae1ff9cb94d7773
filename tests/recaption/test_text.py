"""Text encoders: one vector a token, none of a text lost, padding without effect."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
)

from openreel.pipeline.errors import InputError
from openreel.recaption.text import TextEncoder, load_text_encoder
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


@pytest.fixture(params=["captioner", "t5", "umt5"])
def encoder(request: pytest.FixtureRequest, tmp_path: Path) -> TextEncoder:
    if request.param == "captioner":
        return load_text_encoder(f"captioner:{captioner_folder(tmp_path)}")
    return load_text_encoder(f"t5:{t5_folder(tmp_path, request.param)}")


def test_together_equals_alone_and_every_text_has_a_token(encoder: TextEncoder) -> None:
    together = encoder.encode(TEXTS)
    assert len({len(e) for e in together}) > 1, "equal lengths: nothing was padded"
    for text, embedding in zip(TEXTS, together, strict=True):
        (alone,) = encoder.encode([text])
        assert embedding.dtype == np.float32
        assert embedding.shape == (len(alone), encoder.dim)
        assert len(alone) >= 1
        np.testing.assert_allclose(embedding, alone, atol=1e-5)
        assert np.isfinite(embedding).all()
    assert len(together[1]) == 1
    assert encoder.encode([]) == []


def test_what_is_not_known_is_counted(encoder: TextEncoder) -> None:
    assert encoder.num_unknown(TEXTS[0]) == 0
    assert encoder.num_unknown(TEXTS[3]) >= 1


def test_no_word_of_a_long_text_is_lost(encoder: TextEncoder) -> None:
    long = " ".join(["a red ball moves right"] * 40)
    (embedding,) = encoder.encode([long])
    assert len(embedding) == len(long.split()) + 1


def test_word_order_matters(encoder: TextEncoder) -> None:
    one, other = encoder.encode(["a red ball", "a ball red"])
    assert np.abs(one[-1] - other[-1]).max() > 1e-3


def test_identity_follows_the_weights(tmp_path: Path) -> None:
    for make, kind in ((captioner_folder, "captioner"), (lambda f: t5_folder(f, "t5"), "t5")):
        folders = [tmp_path / f"{kind}-{i}" for i in range(2)]
        for folder in folders:
            folder.mkdir()
            make(folder)
        first, same = (load_text_encoder(f"{kind}:{f}").identity for f in folders)
        assert first == same
        weights = folders[1] / "model.safetensors"
        changed = bytearray(weights.read_bytes())
        changed[-1] ^= 1
        weights.write_bytes(changed)
        assert load_text_encoder(f"{kind}:{folders[1]}").identity != first


def test_the_captioners_vectors_are_its_text_towers_whatever_the_padding(tmp_path: Path) -> None:
    captioner = new_captioner(CORPUS, seed=0)
    encoder = load_text_encoder(f"captioner:{captioner_folder(tmp_path)}")
    text_BK = captioner.tokenizer.encode(["a red ball"], ["dense"])
    with torch.no_grad():
        _, tokens_BKE = captioner.model.eval().encode_text(text_BK)
    padded = torch.nn.functional.layer_norm(tokens_BKE[0, 1:5], (encoder.dim,))
    np.testing.assert_allclose(encoder.encode(["a red ball"])[0], padded.numpy(), atol=1e-5)


@pytest.mark.parametrize("spec", ["clip:/x", "t5", "captioner:", "t5:/none", "captioner:/none"])
def test_mistakes_are_named(spec: str) -> None:
    with pytest.raises(InputError, match=r"^(text_encoder|captioner): got"):
        load_text_encoder(spec)
