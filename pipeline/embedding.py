"""The embedding station: what a clip shows as one vector, and scores read off it.

    some frames -> open_clip's image tower -> mean of the unit features, of length 1 again
                                           -> aesthetic, by a linear head
                                           -> semantic, by prompts that are wanted and unwanted

The model is a folder: open_clip_config.json beside its weights, as open_clip saves them. Nothing is
fetched, and no pickle is read but one of tensors.

    D    length of the vector
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from openreel.pipeline.clip import Clip, Verdict, digest
from openreel.pipeline.commit import sha256
from openreel.pipeline.errors import InputError
from openreel.pipeline.media import Frames, stream_clip
from openreel.pipeline.stage import Stage

_CONFIG = "open_clip_config.json"
_WEIGHTS = (".safetensors", ".bin", ".pth")
_PARTS = (*_WEIGHTS, ".json", ".txt", ".model")
"""of a model and its tokenizer"""


@dataclass(frozen=True, kw_only=True)
class EmbeddingConfig:
    """Which model looks at clips, and what is asked of it."""

    weights: Path | None = None
    """folder of an open_clip model"""
    num_frames: int = 8
    """at most, evenly spaced from the first to the last"""
    head: Path | None = None
    """safetensors of the aesthetic head: weight (1, D) and bias (1,)"""
    wanted: tuple[str, ...] = ()
    unwanted: tuple[str, ...] = ()
    """prompts for the semantic score"""
    device: str = "cpu"
    """no part of the table's fingerprint: a run may go on elsewhere"""

    def __post_init__(self) -> None:
        if self.num_frames < 1:
            raise InputError("embedding.num_frames", self.num_frames, "at least 1")
        for prompt in (*self.wanted, *self.unwanted):
            if not prompt.strip():
                raise InputError("embedding prompts", prompt, "words")


@dataclass(frozen=True, kw_only=True)
class Embedding(Verdict):
    """What a model sees in a clip."""

    clip_id: str
    vector: tuple[float, ...] = ()
    """(D,), of length 1"""
    aesthetic: float | None = None
    """where a head was given"""
    semantic: float | None = None
    """greatest cosine to a wanted prompt minus greatest to an unwanted one, a side without prompts
    counting as 0; None without any"""


def embedding_stage(config: EmbeddingConfig) -> Stage[Clip, Embedding]:
    """The station for a model. Raises InputError if config.weights is no folder of one, or if the
    head does not fit it."""
    model = _Model(config)  # a mistake is told here, not by every worker
    return Stage(
        name="embedding",
        key="clip_id",
        record=Embedding,
        fingerprint={
            **asdict(replace(config, weights=None, head=None, device="")),
            "weights": model_digest(model.folder),
            "head": sha256(config.head) if config.head else None,
        },
        build=partial(_build, config),
        holds_model=True,
        num_gpus=float(config.device.startswith("cuda")),
        rows_per_block=16,
        commit_block=True,
    )


def model_digest(folder: Path) -> str:
    """Identity of a model's folder: names and bytes of its config, weights and tokenizer."""
    parts = sorted(p for p in folder.iterdir() if p.suffix in _PARTS and p.is_file())
    return digest(*((p.name, sha256(p)) for p in parts))


def _build(config: EmbeddingConfig) -> Callable[[Clip], Embedding]:
    return _Model(config).embed


