"""One trainer for the captioner, the autoencoder and the denoiser: a DeepSpeed engine, a globally
normalised loss, committed checkpoints, a weight average, and a resume that is exact.

A task brings the model and its batches; the trainer knows nothing of videos.

    step   read the micro-batches of all accumulation steps
           weight = the sum of their weights over all ranks, known before the first backward
           backward of loss_sum / weight; clip; AdamW; average
"""

import json
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from openreel.dit import checkpoint
from openreel.dit.distributed import Ranks, barrier, initialise, total
from openreel.dit.ema import EMA
from openreel.dit.engine import (
    EngineConfig,
    build_engine,
    discard_gradients,
    full_weights,
    gradient_norm,
    set_learning_rate,
)
from openreel.dit.metrics import Metrics
from openreel.pipeline.commit import committed_folder
from openreel.pipeline.errors import InputError, Stopped


class Batch(Protocol):
    @property
    def weight(self) -> float:
        """The sum of the samples' weights."""


class Task(Protocol):
    """What is trained. Its randomness is keyed, so that its state is a few numbers."""

    @property
    def model(self) -> nn.Module:
        """forward(batch) -> (the weighted sum of the samples' losses, figures)"""

    def next_batch(self) -> Any:
        """A Batch."""

    def state(self) -> dict[str, Any]:
        """JSON-serialisable; equal on every rank."""

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state exactly."""

    def export(self, folder: Path, weights: dict[str, Tensor]) -> None:
        """Fill a folder with the published model."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long, how fast, how often."""

    steps: int
    engine: EngineConfig
    ema_decay: float = 0.999
    save_every: int = 200
    keep: int = 2
    max_bad_steps: int = 5
    """non-finite losses in a row before the run stops"""
    timeout_minutes: int = 30

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InputError("steps", self.steps, "at least 1")
        if self.save_every < 1:
            raise InputError("save_every", self.save_every, "at least 1")
        if not 0 <= self.ema_decay < 1:
            raise InputError("ema_decay", self.ema_decay, "0 <= ema_decay < 1")


@dataclass
class _Run:
    task: Task
    config: TrainConfig
    ranks: Ranks
    engine: Any
    ema: EMA
    folder: Path
    step: int = 0
    bad_steps: int = 0

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"


def train(
    task: Task,
    config: TrainConfig,
    folder: Path,
    *,
    resume: checkpoint.Resume = "auto",
    on_step: Callable[[int, dict[str, float]], None] | None = None,
) -> Path:
    """Train a task under folder and return the published model's folder, folder/model.

    SIGTERM and Ctrl-C save and raise Stopped; the same call goes on from there. A finished run is
    not run again. Raises InputError when no checkpoint can be resumed as asked, FloatingPointError
    after max_bad_steps.
    """
    model_folder = folder / "model"
    if resume == "never" and (
        model_folder.exists() or checkpoint.committed(folder / "checkpoints")
    ):
        raise InputError("resume", f"never, into {folder}", "a folder without a run in it")
    if model_folder.exists():
        return model_folder
    ranks = initialise(config.timeout_minutes)
    shapes = {name: value.shape for name, value in task.model.state_dict().items()}
    engine = build_engine(task.model, config.engine, ranks)
    run = _Run(task, config, ranks, engine, EMA(engine.module, config.ema_decay), folder)
    _resume(run, resume)
    metrics = Metrics(folder, run.step) if ranks.is_first else None
    try:
        with _stop_signals() as stop:
            _loop(run, stop, metrics, on_step)
        if ranks.is_first:
            weights = {name: value.view(shapes[name]) for name, value in run.ema.shadow.items()}
            with committed_folder(model_folder) as scratch:
                task.export(scratch, weights)
        barrier(ranks)
    finally:
        if metrics is not None:
            metrics.close()
        engine.destroy()
    return model_folder


def _loop(
    run: _Run,
    stop: list[int],
    metrics: Metrics | None,
    on_step: Callable[[int, dict[str, float]], None] | None,
) -> None:
    while run.step < run.config.steps:
        figures = train_step(run)
        if metrics is not None:
            metrics.write(run.step, figures)
        if on_step is not None:
            on_step(run.step, figures)
        # Every rank must stop at the same step, whichever of them was told to.
        stopping = total(float(bool(stop)), run.ranks) > 0
        if stopping or run.step % run.config.save_every == 0 or run.step == run.config.steps:
            _save(run)
        if stopping and run.step < run.config.steps:
            raise Stopped(f"step {run.step} of {run.config.steps}, saved in {run.checkpoints}")


