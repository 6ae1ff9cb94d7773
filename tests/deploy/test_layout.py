"""The dry run's arithmetic against what is kept: parameters, optimizer states, activations."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker

from openreel.deploy import cli
from openreel.deploy.dry_run import DryRun, dry_run, text_width
from openreel.deploy.layout import (
    BUCKET,
    GIB,
    LIVE,
    Job,
    activation_bytes,
    average_bytes,
    count,
    gradient_bytes,
    layer_bytes,
    optimizer_bytes,
    weight_bytes,
    working_bytes,
)
from openreel.deploy.recipes import large
from openreel.deploy.stations_dit import new_denoiser
from openreel.dit.attention import Segments
from openreel.dit.config import DiTConfig
from openreel.dit.distributed import Ranks, initialise
from openreel.dit.ema import EMA
from openreel.dit.engine import EngineConfig, build_engine
from openreel.dit.model import DiT, Layout
from openreel.packing.batch import Sample, collate
from openreel.packing.patches import positions
from openreel.packing.plan import FULL, SPATIAL, Window
from openreel.pipeline.errors import InputError

TINY = DiTConfig(
    latent_channels=4,
    text_dim=32,
    dim=64,
    depth=3,
    num_heads=4,
    mlp_ratio=3.5,
    pooled_text=True,
    shape_condition=True,
    fractional_places=True,
)
WAN = dataclasses.replace(
    TINY, latent_channels=16, text_dim=4096, dim=1536, num_heads=12, mlp_ratio=8960 / 1536
)
GRIDS = ((2, 6, 6), (1, 8, 8), (3, 6, 6))
TEXTS = (9, 20, 5)


def by_hand(config: DiTConfig) -> int:
    """Parameters of a denoiser with every condition, layer by layer with pencil and paper."""
    d, e, c = config.dim, config.text_dim, config.token_dim
    f = round(d * config.mlp_ratio)
    attention = 4 * (d * d + d) + 2 * d
    block = 2 * attention + 2 * d + (d * f + f) + (f * d + d) + 6 * d
    square = d * d + d
    embeddings = (c * d + d) + 2 * (e * d + d + square) + (256 * d + d + square)
    embeddings += (3 * d + d + square) + (27 * d + d)
    return config.depth * block + embeddings + 6 * square + (d * c + c) + 2 * d


@pytest.mark.parametrize("config", [TINY, dataclasses.replace(WAN, depth=30)])
def test_parameters_are_those_of_the_module(config: DiTConfig) -> None:
    assert count(config).total == by_hand(config)


def test_the_dry_run_counts_the_model_that_is_trained() -> None:
    recipe = large().denoiser
    with torch.device("meta"):
        trained = new_denoiser(recipe, channels=16, text_dim=4096, seed=0)
    assert trained.config == recipe.model(channels=16, text_dim=4096)
    assert count(trained.config).total == sum(p.numel() for p in trained.parameters())


def sizes(values: object) -> int:
    """Bytes of all tensors with more than one value in nested containers."""
    if isinstance(values, Tensor):
        return values.nbytes if values.numel() > 1 else 0
    if isinstance(values, dict):
        values = list(values.values())
    return sum(map(sizes, values)) if isinstance(values, list | tuple) else 0


@pytest.fixture(scope="module")
def alone() -> Ranks:
    return initialise()


def stepped(config: EngineConfig, ranks: Ranks) -> tuple[DiT, Any]:
    """A tiny model with gradients and its engine, whose states are there if it is not sharded."""
    dit = DiT(TINY)
    engine = build_engine(dit, config, ranks)
    for parameter in dit.parameters():
        parameter.grad = torch.zeros_like(parameter)
    if config.zero_stage == 0:
        engine.optimizer.step()
    return dit, engine


@pytest.mark.parametrize("optimizer", ["adamw", "lamb", "muon"])
def test_states_of_whole_weights(alone: Ranks, optimizer: str) -> None:
    config = EngineConfig(learning_rate=1e-3, optimizer=optimizer)  # type: ignore[arg-type]
    dit, engine = stepped(config, alone)
    counted = count(TINY)
    states = sizes(engine.optimizer.state_dict())
    assert states == optimizer_bytes(counted, config, gpus=1)
    assert sizes(list(dit.parameters())) == weight_bytes(counted, config, gpus=1)
    assert sizes([p.grad for p in dit.parameters()]) == gradient_bytes(counted, config, gpus=1)
    assert sizes(EMA(dit, 0.9).shadow) == average_bytes(counted)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_states_of_shards(alone: Ranks, precision: str) -> None:
    """The master, its gradients while it steps, two moments; a shard is rounded up a little."""
    config = EngineConfig(learning_rate=1e-3, zero_stage=1, precision=precision)  # type: ignore[arg-type]
    dit, engine = stepped(config, alone)
    sharded = engine.optimizer
    masters = sharded.single_partition_of_fp32_groups
    for master in masters:
        master.grad = torch.zeros_like(master)
    sharded.optimizer.step()
    moments = sizes([list(state.values()) for state in sharded.optimizer.state.values()])
    counted = count(TINY)
    found = sizes(masters) + sizes([master.grad for master in masters]) + moments
    assert found == pytest.approx(optimizer_bytes(counted, config, gpus=1), rel=1e-3)
    assert sizes(list(dit.parameters())) == weight_bytes(counted, config, gpus=1)


def test_shards_are_shares() -> None:
    counted = count(TINY)
    one = EngineConfig(learning_rate=1e-3, zero_stage=1, precision="bf16")
    two = dataclasses.replace(one, zero_stage=2)
    assert 64 * optimizer_bytes(counted, one, 64) == pytest.approx(16 * counted.total, rel=1e-3)
    assert gradient_bytes(counted, one, 64) == 2 * counted.total
    assert 64 * gradient_bytes(counted, two, 64) == pytest.approx(2 * counted.total, rel=1e-3)


def test_deepspeeds_own_defaults_are_those_of_the_arithmetic() -> None:
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    config = DeepSpeedZeroConfig(stage=1)
    assert config.reduce_bucket_size == BUCKET
    assert config.max_live_parameters == LIVE
    assert not config.overlap_comm  # which would double the bucket
    generated = EngineConfig(learning_rate=1e-3, zero_stage=1).deepspeed()["zero_optimization"]
    assert not {"reduce_bucket_size", "overlap_comm", "offload_optimizer"} & set(generated)


def kept_bytes(config: DiTConfig, *, checkpointed: bool) -> int:
    """What autograd keeps of a forward pass beside the weights, each storage once."""
    dit = DiT(config)
    dit.checkpoint_activations = checkpointed
    samples = [
        Sample(
            sample_id=str(grid),
            tokens=np.zeros((np.prod(grid), config.token_dim), np.float32),
            valid=np.ones((np.prod(grid), config.token_dim), bool),
            positions=positions(grid),
            grid=grid,
            text=np.ones((num_text, config.text_dim), np.float32),
            fps=8.0,
        )
        for grid, num_text in zip(GRIDS, TEXTS, strict=True)
    ]
    batch = collate(samples).map(torch.as_tensor)
    weights = {p.untyped_storage().data_ptr() for p in dit.parameters()}
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        dit(batch.tokens, torch.full((3,), 0.5), batch.text, dit.layout(batch))
    return sum(t.untyped_storage().nbytes() for at, t in kept.items() if at not in weights)


@pytest.mark.parametrize("window", [FULL, SPATIAL])
def test_a_layer_keeps_what_its_formula_says(window: Window) -> None:
    shallow = dataclasses.replace(TINY, depth=1, windows=(window,))
    deep = dataclasses.replace(shallow, depth=3)
    measured = kept_bytes(deep, checkpointed=False) - kept_bytes(shallow, checkpointed=False)
    num_tokens, num_text = sum(int(np.prod(g)) for g in GRIDS), sum(TEXTS)
    layer = layer_bytes(deep, num_tokens, num_text, 4, window=window, composed=True)
    assert measured == pytest.approx(2 * layer, rel=0.01)
    inputs = kept_bytes(deep, checkpointed=True) - kept_bytes(shallow, checkpointed=True)
    assert inputs == 2 * 4 * num_tokens * TINY.dim


def test_a_forward_pass_keeps_what_the_formula_says() -> None:
    num_tokens, num_text = sum(int(np.prod(g)) for g in GRIDS), sum(TEXTS)
    whole = activation_bytes(TINY, num_tokens, num_text, 4, checkpointed=False, composed=True)
    assert kept_bytes(TINY, checkpointed=False) == pytest.approx(whole, rel=0.03)


def tracked(config: DiTConfig, num_tokens: int, num_text: int, *, checkpointed: bool) -> int:
    """The peak of a forward and a backward pass beyond weights and gradients, as torch's memory
    tracker follows it on tensors without storage, at the real width."""
    device = torch.device("cpu")
    with FakeTensorMode(allow_non_fake_inputs=True):
        dit = DiT(config)
        dit.checkpoint_activations = checkpointed
        layout = Layout(
            segments={FULL: Segments((num_tokens,), (num_tokens,), device)},
            cross=Segments((num_tokens,), (num_text,), device),
            rotations_LP=torch.empty(num_tokens, config.head_dim // 2, dtype=torch.complex64),
            row_of_token_L=torch.zeros(num_tokens, dtype=torch.long),
            sample_of_text_M=torch.zeros(num_text, dtype=torch.long),
            shapes_S3=torch.empty(1, 3),
            places_LF=torch.empty(num_tokens, 27),
        )
        noisy, text = torch.empty(num_tokens, 64), torch.empty(num_text, 4096)
        tracker = MemTracker()
        tracker.track_external(dit)
        with tracker:
            dit(noisy, torch.empty(1), text, layout).sum().backward()
        (peak,) = tracker.get_tracker_snapshot("peak").values()
    by_kind = {str(kind).rpartition(".")[2]: size for kind, size in peak.items()}
    return int(by_kind["Total"] - by_kind["PARAM"] - by_kind["GRAD"])


@pytest.mark.parametrize(("depth", "checkpointed"), [(3, True), (2, False)])
def test_the_peak_at_the_real_width(depth: int, checkpointed: bool) -> None:
    """A pooled text's count of tokens cannot be had without values, so it is left out here."""
    config = dataclasses.replace(WAN, depth=depth, pooled_text=False)
    shape = (32_400, 512)
    peak = tracked(config, *shape, checkpointed=checkpointed)
    kept = activation_bytes(config, *shape, 4, checkpointed=checkpointed, composed=True)
    assert kept + working_bytes(config, shape[0], 4) == pytest.approx(peak, rel=0.1)


