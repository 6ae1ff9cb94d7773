"""What a run writes down: figures over all samples of all ranks, and none that means nothing."""

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from openreel.dit import bad_steps
from openreel.dit.breakdown import AREA, FRAMES, LEVELS, broken_down
from openreel.dit.distributed import Ranks
from openreel.dit.engine import EngineConfig
from openreel.dit.flops import training_flops
from openreel.dit.metrics import read
from openreel.dit.tally import Load, Tally
from openreel.dit.train import DenoiserTaskConfig, NoisyBatch, corrupt_batch
from openreel.dit.trainer import TrainConfig, train
from openreel.packing.batch import collate
from openreel.pipeline.errors import InputError

sys.path.insert(0, str(Path(__file__).parent))
from test_training import environment, launch
from toy import CONFIG, ToyTask, sample, toy_model

ALONE = Ranks(0, 1, torch.device("cpu"))
ENGINE = EngineConfig(learning_rate=1e-3, warmup_steps=1, accumulation=2)


def test_the_classes_add_up_to_the_loss_and_hold_their_own_samples() -> None:
    samples = [replace(sample(i), weight=float(i % 4)) for i in range(24)]
    noisy = corrupt_batch(collate(samples), DenoiserTaskConfig(seed=1))
    loss, figures = toy_model()(noisy)
    for kind, names in (("level", LEVELS), ("frames", FRAMES), ("area", AREA)):
        pairs = torch.stack([figures[f"loss_by_{kind}/{name}"] for name in names])
        torch.testing.assert_close(pairs.sum(0)[0], loss.double(), rtol=1e-6, atol=0)
        assert pairs.sum(0)[1] == noisy.weight
    used = [name for name in LEVELS if figures[f"loss_by_level/{name}"][1]]
    assert 3 < len(used) < len(LEVELS)
    # By hand: the samples of a bin, one by one.
    of_bin = [i for i in range(24) if LEVELS[int(noisy.levels[i] * 10)] == used[0]]
    alone = [
        toy_model()(corrupt_batch(collate([samples[i]]), DenoiserTaskConfig(seed=1)))[0]
        for i in of_bin
    ]
    torch.testing.assert_close(
        figures[f"loss_by_level/{used[0]}"][0],
        sum(alone, torch.zeros(())).double(),
        rtol=1e-5,
        atol=0,
    )


def test_the_ends_of_the_classes() -> None:
    grids = [(1, 4, 4), (2, 4, 4), (4, 4, 5), (5, 64, 64), (65, 64, 65), (1, 1, 1)]
    levels = torch.tensor([0.0, 0.0999, 0.1, 0.95, 1.0, 0.5])
    losses = torch.arange(1.0, 7.0)
    found = broken_down(losses, torch.ones(6), levels, grids)
    held = {name: float(pair[0]) for name, pair in found.items() if pair[1]}
    assert held == {
        "loss_by_level/0.0-0.1": 3.0,
        "loss_by_level/0.1-0.2": 3.0,
        "loss_by_level/0.9-1.0": 9.0,
        "loss_by_level/0.5-0.6": 6.0,
        "loss_by_frames/1": 7.0,
        "loss_by_frames/2-4": 5.0,
        "loss_by_frames/5-16": 4.0,
        "loss_by_frames/65+": 5.0,
        "loss_by_area/1-16": 9.0,
        "loss_by_area/17-64": 3.0,
        "loss_by_area/1025-4096": 4.0,
        "loss_by_area/4097+": 5.0,
    }


