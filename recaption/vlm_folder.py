"""A folder of transformers, opened as a model that answers questions about pictures.

Offline by construction, weights as safetensors only, no code from the folder. Whatever is wrong
with a folder is one line: such a mistake must not cost a run its first hour.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from openreel.pipeline.clip import digest
from openreel.pipeline.commit import sha256
from openreel.pipeline.errors import InputError

Precision = Literal["auto", "float32", "bfloat16", "float16"]
READ = (".safetensors", ".json", ".jinja", ".txt", ".model")
"""what of a folder decides the captions: weights, sizes, templates, vocabularies"""

HERE: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Vlm:
    """A processor and its model, ready to generate."""

    processor: Any
    model: Any
    ends: frozenset[int]
    """ids of which each ends an answer"""
    pad: int
    room: int | None
    """tokens of question and answer together, where the model has a limit"""
    sees_video: bool
    """whether frames can be given as one video, with their times"""


def vlm_digest(folder: Path) -> str:
    """Identity of a folder's weights, sizes, templates and vocabulary."""
    names = sorted(path for path in folder.iterdir() if path.suffix in READ)
    return digest(*(f"{path.name}:{sha256(path)}" for path in names))


def open_vlm(folder: Path) -> tuple[Any, Any]:
    """A folder's configuration and processor; its weights are there but not read.

    Raises InputError if it is not one of a model that answers about pictures.
    """
    if not (folder / "config.json").is_file():
        raise InputError("captioner", str(folder), "a folder with config.json")
    if not any(folder.glob("*.safetensors")):
        raise InputError("captioner", str(folder), "a folder with weights (*.safetensors)")
    from transformers import AutoConfig, AutoProcessor
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

    config = _read(folder, lambda: AutoConfig.from_pretrained(folder, **HERE))
    if type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        accepted = "an image- or video-text-to-text model of transformers"
        raise InputError("captioner", f"{folder} ({config.model_type})", accepted)
    processor = _read(folder, lambda: AutoProcessor.from_pretrained(folder, **HERE))
    if not hasattr(processor, "tokenizer") or not hasattr(processor, "image_processor"):
        raise InputError("captioner", str(folder), "a folder with a processor of pictures and text")
    if not processor.chat_template:
        raise InputError("captioner", str(folder), "a folder with a chat template")
    return config, processor


def load_vlm(folder: Path, device: str, precision: Precision) -> Vlm:
    """The model of a folder. Raises InputError if it has none that answers about pictures."""
    from transformers import AutoModelForImageTextToText

    config, processor = open_vlm(folder)
    model, found = _read(
        folder,
        lambda: AutoModelForImageTextToText.from_pretrained(
            folder, use_safetensors=True, dtype=precision, output_loading_info=True, **HERE
        ),
    )
    if missing := sorted(found["missing_keys"]):
        # transformers would go on with random numbers in their place.
        accepted = f"weights of a {config.model_type}; {len(missing)} lack, such as {missing[0]}"
        raise InputError("captioner", str(folder), accepted)
    return _ready(folder, processor, model.to(device).eval(), config)


def _read(folder: Path, load: Callable[[], T]) -> T:
    try:
        return load()
    except Exception as error:  # files of strangers: anything can be wrong with them
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        accepted = f"a model that transformers can load ({reason})"
        raise InputError("captioner", str(folder), accepted) from error


def _ready(folder: Path, processor: Any, model: Any, config: Any) -> Vlm:
    tokenizer = processor.tokenizer
    # Answers of a batch begin at one place only if questions end there.
    tokenizer.padding_side = "left"
    stated = model.generation_config.eos_token_id
    if stated is None:
        stated = tokenizer.eos_token_id
    ends = frozenset(stated if isinstance(stated, list) else [stated]) - {None}
    if not ends:
        raise InputError("captioner", str(folder), "a model that knows how an answer ends")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(min(ends))
    return Vlm(
        processor=processor,
        model=model,
        ends=ends,
        pad=tokenizer.pad_token_id,
        room=getattr(config.get_text_config(), "max_position_embeddings", None),
        sees_video=getattr(processor, "video_processor", None) is not None,
    )
