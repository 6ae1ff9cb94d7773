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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from openreel.dit import bad_steps, checkpoint
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
from openreel.dit.flops import peak_flops
from openreel.dit.metrics import Metrics, forget
from openreel.dit.resume import TAG, recut, shards
from openreel.dit.tally import Tally
from openreel.dit.task import Counting, Described, Preview, Task
from openreel.pipeline.commit import committed_folder
from openreel.pipeline.errors import InputError, Stopped


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
    preview_every: int = 0
    """steps from one picture of what the averaged weights make to the next; 0: none"""
    peak_tflops: float | None = None
    """of one device, in the precision of training, for the share that is reached of it (mfu); None:
    as the data sheet says, for known GPUs in bfloat16"""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InputError("steps", self.steps, "at least 1")
        if self.save_every < 1:
            raise InputError("save_every", self.save_every, "at least 1")
        if self.preview_every < 0:
            raise InputError("preview_every", self.preview_every, "0 or more")
        if self.peak_tflops is not None and not self.peak_tflops > 0:
            raise InputError("peak_tflops", self.peak_tflops, "above 0")
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
    shapes: dict[str, torch.Size]
    """of the model's own weights; the engine keeps scalars as vectors"""
    step: int = 0
    bad_steps: int = 0

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def averaged(self) -> dict[str, Tensor]:
        """The averaged weights, as the model's own state_dict has them."""
        return {name: value.view(self.shapes[name]) for name, value in self.ema.shadow.items()}


def train(
    task: Task,
    config: TrainConfig,
    folder: Path,
    *,
    resume: checkpoint.Resume = "auto",
    on_step: Callable[[int, dict[str, float]], None] | None = None,
    preview: Preview | None = None,
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
    found = checkpoint.find(folder / "checkpoints", resume, ranks)
    facts = None if found is None else checkpoint.manifest(found)
    anew = facts is not None and recut(facts, config.engine, ranks)
    engine = build_engine(task.model, config.engine, ranks, universal=anew)
    run = _Run(task, config, ranks, engine, EMA(engine.module, config.ema_decay), folder, shapes)
    if found is not None and facts is not None:
        with shards(found, anew, ranks) as whole:
            engine.load_checkpoint(str(whole), tag=TAG)
        _restore(run, found, facts)
    if ranks.is_first:
        forget(folder / bad_steps.NAME, run.step)
    metrics = Metrics(folder, run.step) if ranks.is_first else None
    try:
        with _stop_signals() as stop:
            _loop(run, stop, metrics, on_step, preview)
        if ranks.is_first:
            with committed_folder(model_folder) as scratch:
                task.export(scratch, run.averaged)
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
    preview: Preview | None,
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
        every = run.config.preview_every
        if preview is not None and every and run.step % every == 0:
            _preview(run, preview, stop, metrics)


def _preview(run: _Run, preview: Preview, stop: list[int], metrics: Metrics | None) -> None:
    """A picture by the first rank, for which the others wait; a signal cuts it short."""
    weights = run.averaged
    if metrics is not None:
        path = run.folder / "samples" / f"step-{run.step:08d}.png"
        with torch.random.fork_rng(devices=[run.ranks.device] if torch.cuda.is_available() else []):
            preview(weights, path, lambda: bool(stop))
        if path.exists():
            metrics.picture("samples", run.step, path)
    barrier(run.ranks)


def train_step(run: _Run) -> dict[str, float]:
    """One optimizer step over the micro-batches of all ranks."""
    start = time.monotonic()
    engine, ranks, accumulation = run.engine, run.ranks, run.config.engine.accumulation
    batches = [run.task.next_batch() for _ in range(accumulation)]
    read_seconds = time.monotonic() - start
    weight = total(sum(b.weight for b in batches), ranks)
    # DeepSpeed averages over ranks and micro-steps; this turns the average into our weighted mean.
    scale = ranks.world_size * accumulation / weight
    tally = Tally(ranks)
    losses: list[Tensor] = []
    learning_rate = set_learning_rate(engine, run.config.engine, run.step, run.config.steps)
    for batch in batches:
        loss, shown = engine(batch)
        losses.append(loss.detach())
        load = run.task.load(batch) if isinstance(run.task, Counting) else None
        if not math.isfinite(tally.add(loss, shown, batch.weight, load)):
            return _bad_step(run, batches, losses)
        engine.backward(loss * scale)
        norm = gradient_norm(engine)
        if norm is not None and not math.isfinite(norm):
            return _bad_step(run, batches, losses)
        engine.step()
    norm = engine.get_global_grad_norm() if norm is None else norm
    if norm is None or not math.isfinite(norm):
        # Sharded gradients are only seen once they have been applied: the weights are lost.
        _record(run, run.step + 1, batches, losses)
        raise FloatingPointError(
            f"gradient norm {norm} at step {run.step + 1}; go on from {run.checkpoints}"
        )
    run.step, run.bad_steps = run.step + 1, 0
    run.ema.update(full_weights(engine), run.step)
    seconds = time.monotonic() - start
    figures = {"learning_rate": learning_rate, "gradient_norm": float(norm)}
    figures |= {"seconds": seconds, "read_seconds": read_seconds}
    return tally.means() | figures | tally.speed(seconds, _peak(run))


def _peak(run: _Run) -> float | None:
    """Operations a second that a device could do."""
    config, device = run.config, run.ranks.device
    if config.peak_tflops is not None:
        return config.peak_tflops * 1e12
    if device.type == "cuda" and config.engine.precision == "bf16":
        return peak_flops(torch.cuda.get_device_name(device))
    return None


def _bad_step(run: _Run, batches: Sequence[Any], losses: Sequence[Tensor]) -> dict[str, float]:
    """Leave the weights untouched, say what it held, count, and give up after too many in a row."""
    discard_gradients(run.engine)
    run.step, run.bad_steps = run.step + 1, run.bad_steps + 1
    _record(run, run.step, batches, losses)
    if run.bad_steps >= run.config.max_bad_steps:
        raise FloatingPointError(
            f"{run.bad_steps} non-finite losses in a row up to step {run.step}, listed in "
            f"{run.folder / bad_steps.NAME}; the last good checkpoint is in {run.checkpoints}"
        )
    return {"loss": float("nan"), "bad_steps": float(run.bad_steps)}


def _record(run: _Run, step: int, batches: Sequence[Any], losses: Sequence[Tensor]) -> None:
    # Of a batch that cannot describe itself: where the task stood when it had been read.
    held = [b.described() if isinstance(b, Described) else run.task.state() for b in batches]
    bad_steps.record(run.folder, run.ranks, step, held, [float(loss) for loss in losses])


def _save(run: _Run) -> None:
    def write(folder: Path) -> None:
        run.engine.save_checkpoint(str(folder), tag=TAG, save_latest=False)
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


def _restore(run: _Run, found: Path, facts: dict[str, Any]) -> None:
    """All of a checkpoint but the engine's part."""
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