def test_a_step_is_the_weighted_mean_of_its_micro_batches() -> None:
    tally = Tally(ALONE)
    load = Load(samples=1, tokens=10, cost=6.0, budget=8.0, flops=4e12)
    bins = {"a": torch.tensor([3.0, 1.0]), "b": torch.zeros(2)}
    tally.add(torch.tensor(2.0), {"x": torch.tensor(5.0), **bins}, 1.0, load)
    tally.add(torch.tensor(4.0), {"x": torch.tensor(9.0), **bins}, 3.0, load)
    assert tally.means() == {"loss": 1.5, "x": 8.0, "a": 3.0}
    speed = tally.speed(2.0, peak=16e12)
    assert speed == {
        **{"samples": 2.0, "tokens": 20.0, "fill": 0.75},
        **{"tokens_per_second": 10.0, "tflops": 4.0, "mfu": 0.25},
    }
    assert "mfu" not in tally.speed(2.0, None)
    assert Tally(ALONE).speed(1.0, None) == {}


class CountedToy(ToyTask):
    """Says what its packs hold."""

    def load(self, batch: NoisyBatch) -> Load:
        lengths = batch.batch.lengths
        flops = training_flops(CONFIG, batch.batch)
        return Load(
            samples=len(lengths), tokens=sum(lengths), cost=sum(lengths), budget=64.0, flops=flops
        )


def run_counted(folder: Path, ranks: Ranks) -> None:
    """Called in processes of their own, below."""
    engine = replace(ENGINE, accumulation=4 // ranks.world_size)
    config = TrainConfig(steps=4, engine=engine, ema_decay=0.9, peak_tflops=1e-3, preview_every=2)
    task = CountedToy(ranks.rank, ranks.world_size, poison=13)  # packs 12 to 15 are step 4
    calls: list[int] = []
    train(task, config, folder, preview=toy_preview(task, calls))
    (folder / f"calls-{ranks.rank}").write_text(str(calls))


@pytest.mark.slow
def test_two_ranks_write_down_what_one_does(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        f"import sys; sys.path[:0] = [{str(Path(__file__).parent)!r}]\n"
        "from pathlib import Path\nfrom openreel.dit.distributed import initialise\n"
        "from test_metrics import run_counted\nrun_counted(Path(sys.argv[1]), initialise())\n"
    )
    lines, held = [], []
    for ranks in (1, 2):
        folder = tmp_path / str(ranks)
        call = launch(folder, 3, ranks)
        call[-len(launch(folder, 3)) + 1 :] = [str(program), str(folder)]
        done = subprocess.run(call, env=environment(), capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr
        assert (folder / "calls-0").read_text() == "[2, 4]"
        *good, bad = read(folder / "metrics.jsonl")
        assert bad["bad_steps"] == 1
        lines.append(good)
        held.append(read(folder / bad_steps.NAME))
    assert (tmp_path / "2" / "calls-1").read_text() == "[]"
    timed = {"seconds", "read_seconds", "tokens_per_second", "tflops", "mfu", "rank_balance"}
    for one, two in zip(*lines, strict=True):
        assert set(two) - set(one) == {"rank_balance"}
        assert 0.5 < two["rank_balance"] < 1
        for name in set(one) - timed:
            assert math.isclose(one[name], two[name], rel_tol=1e-4, abs_tol=1e-6), name
        # Work of all ranks over time, the first's: tokens and operations keep their proportion.
        for line in (one, two):
            assert math.isclose(line["tokens_per_second"] * line["seconds"], line["tokens"])
            assert math.isclose(line["mfu"], line["tflops"] / 1e-3)
            assert line["fill"] == line["tokens"] / (4 * 64)
        work = [line["tflops"] * line["seconds"] * world for line, world in ((one, 1), (two, 2))]
        assert math.isclose(*work)
    assert any(name.startswith("loss_by_level/") for name in lines[0][0])
    places = [[(line["rank"], line["micro_batch"]) for line in of_run] for of_run in held]
    assert places == [[(0, 0), (0, 1), (0, 2), (0, 3)], [(0, 0), (0, 1), (1, 0), (1, 1)]]
    one, two = ({str(line["held"]) for line in of_run} for of_run in held)
    assert one == two
    (spoilt,) = (line for line in held[1] if line["loss"] == "nan")
    assert (spoilt["rank"], spoilt["micro_batch"], spoilt["step"]) == (1, 0, 4)


def board(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return events


def toy_preview(task: ToyTask, calls: list[int]) -> Callable[..., None]:
    """Uses up randomness, runs the model and spoils what it was given."""

    def preview(weights: dict[str, Tensor], path: Path, stopping: Callable[[], bool]) -> None:
        from PIL import Image

        calls.append(int(path.stem.removeprefix("step-")))
        torch.rand(1000)
        copy = toy_model()
        copy.load_state_dict(weights)
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 12, 3), calls[-1], np.uint8)).save(path)

    return preview


