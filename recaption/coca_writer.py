"""Captions from the captioner that is trained here, of windows of any aspects and lengths at once.

B windows, T frames, H W sides, C colours, Q tokens to read, E width, K context length
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from openreel.pipeline.clip import digest
from openreel.recaption.decoding import Decoded, Decoding, write_captions
from openreel.recaption.frames import collate, normalised
from openreel.recaption.weights import captioner_digest, load_captioner
from openreel.recaption.writer import Window, Written

SOURCE = "videococa"


def coca_identity(folder: Path, decoding: Decoding) -> str:
    """The writer's identity, told without loading the model. Raises InputError for a folder that
    is no captioner's."""
    return digest(captioner_digest(folder), asdict(decoding))


class CocaWriter:
    """A Writer (writer.py) on VideoCoCa. It takes no instruction; the kind is its first token."""

    source = SOURCE

    def __init__(self, folder: Path, decoding: Decoding, device: str = "cpu") -> None:
        """Raises InputError if the folder holds no captioner."""
        captioner = load_captioner(folder, device)
        self.model, self.tokenizer = captioner.model, captioner.tokenizer
        self.decoding, self.device = decoding, device
        self.identity = coca_identity(folder, decoding)
        self.sight = self.model.config.sight
        self._latest: tuple[list[Window], tuple[Tensor, Tensor]] | None = None

    def prompt(self, kind: str) -> str:
        return ""

    def write(self, windows: Sequence[Window], kind: str) -> list[Written]:
        """One result a window, in order; one that fails in company is tried alone."""
        if not windows:
            return []
        try:
            return self._write(windows, kind)
        except Exception as error:  # a writer's boundary: the others go on
            if len(windows) == 1:
                return [Written(outcome="error", reason=f"{type(error).__name__}: {error}")]
            return [written for window in windows for written in self.write([window], kind)]

    @torch.inference_mode()
    def _write(self, windows: Sequence[Window], kind: str) -> list[Written]:
        clip_BE, seen_BQE = self.encoded(windows)
        keys = [window.key for window in windows]
        said = write_captions(self.model, self.tokenizer, seen_BQE, kind, keys, self.decoding)
        text_BE = self.read([one.text for one in said], kind)
        agreement_B = (clip_BE * text_BE).sum(-1).tolist()
        return [_written(one, score) for one, score in zip(said, agreement_B, strict=True)]

    @torch.inference_mode()
    def encoded(self, windows: Sequence[Window]) -> tuple[Tensor, Tensor]:
        """Unit-length features (B, E) and tokens (B, Q, E); the latest windows' are at hand, for
        their next kind of caption."""
        if self._latest is not None:
            before, encoded = self._latest
            if len(before) == len(windows) and all(map(_is, before, windows)):
                return encoded
        frames_BTHWC, sizes_B3 = collate([window.frames for window in windows])
        video_BTCHW = normalised(frames_BTHWC.to(self.device))
        encoded = self.model.encode_video(video_BTCHW, sizes_B3)
        self._latest = (list(windows), encoded)
        return encoded

    @torch.inference_mode()
    def read(self, texts: Sequence[str], kind: str) -> Tensor:
        """Unit-length features (N, E) of texts."""
        text_NK = self.tokenizer.encode(texts, [kind] * len(texts)).to(self.device)
        return self.model.encode_text(text_NK)[0]


def _is(one: Window, other: Window) -> bool:
    return one is other


def _written(said: Decoded, agreement: float) -> Written:
    return Written(
        text=said.text,
        outcome="ok" if said.ended else "truncated",
        reason="" if said.ended else "at the context length",
        logprob=said.logprob,
        agreement=agreement,
        tokens_out=len(said.ids),
    )
