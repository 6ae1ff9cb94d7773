"""Captions from any image- or video-text-to-text model of transformers in a local folder.

Frames go in as one video with their true times where the model has a video processor, and as
several pictures otherwise. A still picture is always a picture.

    B windows, K tokens of the question, N tokens of the answer, V vocabulary
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from openreel.pipeline.clip import digest
from openreel.pipeline.errors import InputError
from openreel.pipeline.keyed import generator
from openreel.recaption.chat import without_thinking
from openreel.recaption.instructions import Instructions, question
from openreel.recaption.vlm_folder import Precision, Vlm, load_vlm, open_vlm, vlm_digest
from openreel.recaption.writer import Outcome, Sight, Window, Written

FramesAs = Literal["auto", "video", "images"]
TICKS = 1000
"""a second of a window's times, as the processors' frame numbers count it"""


@dataclass(frozen=True, kw_only=True)
class VlmConfig:
    """What a model of a folder is shown and how it answers."""

    num_frames: int = 8
    max_area: int = 448 * 448
    """pixels of a frame"""
    frames_as: FramesAs = "auto"
    """auto: as a video where the model takes one"""
    max_tokens: int = 256
    """the longest answer"""
    temperature: float = 0.0
    """0: greedy"""
    top_p: float = 1.0
    seed: int = 0
    """of sampling, together with the window and the kind"""
    precision: Precision = "auto"
    """auto: as the weights are stored"""
    instructions: Instructions = field(default_factory=Instructions)
    batch_size: int = 1
    """windows that are answered together, if greedy. Above 1 is faster on a GPU and equal up to
    rounding, which in half precision now and then changes a word"""
    device: str = "cpu"
    """no part of the identity: a run may go on elsewhere"""

    def __post_init__(self) -> None:
        for name in ("num_frames", "max_area", "max_tokens", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(name, getattr(self, name), "1 or more")
        if not self.temperature >= 0:
            raise InputError("temperature", self.temperature, "0 (greedy) or more")
        if not 0 < self.top_p <= 1:
            raise InputError("top_p", self.top_p, "above 0, to 1")
        for name, kind in (("frames_as", FramesAs), ("precision", Precision)):
            if getattr(self, name) not in get_args(kind):
                raise InputError(name, getattr(self, name), ", ".join(get_args(kind)))


def vlm_identity(folder: Path, config: VlmConfig) -> str:
    """The writer's identity, told without loading the weights.

    Raises InputError if the folder has no model that answers about pictures.
    """
    open_vlm(folder)
    return digest(vlm_digest(folder), asdict(replace(config, device="", batch_size=1)))


class VlmWriter:
    """A Writer (writer.py) whose model is a folder of transformers."""

    source = "vlm"

    def __init__(self, folder: Path, config: VlmConfig) -> None:
        """Raises InputError if the folder has no model that answers about pictures."""
        self.config = config
        self.identity = vlm_identity(folder, config)
        self.sight = Sight(num_frames=config.num_frames, max_area=config.max_area)
        self._vlm = load_vlm(folder, config.device, config.precision)
        if config.frames_as == "video" and not self._vlm.sees_video:
            raise InputError("frames_as", "video", "images: this model has no video processor")
        self._as_video = self._vlm.sees_video and config.frames_as != "images"
        self._vlm.model.generation_config = _decoding(self._vlm, config)

    def prompt(self, kind: str) -> str:
        return self.config.instructions.of(kind)

    def write(self, windows: Sequence[Window], kind: str) -> list[Written]:
        """One result a window, in order; a fault is the window's own."""
        instruction = self.prompt(kind)
        # One stream of chance cannot serve several windows without tying them together.
        together = 1 if self.config.temperature else self.config.batch_size
        groups = [windows[i : i + together] for i in range(0, len(windows), together)]
        return [written for group in groups for written in self._tried(group, kind, instruction)]

    def _tried(self, group: Sequence[Window], kind: str, instruction: str) -> list[Written]:
        try:
            return self._written(group, kind, instruction)
        except Exception as error:  # the boundary of a window: the others go on
            first = str(error).strip().split("\n")[0]
            fault = Written(outcome="error", reason=f"{type(error).__name__}: {first}")
        if self.config.device.startswith("cuda"):
            torch.cuda.empty_cache()
        if len(group) == 1:
            return [fault]
        return [self._tried([window], kind, instruction)[0] for window in group]

    def _written(self, group: Sequence[Window], kind: str, instruction: str) -> list[Written]:
        asked = self._asked(group, instruction)
        lengths_B = asked["attention_mask"].sum(1)
        room = self._vlm.room
        longest = int(lengths_B.max()) + self.config.max_tokens
        if room and longest > room:
            raise ValueError(f"{longest} tokens with the answer; the model has {room} positions")
        likelihood = _Likelihood()
        cuda = [torch.device(self.config.device)] if "cuda" in self.config.device else []
        with torch.random.fork_rng(devices=cuda), torch.inference_mode():
            draw = generator(self.config.seed, "vlm caption", group[0].key, kind)
            torch.manual_seed(int(draw.integers(2**31)))
            ids_BK = self._vlm.model.generate(**asked, logits_processor=[likelihood])
        logprobs_BN = likelihood.until(ids_BK[:, -1])
        answers_BN = ids_BK[:, -logprobs_BN.shape[1] :]
        return [
            self._result(answer_N.tolist(), logprobs_N.tolist(), int(length))
            for answer_N, logprobs_N, length in zip(answers_BN, logprobs_BN, lengths_B, strict=True)
        ]

    def _asked(self, group: Sequence[Window], instruction: str) -> Any:
        """The questions of several windows as the model's inputs, padded on the left."""
        talks = [self._talk(window, instruction) for window in group]
        films = [_metadata(window.times) for window in group if self._is_video(window)]
        options: dict[str, Any] = {"padding": True}
        if films:
            options |= {"do_sample_frames": False, "video_metadata": films}
        asked = self._vlm.processor.apply_chat_template(
            talks,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs=options,
        )
        return asked.to(self.config.device, dtype=self._vlm.model.dtype)

    def _is_video(self, window: Window) -> bool:
        return self._as_video and len(window.frames) > 1

    def _talk(self, window: Window, instruction: str) -> list[dict[str, Any]]:
        from PIL import Image

        content: list[dict[str, Any]] = (
            [{"type": "video", "video": window.frames}]
            if self._is_video(window)
            else [{"type": "image", "image": Image.fromarray(frame)} for frame in window.frames]
        )
        content.append({"type": "text", "text": question(instruction, window)})
        return [{"role": "user", "content": content}]

    def _result(self, answer: list[int], logprobs: list[float], length: int) -> Written:
        ended = next((i for i, token in enumerate(answer) if token in self._vlm.ends), None)
        count = len(answer) if ended is None else ended + 1
        spoken = self._vlm.processor.tokenizer.decode(answer[:count], skip_special_tokens=True)
        text = without_thinking(spoken)
        outcome: Outcome = "ok" if text else "error"
        reason = "" if text else "empty answer"
        if ended is None:
            outcome, reason = "truncated", f"cut off at {self.config.max_tokens} tokens"
        return Written(
            text=text,
            outcome=outcome,
            reason=reason,
            logprob=sum(logprobs[:count]) / count,
            tokens_in=length,
            tokens_out=count,
        )


