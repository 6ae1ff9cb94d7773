"""Text to embeddings for the denoiser: one vector a token, of as many tokens as the text has.

captioner:FOLDER   the captioner's own unimodal text layers: small, knows the captions' words
t5:FOLDER          a T5 or UMT5 encoder from a local transformers folder: knows the world

L tokens of one text, D width, B texts, K padded length
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from openreel.pipeline.clip import digest
from openreel.pipeline.commit import sha256
from openreel.pipeline.errors import InputError
from openreel.recaption.weights import captioner_digest, load_captioner

Embedding = npt.NDArray[np.float32]

SPECS = "captioner:FOLDER, t5:FOLDER"
T5_MODELS = ("t5", "umt5")


class TextEncoder(Protocol):
    """What turns prompts into the denoiser's cross-attention tokens."""

    @property
    def dim(self) -> int:
        """D"""
        ...

    @property
    def identity(self) -> str:
        """Equal identity, equal embeddings."""
        ...

    def encode(self, texts: Sequence[str]) -> list[Embedding]:
        """One (L, D) array a text, L >= 1 even for an empty one; no text is cut."""
        ...

    def num_unknown(self, text: str) -> int:
        """How many of a text's tokens the encoder has never seen."""
        ...


def load_text_encoder(
    spec: str, *, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> TextEncoder:
    """The encoder of a spec. Raises InputError for an unknown kind or an unusable folder."""
    kind, _, folder = spec.partition(":")
    if not folder:
        raise InputError("text_encoder", spec, SPECS)
    match kind:
        case "captioner":
            return CaptionerTextEncoder(Path(folder), device)
        case "t5":
            return T5TextEncoder(Path(folder), device, dtype)
    raise InputError("text_encoder", spec, SPECS)


class CaptionerTextEncoder:
    """The unimodal half of a captioner's text layers, normalised to unit variance a token.

    Causal, so a token's vector depends on the words up to it; the text's end, always last, has read
    it all. A text longer than the context is read in several windows.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        captioner = load_captioner(folder, device)
        self.model, self.tokenizer = captioner.model, captioner.tokenizer
        self.device = device
        self.dim = self.model.config.width
        self.identity = f"captioner:{captioner_digest(folder)}"

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> list[Embedding]:
        return [self._encode(self.tokenizer.words(text)) for text in texts]

    def _encode(self, words: list[int]) -> Embedding:
        room = self.tokenizer.context_length - 1
        ids = [*words, self.tokenizer.end]
        windows = [ids[i : i + room] for i in range(0, len(ids), room)]
        start = self.tokenizer.start("dense")  # prompts are expanded into dense captions
        tokens_LD = torch.cat([self._window([start, *window]) for window in windows])
        embedding: Embedding = F.layer_norm(tokens_LD, (self.dim,)).float().cpu().numpy()
        return embedding

    def _window(self, ids: list[int]) -> Tensor:
        """(L, D) of a window's ids but the first; later padding could change nothing."""
        _, tokens_BLD = self.model.encode_text(torch.tensor([ids], device=self.device))
        return tokens_BLD[0, 1:]

    def num_unknown(self, text: str) -> int:
        return self.tokenizer.num_unknown(text)


class T5TextEncoder:
    """The last hidden states of a T5-family encoder, end of text included."""

    def __init__(
        self, folder: Path, device: str = "cpu", dtype: torch.dtype = torch.float32
    ) -> None:
        if not (folder / "config.json").is_file():
            raise InputError("text_encoder", str(folder), "a folder with config.json")
        self.folder, self.device = folder, device
        # Offline by construction: a folder that lacks a file is an error, never a download.
        from transformers import AutoConfig, AutoTokenizer, T5EncoderModel, UMT5EncoderModel

        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        if config.model_type not in T5_MODELS:
            raise InputError("text_encoder", config.model_type, f"a model of {T5_MODELS}")
        family = UMT5EncoderModel if config.model_type == "umt5" else T5EncoderModel
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model: Any = family.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=dtype
        )
        self.model = model.to(device).eval()
        self.dim = int(config.d_model)

    @functools.cached_property
    def identity(self) -> str:
        names = sorted(p for p in self.folder.iterdir() if p.suffix in (".safetensors", ".json"))
        return f"t5:{digest(*(sha256(path) for path in names))}"

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> list[Embedding]:
        if not texts:
            return []
        batch = self.tokenizer(list(texts), padding=True, return_tensors="pt").to(self.device)
        out = self.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
        states_BKD, mask_BK = out.last_hidden_state.float().cpu(), batch.attention_mask.bool().cpu()
        return [row[mask].numpy() for row, mask in zip(states_BKD, mask_BK, strict=True)]

    def num_unknown(self, text: str) -> int:
        ids: list[int] = self.tokenizer(text).input_ids
        return ids.count(self.tokenizer.unk_token_id)
