"""A captioner on disk: model.safetensors, config.json, vocabulary.json. Nothing is unpickled.

open_clip's published CoCa checkpoints are read as they are: safetensors, or a pickle of which only
tensors are accepted.
"""

import json
import pickle
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from openreel.pipeline.clip import digest
from openreel.pipeline.commit import sha256
from openreel.pipeline.errors import InputError
from openreel.recaption.tokenizer import NUM_BPE, CaptionTokenizer
from openreel.recaption.variation import mirrored
from openreel.recaption.videococa import VideoCoCa, VideoCoCaConfig, tiny

WEIGHTS, CONFIG, VOCABULARY = "model.safetensors", "config.json", "vocabulary.json"
POSITIONS = "text.positional_embedding"


@dataclass(frozen=True)
class Captioner:
    """A model and the words it knows."""

    model: VideoCoCa
    tokenizer: CaptionTokenizer


def new_captioner(
    corpus: Iterable[str], *, seed: int, sizes: VideoCoCaConfig | None = None
) -> Captioner:
    """An untrained captioner for the words and lengths of a corpus, mirrored or not.

    sizes: its vocabulary and context are replaced by the corpus's; None: tiny.
    """
    texts = sorted({side for text in corpus for side in (text, mirrored(text))})
    words = CaptionTokenizer.fit(texts, context_length=3)
    tokenizer = replace(words, context_length=longest(words, texts))
    vocabulary, context = tokenizer.vocab_size, tokenizer.context_length
    config = replace(sizes or tiny(), vocab_size=vocabulary, context_length=context)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = VideoCoCa(config)
    return Captioner(model, tokenizer)


def longest(tokenizer: CaptionTokenizer, corpus: Iterable[str]) -> int:
    """The context that the longest text of a corpus needs, its start and end included."""
    return max(len(tokenizer.words(text)) for text in corpus) + 2


def with_context(captioner: Captioner, context_length: int) -> Captioner:
    """The same captioner, able to read and write longer texts; never a shorter context.

    See longer_positions for what the new positions begin as.
    """
    config = captioner.model.config
    if context_length <= config.context_length:
        return captioner
    state = captioner.model.state_dict()
    name = f"coca.{POSITIONS}"
    state[name] = longer_positions(state[name], context_length)
    model = VideoCoCa(replace(config, context_length=context_length))
    model.load_state_dict(state)
    tokenizer = replace(captioner.tokenizer, context_length=context_length)
    return Captioner(model.to(state[name].device).eval(), tokenizer)


def longer_positions(positions_KD: Tensor, context_length: int) -> Tensor:
    """Text positions for a longer context: the old ones exact, the new ones repeat them in order.

    Repeated and not interpolated: neighbours then stay as far apart as the layers know them. The
    first position, always the start's, is not repeated; the last, the class token's, stays last.
    """
    known = len(positions_KD) - 1
    repeated = 1 + torch.arange(context_length - known) % (known - 1)
    return torch.cat([positions_KD[:known], positions_KD[repeated], positions_KD[known:]])


def save_captioner(
    folder: Path,
    config: VideoCoCaConfig,
    tokenizer: CaptionTokenizer,
    weights: dict[str, Tensor],
) -> None:
    """Write the three files into an existing folder; weights is VideoCoCa's state_dict."""
    save_file({k: v.detach().cpu().contiguous() for k, v in weights.items()}, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(asdict(config), indent=1), encoding="utf-8")
    vocabulary = json.dumps(asdict(tokenizer))
    (folder / VOCABULARY).write_text(vocabulary, encoding="utf-8")