class Dicing(ToyTask):
    """Draws from torch's own generator."""

    def next_batch(self) -> NoisyBatch:
        batch = super().next_batch()
        batch.batch.tokens[:] += torch.rand(batch.batch.tokens.shape).numpy()
        return batch


def test_pictures_change_nothing_and_are_on_the_board(tmp_path: Path) -> None:
    results: list[list[dict[str, Any]]] = []
    for every in (0, 2):
        torch.manual_seed(0)
        task, calls = Dicing(), []
        config = TrainConfig(steps=5, engine=ENGINE, preview_every=every)
        train(task, config, tmp_path / str(every), preview=toy_preview(task, calls))
        assert calls == ([2, 4] if every else [])
        kept = [{"loss": line["loss"]} for line in read(tmp_path / str(every) / "metrics.jsonl")]
        results.append([*kept, task.model.state_dict()])
    assert results[0][:-1] == results[1][:-1]
    assert all(torch.equal(results[0][-1][name], w) for name, w in results[1][-1].items())
    events = board(tmp_path / "2")
    assert [event.step for event in events.Images("samples")] == [2, 4]
    lines = read(tmp_path / "2" / "metrics.jsonl")
    for name in ("loss", "mean_level"):
        shown = {event.step: event.value for event in events.Scalars(name)}
        assert shown == pytest.approx({line["step"]: line[name] for line in lines})


def test_a_bad_step_says_what_it_held(tmp_path: Path) -> None:
    task = ToyTask(poison=3)  # packs 2 and 3 are step 2
    train(task, TrainConfig(steps=3, engine=ENGINE), tmp_path)
    good, bad = read(tmp_path / bad_steps.NAME)
    assert (good["step"], good["micro_batch"], good["rank"]) == (2, 0, 0)
    assert (bad["step"], bad["micro_batch"], bad["loss"]) == (2, 1, "nan")
    assert math.isfinite(good["loss"])
    assert [s["sample_id"] for s in good["held"]] == ["6", "7", "8"]
    assert [s["finite"] for s in good["held"]] == [True] * 3
    (spoilt,) = bad["held"]
    assert (spoilt["sample_id"], spoilt["epoch"], spoilt["finite"]) == ("9", 0, False)
    # The levels are those that the keys give again.
    again = corrupt_batch(collate([sample(9)]), DenoiserTaskConfig(seed=1))
    assert spoilt["level"] == float(again.levels[0])
    text = (tmp_path / bad_steps.NAME).read_text()
    assert all(
        json.loads(line, parse_constant=lambda word: pytest.fail(word))
        for line in text.splitlines()
    )


def test_a_resumed_run_repeats_no_bad_step(tmp_path: Path) -> None:
    engine = replace(ENGINE, accumulation=1)
    train(ToyTask(poison=2), TrainConfig(steps=4, engine=engine, save_every=2), tmp_path)
    before = (tmp_path / bad_steps.NAME).read_text()
    assert before.count("\n") == 1
    shutil.rmtree(tmp_path / "model")
    shutil.rmtree(tmp_path / "checkpoints" / "step-00000004")
    train(ToyTask(poison=2), TrainConfig(steps=4, engine=engine, save_every=2), tmp_path)
    assert (tmp_path / bad_steps.NAME).read_text() == before


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="preview_every"):
        TrainConfig(steps=1, engine=ENGINE, preview_every=-1)
    with pytest.raises(InputError, match="peak_tflops"):
        TrainConfig(steps=1, engine=ENGINE, peak_tflops=0.0)