class _Model:
    def __init__(self, config: EmbeddingConfig) -> None:
        import torch

        self.config = config
        self.folder = _checked(config.weights)
        self.model, self.preprocess = _load(self.folder, config.device)
        with torch.inference_mode():
            black = np.zeros((8, 8, 3), np.uint8)
            self.width = self._features([black]).shape[-1]
            self.head = _load_head(config.head, self.width, config.device)
            self.wanted, self.unwanted = map(self._prompts, (config.wanted, config.unwanted))

    def embed(self, clip: Clip) -> Embedding:
        """The row of a clip. Raises MediaError if it cannot be read."""
        import torch

        with torch.inference_mode():
            mean_D = self._features(_frames(clip, self.config.num_frames)).mean(0)
            vector_D = torch.nn.functional.normalize(mean_D, dim=0)
            aesthetic = semantic = None
            if self.head is not None:
                weight_D, bias = self.head
                aesthetic = float(vector_D @ weight_D + bias)
            if self.config.wanted or self.config.unwanted:
                semantic = _best(self.wanted, vector_D) - _best(self.unwanted, vector_D)
        return Embedding(
            clip_id=clip.clip_id,
            vector=tuple(vector_D.tolist()),
            aesthetic=aesthetic,
            semantic=semantic,
        )

    def _features(self, frames: Any) -> Any:
        """Unit features (T, D) of frames, each uint8 (H, W, 3), squeezed to the model's size."""
        import torch
        from PIL import Image

        # One after the other: what is in memory is a frame at its native size, not all of them.
        images = torch.stack([self.preprocess(Image.fromarray(frame)) for frame in frames])
        return self.model.encode_image(images.to(self.config.device), normalize=True).float()

    def _prompts(self, prompts: tuple[str, ...]) -> Any:
        """Unit features (P, D) of texts."""
        import open_clip
        import torch

        if not prompts:
            return torch.zeros(0, self.width, device=self.config.device)
        tokens = open_clip.get_tokenizer(f"local-dir:{self.folder}")(list(prompts))
        return self.model.encode_text(tokens.to(self.config.device), normalize=True).float()


def _best(prompts_PD: Any, vector_D: Any) -> float:
    return float((prompts_PD @ vector_D).max()) if len(prompts_PD) else 0.0


def _frames(clip: Clip, wanted: int) -> Iterator[Frames]:
    """At most `wanted` frames of a clip, uint8 (H, W, 3), evenly spaced."""
    count = min(clip.num_frames, wanted)
    picked = set(np.linspace(0, clip.num_frames - 1, count).round().astype(int).tolist())
    for number, frame in enumerate(stream_clip(clip)):
        if number in picked:
            yield frame


def _checked(folder: Path | None) -> Path:
    if folder is None or not (folder / _CONFIG).is_file():
        raise InputError("embedding.weights", str(folder), f"a folder with {_CONFIG}")
    if not any(p.suffix in _WEIGHTS for p in folder.iterdir()):
        raise InputError("embedding.weights", str(folder), "a folder with *.safetensors or *.bin")
    if '"hf_model_name"' in (folder / _CONFIG).read_text(encoding="utf-8"):
        # open_clip asks the network for such a tower's config.
        raise InputError("embedding.weights", str(folder), "a model whose towers are open_clip's")
    return folder


def _load(folder: Path, device: str) -> tuple[Any, Any]:
    """The model in evaluation mode, and what it does to a picture before it looks."""
    import open_clip

    try:
        model, _, preprocess = open_clip.create_model_and_transforms(
            # Squash: the whole picture, where the default would cut off its sides.
            f"local-dir:{folder}",
            device=device,
            image_resize_mode="squash",
        )
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        accepted = f"a model that open_clip loads ({type(error).__name__}: {reason})"
        raise InputError("embedding.weights", str(folder), accepted) from error
    return model.eval(), preprocess


def _load_head(path: Path | None, width: int, device: str) -> tuple[Any, Any] | None:
    """The weight (D,) and the bias () of a linear head."""
    if path is None:
        return None
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    accepted = f"safetensors with weight (1, {width}) and bias (1,)"
    if not path.is_file():
        raise InputError("embedding.head", str(path), accepted)
    try:
        found = load_file(path, device=device)
    except SafetensorError as error:
        raise InputError("embedding.head", str(path), accepted) from error
    shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
    if shapes != {"weight": (1, width), "bias": (1,)}:
        raise InputError("embedding.head", shapes, accepted)
    return found["weight"][0].float(), found["bias"][0].float()