def reckoned(memory_gib: float = 80.0, **changes: object) -> DryRun:
    whole = large()
    recipe = dataclasses.replace(whole.denoiser, **changes)  # type: ignore[arg-type]
    return dry_run(recipe, whole, vae="none", text="umt5:none", memory_gib=memory_gib)


def test_what_is_said_to_fit_fits_and_one_token_more_does_not() -> None:
    found = reckoned()
    share = 512 / 3600
    most = found.job.fitting_tokens(found.counted, 80 * GIB, share)

    def total(num_tokens: int) -> int:
        return found.job.footprint(found.counted, num_tokens, round(num_tokens * share)).total

    assert total(most) <= 80 * GIB < total(most + 1)
    packer = dataclasses.replace(found.recipe.packer, max_tokens=most)
    reckoned(packer=packer).check()
    with pytest.raises(InputError, match=f"accepted: at most {most} on GPUs of 80 GiB"):
        reckoned(packer=dataclasses.replace(packer, max_tokens=most + 100)).check()


def test_a_refusal_says_what_would_fit() -> None:
    with pytest.raises(InputError, match=r"\d{3}\.\d GiB.* with --checkpoint-activations"):
        reckoned(checkpoint_activations=False).check()
    with pytest.raises(InputError, match="none on GPUs of 10 GiB: before the first token"):
        reckoned(memory_gib=10.0).check()
    with pytest.raises(InputError, match="gpu_memory_gib: got 0"):
        reckoned(memory_gib=0.0)
    with pytest.raises(InputError, match="gpus: got 0"):
        Job(config=TINY, engine=large().denoiser.train.engine, checkpointed=True, gpus=0)