class _Likelihood:
    """Log-probabilities of the chosen tokens, under the model itself.

    Listens while transformers generates, one step behind, so that no step's logits are kept.
    """

    def __init__(self) -> None:
        self._logits_BV: Tensor | None = None
        self._told: list[Tensor] = []

    def __call__(self, ids_BK: Tensor, logits_BV: Tensor) -> Tensor:
        self._hear(ids_BK[:, -1])
        self._logits_BV = logits_BV
        return logits_BV

    def until(self, last_B: Tensor) -> Tensor:
        """(B, N) once generation has ended with the tokens last_B."""
        self._hear(last_B)
        return torch.stack(self._told, dim=1)

    def _hear(self, chosen_B: Tensor) -> None:
        if self._logits_BV is not None:
            logprobs_BV = self._logits_BV.float().log_softmax(-1)
            self._told.append(logprobs_BV.gather(1, chosen_B[:, None])[:, 0])


def _decoding(vlm: Vlm, config: VlmConfig) -> Any:
    """All of it: what a folder suggests, such as a penalty, is not taken up unseen."""
    from transformers import GenerationConfig

    sampling = {"temperature": config.temperature, "top_p": config.top_p, "top_k": 0}
    return GenerationConfig(
        max_new_tokens=config.max_tokens,
        do_sample=config.temperature > 0,
        eos_token_id=sorted(vlm.ends),
        pad_token_id=vlm.pad,
        **(sampling if config.temperature else {}),
    )


def _metadata(times: Sequence[float]) -> dict[str, Any]:
    """A window's true times in the words of transformers: frame numbers at 1000 frames a second."""
    step = (times[-1] - times[0]) / (len(times) - 1)
    return {
        "fps": float(TICKS),
        "frames_indices": [round(TICKS * time) for time in times],
        # From these two the models that know no times derive the frames a second.
        "total_num_frames": TICKS * step * len(times),
        "duration": step * len(times),
    }
