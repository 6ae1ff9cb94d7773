"""Text encoders of transformers, from local folders: T5 and UMT5, and CLIP's text tower.

Both give the last hidden states. Neither gives padding:

T5     attention is masked, so that what lies behind a text changes nothing; T5 was trained on
       spans packed without padding.
CLIP   was trained on texts padded to 77, but its attention is causal and its output is read at the
       end of the text: the states up to there are the same with and without padding, and those
       behind it were never trained for anything. A text longer than the context is read in several
       windows, each with a start and an end, as the model was trained.

L tokens of one text, D width, B texts, K padded length
"""

import functools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from openreel.pipeline.clip import digest
from openreel.pipeline.commit import sha256
from openreel.pipeline.errors import InputError
from openreel.recaption.ragged import Ids, States, read_together

T5_MODELS = ("t5", "umt5")
CLIP_MODELS = ("clip", "clip_text_model")
_FILES = {".safetensors", ".json", ".txt", ".model"}
"""weights, configs, and the words of a tokenizer"""
_WORDS = ("tokenizer.json", "spiece.model", "vocab.json")
"""one of them holds the words of a tokenizer"""


def pretrained_identity(kind: str, folder: Path, dtype: torch.dtype) -> str:
    """Kind and digest of a folder's files. Raises InputError for a folder without weights."""
    files = sorted(p for p in _existing(folder).iterdir() if p.suffix in _FILES)
    if not any(path.suffix == ".safetensors" for path in files):
        raise InputError("text_encoder", str(folder), "a folder with .safetensors weights")
    family = "clip" if kind == "clip" else "t5"
    name = f"{family}:{digest(*((path.name, sha256(path)) for path in files))}"
    return name if dtype == torch.float32 else f"{name}:{str(dtype).removeprefix('torch.')}"


def _existing(folder: Path) -> Path:
    if not (folder / "config.json").is_file():
        raise InputError("text_encoder", str(folder), "a folder with config.json")
    if not any((folder / name).is_file() for name in _WORDS):
        # transformers would go on with a tokenizer that knows no word.
        raise InputError("text_encoder", str(folder), f"a tokenizer's folder: {', '.join(_WORDS)}")
    return folder


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' bars and tables of several lines: what is wrong is said here."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        logging.enable_progress_bar()


class _Pretrained(ABC):
    """What the encoders of transformers have in common."""

    kind: str
    models: tuple[str, ...]

    def __init__(
        self, folder: Path, device: str = "cpu", dtype: torch.dtype = torch.float32
    ) -> None:
        self.folder, self.device, self.dtype = _existing(folder), device, dtype
        # Offline by construction: a folder that lacks a file is an error, never a download.
        from transformers import AutoConfig, AutoTokenizer

        try:
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
            if config.model_type not in self.models:
                raise InputError("text_encoder", config.model_type, f"a model of {self.models}")
            self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            with _quiet():
                model, loading = self._family(config).from_pretrained(
                    folder,
                    local_files_only=True,
                    use_safetensors=True,
                    dtype=dtype,
                    output_loading_info=True,
                )
        except InputError:
            raise
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            cause = " ".join(str(error).split())[:200]
            accepted = f"a folder with config, tokenizer and .safetensors weights ({cause})"
            raise InputError("text_encoder", str(folder), accepted) from error
        if missing := sorted(loading["missing_keys"]):
            # transformers would go on with random numbers in their place.
            raise InputError("text_encoder", str(folder), f"weights with {', '.join(missing[:3])}")
        self.model: Any = model.to(device).eval()
        self.dim = int(model.config.hidden_size)

    @abstractmethod
    def _family(self, config: Any) -> Any:
        """The class of the model."""

    @abstractmethod
    def _windows(self, text: str) -> list[list[int]]:
        """Ids of each run that a text needs, with the special ones."""

    @functools.cached_property
    def identity(self) -> str:
        return pretrained_identity(self.kind, self.folder, self.dtype)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> list[States]:
        """One (L, D) array a text."""
        return read_together([self._windows(text) for text in texts], self._run, pad=0)

    def _run(self, ids_BK: Ids, mask_BK: Ids) -> States:
        ids, mask = (torch.from_numpy(a).to(self.device) for a in (ids_BK, mask_BK))
        out = self.model(input_ids=ids, attention_mask=mask)
        states_BKD: States = out.last_hidden_state.float().cpu().numpy()
        return states_BKD

    def num_unknown(self, text: str) -> int:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids
        return ids.count(self.tokenizer.unk_token_id)


class T5TextEncoder(_Pretrained):
    """T5 and UMT5: texts of any length, the end of the text included."""

    kind, models = "t5", T5_MODELS

    def _family(self, config: Any) -> Any:
        from transformers import T5EncoderModel, UMT5EncoderModel

        return UMT5EncoderModel if config.model_type == "umt5" else T5EncoderModel

    def _windows(self, text: str) -> list[list[int]]:
        return [self.tokenizer(text).input_ids]


class ClipTextEncoder(_Pretrained):
    """CLIP's text tower: start, words, end; of a whole CLIP's folder, the text part is taken."""

    kind, models = "clip", CLIP_MODELS

    def _family(self, config: Any) -> Any:
        from transformers import CLIPTextModel

        return CLIPTextModel

    def _windows(self, text: str) -> list[list[int]]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids
        room = int(self.model.config.max_position_embeddings) - 2
        start, end = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        starts = range(0, max(1, len(ids)), room)
        return [[start, *ids[i : i + room], end] for i in starts]