def load_captioner(folder: Path, device: str = "cpu") -> Captioner:
    """The captioner of a folder, in evaluation mode. Raises InputError if it is not one."""
    missing = [n for n in (WEIGHTS, CONFIG, VOCABULARY) if not (folder / n).is_file()]
    if missing:
        raise InputError("captioner", str(folder), f"a folder with {', '.join(missing)}")
    config = VideoCoCaConfig(**_read_fields(folder / CONFIG, VideoCoCaConfig))
    vocabulary = _read_fields(folder / VOCABULARY, CaptionTokenizer)
    tokenizer = CaptionTokenizer(**{**vocabulary, "bpe_ids": tuple(vocabulary["bpe_ids"])})
    if tokenizer.vocab_size != config.vocab_size:
        raise InputError(
            VOCABULARY, f"{tokenizer.vocab_size} ids", f"{config.vocab_size}, as in {CONFIG}"
        )
    model = VideoCoCa(config)
    _fill(model, _read_tensors(folder / WEIGHTS), folder / WEIGHTS)
    return Captioner(model.to(device).eval(), tokenizer)


def _read_fields(path: Path, record: type) -> dict[str, Any]:
    """A record's fields from its JSON file. Raises InputError if the file holds anything else."""
    names = [field.name for field in fields(record)]
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError("captioner", str(path), "JSON") from error
    if not isinstance(content, dict) or sorted(content) != sorted(names):
        raise InputError("captioner", str(path), f"JSON with exactly {', '.join(names)}")
    return content


def captioner_digest(folder: Path) -> str:
    """Identity of a captioner: of its weights, sizes and vocabulary."""
    return digest(*(sha256(folder / name) for name in (WEIGHTS, CONFIG, VOCABULARY)))


def load_open_clip(checkpoint: Path, config: VideoCoCaConfig) -> Captioner:
    """VideoCoCa from a published image CoCa: every weight reused, the poolers' too.

    The kinds "short" and "dense" start as copies of open_clip's start of text, and motion additions
    (if the config has them) as nothing: captions are the image model's until it is tuned.
    A context longer than the checkpoint's is filled as longer_positions says. Raises InputError if
    the file is no such checkpoint or its sizes are other than config's.
    """
    tokenizer = CaptionTokenizer(context_length=config.context_length)
    if config.vocab_size != tokenizer.vocab_size:
        raise InputError("vocab_size", config.vocab_size, f"{tokenizer.vocab_size}, open_clip's")
    weights = _read_checkpoint(checkpoint)
    for name, axis in (("text.token_embedding.weight", 0), ("text_decoder.text_projection", 1)):
        if name not in weights or weights[name].shape[axis] != NUM_BPE:
            raise InputError("checkpoint", str(checkpoint), f"open_clip CoCa weights with {name}")
        weights[name] = _with_new_starts(weights[name], axis, tokenizer)
    if POSITIONS in weights and len(weights[POSITIONS]) <= config.context_length:
        weights[POSITIONS] = longer_positions(weights[POSITIONS], config.context_length)
    model = VideoCoCa(config)
    state = {f"coca.{name}": tensor for name, tensor in weights.items()}
    additions = {k: v for k, v in model.state_dict().items() if not k.startswith("coca.")}
    # The stem's last layer alone at zero: its first one can learn at once.
    zero = ("moment.embedding", "stem.tokens.weight")
    state |= {k: torch.zeros_like(v) if k in zero else v for k, v in additions.items()}
    _fill(model, state, checkpoint)
    return Captioner(model.eval(), tokenizer)


def _with_new_starts(weight: Tensor, axis: int, tokenizer: CaptionTokenizer) -> Tensor:
    start = weight.select(axis, tokenizer.start("original")).unsqueeze(axis)
    extra = tokenizer.vocab_size - NUM_BPE
    return torch.cat([weight, *[start] * extra], dim=axis)


def _read_checkpoint(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError("checkpoint", str(path), "an existing file")
    if path.suffix == ".safetensors":
        return _read_tensors(path)
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError("checkpoint", str(path), "safetensors or a pickle of tensors") from error
    content = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise InputError("checkpoint", str(path), "names and their tensors")
    return {name.removeprefix("module."): tensor for name, tensor in content.items()}


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise InputError("weights", str(path), f"safetensors ({error})") from error


def _fill(model: VideoCoCa, state: dict[str, Tensor], path: Path) -> None:
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            "weights", str(path), f"the config's own names and sizes ({reason})"
        ) from error
