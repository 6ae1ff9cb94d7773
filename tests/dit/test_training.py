"""Exact training: any packing, any ranks, any interruption give the same weights."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from openreel.dit import checkpoint
from openreel.dit.distributed import Ranks
from openreel.dit.engine import EngineConfig
from openreel.dit.metrics import read
from openreel.dit.resume import recut
from openreel.dit.train import DenoiserTaskConfig, NoisyBatch, corrupt_batch
from openreel.dit.trainer import TrainConfig, train
from openreel.packing.batch import collate
from openreel.pipeline.errors import InputError

sys.path.insert(0, str(Path(__file__).parent))
from toy import ToyTask, sample, toy_model

TOY = Path(__file__).parent / "toy.py"
ALONE = Ranks(0, 1, torch.device("cpu"))


def launch(
    folder: Path, steps: int, ranks: int = 1, zero: int = 0, pause: float = 0.0
) -> list[str]:
    program = [str(TOY), str(folder), str(steps), str(zero), str(pause)]
    if ranks == 1:
        return [sys.executable, *program]
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    return [sys.executable, *launcher, *program]


def environment() -> dict[str, str]:
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "LOCAL_SIZE")
    return {k: v for k, v in os.environ.items() if k not in names} | {"OMP_NUM_THREADS": "1"}


def trained(folder: Path, **how: int) -> dict[str, Tensor]:
    done = subprocess.run(
        launch(folder, **how), env=environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return load_file(folder / "model" / "model.safetensors")


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in read(folder / "metrics.jsonl")]


def test_packed_loss_and_gradients_equal_sample_by_sample() -> None:
    samples = [sample(i) for i in range(7)]
    config = DenoiserTaskConfig(seed=3)
    results = []
    for packs in (
        [samples],
        [[s] for s in samples],
        [samples[5:], samples[:2][::-1], samples[2:5]],
    ):
        model = toy_model()
        total = torch.zeros(())
        for pack in packs:
            loss, _ = model(corrupt_batch(collate(pack), config))
            total = total + loss
        total.backward()
        gradients = {k: p.grad for k, p in model.named_parameters() if p.grad is not None}
        results.append((total.detach(), gradients))
    for total, gradients in results[1:]:
        torch.testing.assert_close(total, results[0][0], atol=1e-5, rtol=1e-6)
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradient, results[0][1][name], atol=1e-5, rtol=1e-4)


def test_a_change_in_one_sample_moves_no_other_bit() -> None:
    samples = [sample(i) for i in range(5)]
    model = toy_model()
    outputs = []
    for scale in (1.0, -3.0):
        samples[2].tokens[:] *= scale
        batch = collate(samples).map(torch.as_tensor)
        levels = torch.linspace(0.1, 0.9, 5)
        outputs.append(model.dit(batch.tokens, levels, batch.text, model.dit.layout(batch)))
    segments = list(collate(samples).segments())
    for i, segment in enumerate(segments):
        same = torch.equal(outputs[0][segment.tokens], outputs[1][segment.tokens])
        assert same == (i != 2)


@pytest.mark.slow
@pytest.mark.parametrize("zero", [0, 2])
def test_two_ranks_with_uneven_packs_equal_one(tmp_path: Path, zero: int) -> None:
    one = trained(tmp_path / "one", steps=6)
    two = trained(tmp_path / "two", steps=6, ranks=2, zero=zero)
    torch.testing.assert_close(
        torch.tensor(losses(tmp_path / "two")),
        torch.tensor(losses(tmp_path / "one")),
        atol=1e-5,
        rtol=0,
    )
    for name, weight in two.items():
        torch.testing.assert_close(weight, one[name], atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"ranks": 2, "zero": 2}, {"ranks": 1, "zero": 1}),
        ({"ranks": 1, "zero": 1}, {"ranks": 2, "zero": 2}),
        ({"ranks": 2, "zero": 0}, {"ranks": 1, "zero": 0}),
    ],
)
def test_a_run_goes_on_with_other_ranks_and_another_stage(
    tmp_path: Path, before: dict[str, int], after: dict[str, int]
) -> None:
    whole = trained(tmp_path / "whole", steps=6)
    trained(tmp_path / "moved", steps=3, **before)
    shutil.rmtree(tmp_path / "moved" / "model")
    weights = trained(tmp_path / "moved", steps=6, **after)
    found = losses(tmp_path / "moved")
    assert len(found) == 6  # it went on, and did not begin again
    assert found == pytest.approx(losses(tmp_path / "whole"), abs=1e-6)
    for name, weight in weights.items():
        torch.testing.assert_close(weight, whole[name], atol=1e-6, rtol=0)
    left = [p.name for p in (tmp_path / "moved" / "checkpoints").iterdir()]
    assert not [name for name in left if "tmp" in name]


def test_what_would_be_another_run_is_refused() -> None:
    saved = {
        "world_size": 2,
        "engine": {"gradient_accumulation_steps": 1, "zero_optimization": {"stage": 2}},
    }
    two = Ranks(0, 2, torch.device("cpu"))

    def asked(**engine: Any) -> EngineConfig:
        return EngineConfig(learning_rate=1e-3, **engine)

    assert not recut(saved, asked(zero_stage=2), two)
    assert recut(saved, asked(zero_stage=1), two)
    assert recut(saved, asked(zero_stage=2, accumulation=2), ALONE)
    with pytest.raises(InputError, match="ranks x accumulation: got 1; accepted: 2"):
        recut(saved, asked(zero_stage=2), ALONE)
    with pytest.raises(InputError, match="zero_stage: got 0; accepted: 1 or 2"):
        recut(saved, asked(), two)


@pytest.mark.slow
def test_killed_and_repeated_equals_uninterrupted_bit_for_bit(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", steps=12)
    process = subprocess.Popen(
        launch(tmp_path / "killed", 12, pause=0.3), env=environment(), stderr=subprocess.DEVNULL
    )
    while len(losses(tmp_path / "killed")) < 5:  # past the checkpoint of step 3
        time.sleep(0.05)
        assert process.poll() is None
    process.kill()
    process.wait()
    resumed = trained(tmp_path / "killed", steps=12)
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    for name, weight in resumed.items():
        assert torch.equal(weight, whole[name]), name


@pytest.mark.slow
def test_sigterm_saves_at_once_and_the_same_call_goes_on(tmp_path: Path) -> None:
    process = subprocess.Popen(
        launch(tmp_path / "run", 50, pause=0.3),
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    while len(losses(tmp_path / "run")) < 4:
        time.sleep(0.05)
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=20)
    assert "Stopped: step" in errors
    assert len(losses(tmp_path / "run")) < 50
    assert checkpoint.find(tmp_path / "run" / "checkpoints", "must", ALONE) is not None


def toy_config(steps: int) -> TrainConfig:
    engine = EngineConfig(learning_rate=1e-3, warmup_steps=1)
    return TrainConfig(steps=steps, engine=engine, save_every=2, max_bad_steps=2)


def test_a_bad_loss_leaves_the_weights_and_two_in_a_row_stop(tmp_path: Path) -> None:
    task = ToyTask(poison=1)
    train(task, toy_config(3), tmp_path / "one bad step")
    lines = read(tmp_path / "one bad step" / "metrics.jsonl")
    assert [line.get("bad_steps", 0) for line in lines] == [0, 1, 0]
    assert all(torch.isfinite(p).all() for p in task.model.parameters())
    always = ToyTask()
    always.model.dit.head.bias.data[0] = torch.nan
    with pytest.raises(FloatingPointError, match="2 non-finite losses in a row"):
        train(always, toy_config(5), tmp_path / "all bad")


def test_a_bad_second_micro_batch_leaves_no_trace(tmp_path: Path) -> None:
    engine = EngineConfig(learning_rate=1e-3, warmup_steps=1, schedule="constant", accumulation=2)
    bad = ToyTask(poison=3)  # packs 2 and 3 are step 2
    train(bad, TrainConfig(steps=3, engine=engine), tmp_path / "bad")

    class Without(ToyTask):
        def next_batch(self) -> NoisyBatch:
            self.pack = 4 if self.pack == 2 else self.pack
            return super().next_batch()

    clean = Without()
    train(clean, TrainConfig(steps=2, engine=engine), tmp_path / "clean")
    weights = clean.model.state_dict()
    assert bad.pack == clean.pack == 6
    for name, value in bad.model.state_dict().items():
        assert torch.equal(value, weights[name]), name


def test_never_and_must_mean_what_they_say(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no checkpoint"):
        train(ToyTask(), toy_config(4), tmp_path, resume="must")
    model = train(ToyTask(), toy_config(4), tmp_path)
    before = (model / "model.safetensors").read_bytes()
    assert train(ToyTask(), toy_config(4), tmp_path, resume="must") == model
    with pytest.raises(InputError, match="a folder without a run"):
        train(ToyTask(), toy_config(4), tmp_path, resume="never")
    assert (model / "model.safetensors").read_bytes() == before


def test_another_number_of_packs_a_step_is_refused(tmp_path: Path) -> None:
    train(ToyTask(), toy_config(4), tmp_path)
    (tmp_path / "model").rename(tmp_path / "gone")
    engine = EngineConfig(learning_rate=1e-3, accumulation=2)
    with pytest.raises(InputError, match="ranks x accumulation: got 2; accepted: 1"):
        train(ToyTask(), TrainConfig(steps=8, engine=engine), tmp_path)


def committed_run(folder: Path) -> Path:
    train(ToyTask(), toy_config(4), folder)
    return folder / "checkpoints"


def test_flipped_bytes_are_found_and_the_older_checkpoint_is_taken(tmp_path: Path) -> None:
    root = committed_run(tmp_path)
    older, newer = checkpoint.committed(root)
    shard = next(newer.rglob("*model_states.pt"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    assert "digest differs" in str(checkpoint.problem(newer))
    assert checkpoint.find(root, "auto", ALONE) == older
    next(older.rglob("*model_states.pt")).unlink()
    with pytest.raises(InputError, match="resume: got 'auto from"):
        checkpoint.find(root, "auto", ALONE)
    assert checkpoint.find(root, "never", ALONE) is None


def test_must_resume_never_starts_from_zero(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no checkpoint"):
        checkpoint.find(tmp_path, "must", ALONE)
    assert checkpoint.find(tmp_path, "auto", ALONE) is None


def test_a_lost_pointer_and_an_unfinished_save_do_no_harm(tmp_path: Path) -> None:
    root = committed_run(tmp_path)
    (root / "latest").unlink()
    (root / "step-00000099.tmp-dead").mkdir()
    found = checkpoint.find(root, "must", ALONE)
    assert found == checkpoint.committed(root)[-1]
    checkpoint.prune(root, keep=2)
    assert not list(root.glob("*.tmp-*"))


class Canary:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (Path.touch, (self.file,))


def test_a_pickle_that_would_run_code_is_refused_before_it_does(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        torch.save({"weights": Canary(tmp_path / "canary")}, folder / "evil.pt")

    checkpoint.save(tmp_path / "checkpoints", 1, ALONE, write, {"step": 1})
    with pytest.raises(InputError, match=r"evil\.pt would run"):
        checkpoint.find(tmp_path / "checkpoints", "auto", ALONE)
    assert not (tmp_path / "canary").exists()


def test_a_failed_save_leaves_the_old_checkpoint_and_no_litter(tmp_path: Path) -> None:
    root = committed_run(tmp_path)
    before = sorted(p.name for p in root.iterdir())

    def full_disk(folder: Path) -> None:
        (folder / "half").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(RuntimeError, match="No space left"):
        checkpoint.save(root, 9, ALONE, full_disk, {"step": 9})
    assert sorted(p.name for p in root.iterdir()) == before
