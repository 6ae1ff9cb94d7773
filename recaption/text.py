"""Text to embeddings for the denoiser: one vector a token, of as many tokens as the text has.

captioner:FOLDER   the captioner's own unimodal text layers: small, knows the captions' words
t5:FOLDER          a T5 or UMT5 encoder from a local transformers folder (umt5:FOLDER is the same)
clip:FOLDER        a CLIP text tower from a local transformers folder (text_pretrained.py)

Texts of a call are computed together, sorted by length, and leave without padding: a text's
embedding is the same alone, in any company and in any order, up to rounding in float32.

L tokens of one text, D width, B texts, K padded length
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from openreel.pipeline.errors import InputError
from openreel.recaption.ragged import Ids, States, read_together
from openreel.recaption.weights import captioner_digest, load_captioner

Embedding = npt.NDArray[np.float32]

SPECS = "captioner:FOLDER, t5:FOLDER, umt5:FOLDER, clip:FOLDER"
_KINDS = ("captioner", "t5", "umt5", "clip")


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
    """The encoder of a spec. Raises InputError for an unknown kind or an unusable folder.

    dtype: of the weights of a pretrained encoder; other than float32 it is part of the identity.
    """
    kind, folder = _parsed(spec)
    if kind == "captioner":
        return CaptionerTextEncoder(folder, device)
    from openreel.recaption.text_pretrained import ClipTextEncoder, T5TextEncoder

    family = ClipTextEncoder if kind == "clip" else T5TextEncoder
    return family(folder, device, dtype)


def text_identity(spec: str) -> str:
    """The identity of a spec's encoder in float32, from its files alone: no weights are loaded.

    Raises InputError for an unknown kind or a folder that is none of an encoder.
    """
    kind, folder = _parsed(spec)
    if kind == "captioner":
        return _captioner_identity(folder)
    from openreel.recaption.text_pretrained import pretrained_identity

    return pretrained_identity(kind, folder, torch.float32)


def _parsed(spec: str) -> tuple[str, Path]:
    kind, _, folder = spec.partition(":")
    if kind not in _KINDS or not folder:
        raise InputError("text_encoder", spec, SPECS)
    return kind, Path(folder)


def _captioner_identity(folder: Path) -> str:
    try:
        return f"captioner:{captioner_digest(folder)}"
    except (FileNotFoundError, NotADirectoryError) as error:
        accepted = f"a captioner's folder, with {Path(error.filename).name}"
        raise InputError("text_encoder", str(folder), accepted) from error


class CaptionerTextEncoder:
    """The unimodal half of a captioner's text layers, normalised to unit variance a token.

    Causal, so a token's vector depends on the words up to it, and padding behind a text changes
    none of them; the text's end, always last, has read it all. A text longer than the context is
    read in several windows.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        captioner = load_captioner(folder, device)
        self.folder, self.device = folder, device
        self.model, self.tokenizer = captioner.model, captioner.tokenizer
        self.dim = self.model.config.width

    @functools.cached_property
    def identity(self) -> str:
        return _captioner_identity(self.folder)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> list[Embedding]:
        windows = [self._windows(text) for text in texts]
        # Without the start of each window: the end of a text has read all that it has.
        return read_together(windows, self._run, pad=self.tokenizer.pad, skip=1)

    def _windows(self, text: str) -> list[list[int]]:
        """Ids of each window of a text; the end of the text is the last id of the last one."""
        room = self.tokenizer.context_length - 1
        ids = [*self.tokenizer.words(text), self.tokenizer.end]
        start = self.tokenizer.start("dense")  # prompts are expanded into dense captions
        return [[start, *ids[i : i + room]] for i in range(0, len(ids), room)]

    def _run(self, ids_BK: Ids, mask_BK: Ids) -> States:
        _, tokens_BKD = self.model.encode_text(torch.from_numpy(ids_BK).to(self.device))
        states_BKD: States = F.layer_norm(tokens_BKD, (self.dim,)).float().cpu().numpy()
        return states_BKD

    def num_unknown(self, text: str) -> int:
        return self.tokenizer.num_unknown(text)