def train_step(run: _Run) -> dict[str, float]:
    """One optimizer step over the micro-batches of all ranks."""
    start = time.monotonic()
    engine, ranks, accumulation = run.engine, run.ranks, run.config.engine.accumulation
    batches = [run.task.next_batch() for _ in range(accumulation)]
    weight = total(sum(b.weight for b in batches), ranks)
    # DeepSpeed averages over ranks and micro-steps; this turns the average into our weighted mean.
    scale = ranks.world_size * accumulation / weight
    loss_sum, figures = 0.0, {}
    learning_rate = set_learning_rate(engine, run.config.engine, run.step, run.config.steps)
    for batch in batches:
        loss, shown = engine(batch)
        loss_sum += (value := total(float(loss.detach()), ranks))
        if not math.isfinite(value):
            return _bad_step(run)
        engine.backward(loss * scale)
        norm = gradient_norm(engine)
        if norm is not None and not math.isfinite(norm):
            return _bad_step(run)
        engine.step()
        figures = {name: float(v) for name, v in shown.items()}
    norm = engine.get_global_grad_norm() if norm is None else norm
    if norm is None or not math.isfinite(norm):
        # Sharded gradients are only seen once they have been applied: the weights are lost.
        raise FloatingPointError(
            f"gradient norm {norm} at step {run.step + 1}; go on from {run.checkpoints}"
        )
    run.step, run.bad_steps = run.step + 1, 0
    run.ema.update(full_weights(engine), run.step)
    seconds = time.monotonic() - start
    extra = getattr(run.task, "figures", None)
    if extra is not None:
        figures |= extra(batches[-1])
    basic = {"loss": loss_sum / weight, "learning_rate": learning_rate, "seconds": seconds}
    return basic | {"gradient_norm": float(norm)} | figures


def _bad_step(run: _Run) -> dict[str, float]:
    """Leave the weights untouched, count, and give up after too many in a row."""
    discard_gradients(run.engine)
    run.step, run.bad_steps = run.step + 1, run.bad_steps + 1
    if run.bad_steps >= run.config.max_bad_steps:
        raise FloatingPointError(
            f"{run.bad_steps} non-finite losses in a row up to step {run.step}; "
            f"the last good checkpoint is in {run.checkpoints}"
        )
    return {"loss": float("nan"), "bad_steps": float(run.bad_steps)}


def _save(run: _Run) -> None:
    def write(folder: Path) -> None:
        run.engine.save_checkpoint(str(folder), tag="engine", save_latest=False)
        if run.ranks.is_first:
            torch.save(run.ema.shadow, folder / "ema.pt")

    facts = {
        "step": run.step,
        "world_size": run.ranks.world_size,
        "task": run.task.state(),
        "engine": run.config.engine.deepspeed(),
    }
    checkpoint.save(run.checkpoints, run.step, run.ranks, write, facts)
    if run.ranks.is_first:
        checkpoint.prune(run.checkpoints, run.config.keep)


def _resume(run: _Run, resume: checkpoint.Resume) -> None:
    found = checkpoint.find(run.checkpoints, resume, run.ranks)
    if found is None:
        return
    facts, own = checkpoint.manifest(found), run.config.engine.deepspeed()
    packs = facts["world_size"] * facts["engine"]["gradient_accumulation_steps"]
    if run.ranks.world_size * run.config.engine.accumulation != packs:
        asked = run.ranks.world_size * run.config.engine.accumulation
        raise InputError("ranks x accumulation", asked, f"{packs}, as the run was begun")
    if facts["engine"]["zero_optimization"] != own["zero_optimization"]:
        begun = facts["engine"]["zero_optimization"]["stage"]
        raise InputError("zero_stage", run.config.engine.zero_stage, f"{begun}, as it was begun")
    if facts["world_size"] != run.ranks.world_size and run.config.engine.zero_stage > 0:
        accepted = f"{facts['world_size']} (ZeRO shards are resumed on as many ranks)"
        raise InputError("world_size", run.ranks.world_size, accepted)
    run.engine.load_checkpoint(str(found), tag="engine")
    run.ema.shadow = torch.load(found / "ema.pt", map_location=run.ranks.device, weights_only=True)
    run.task.restore(json.loads(json.dumps(facts["task"])))
    run.step = facts["step"]


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """Collect SIGTERM and SIGINT; a second one has its usual effect at once."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, before[number])

    before: dict[int, Any] = {}
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            before[number] = signal.signal(number, note)
    except ValueError:  # not the main thread: signals are somebody else's business
        before = {}
    try:
        yield received
    finally:
        for noted, handler in before.items():
            signal.signal(noted, handler)