def test_the_samples_of_a_step() -> None:
    """A 5 s clip of 1280 x 720: 21 latent frames of 90 x 160, in patches of 2 x 2."""
    image, clip = reckoned().examples
    assert (image.num_tokens, clip.num_tokens) == (45 * 80, 21 * 45 * 80)
    report = "\n".join(reckoned().lines())
    assert "64 x 75,776" in report
    assert "75,600 tokens, 1 a pack, 64 a step" in report
    shorter = dataclasses.replace(large().denoiser.packer, max_tokens=32_768)
    assert "75,600 tokens, fits no pack" in "\n".join(reckoned(packer=shorter).lines())


@pytest.mark.parametrize(
    ("kind", "stored", "width"),
    [
        ("umt5", {"d_model": 24}, 24),
        ("clip", {"text_config": {"hidden_size": 40}}, 40),
        ("captioner", {"width": 56, "vision_width": 8}, 56),
        ("t5", {"layers": 2}, None),
    ],
)
def test_the_width_of_text_is_the_encoders_own(
    tmp_path: Path, kind: str, stored: dict[str, object], width: int | None
) -> None:
    assert text_width(f"{kind}:{tmp_path}/none", large()) in (4096, large().captioner.model.width)
    (tmp_path / "config.json").write_text(json.dumps(stored))
    if width is None:
        with pytest.raises(InputError, match=r"config\.json tells the width"):
            text_width(f"{kind}:{tmp_path}", large())
    else:
        assert text_width(f"{kind}:{tmp_path}", large()) == width


COMMAND = ["train", "dit", "large", "--dataset", "d", "-o", "o", "--vae", "v", "--text", "t5:t"]


def test_the_command_shows_it_and_refuses_in_a_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cli.main([*COMMAND, "--dry-run", "--gpus", "32"])
    shown = capsys.readouterr().out
    assert "1,430,060,608 parameters" in shown
    assert "32 GPUs, all data parallel" in shown
    assert "not there yet: v, t5:t" in shown
    assert not list(tmp_path.iterdir())
    with pytest.raises(SystemExit) as stopped:
        cli.main([*COMMAND, "--dry-run", "--gpu-memory-gib", "24"])
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "packer.max_tokens" in line
