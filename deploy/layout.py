"""What training a denoiser takes, by arithmetic on its recipe: memory, tokens a step, the layout.

Nothing is loaded: the parameters are counted on torch's meta device, the rest are products. Every
figure is of one GPU, in bytes. Ranks are data parallel: each works on packs of its own, and ZeRO
shards among all of them what the stage says.

    P parameters   N GPUs   L tokens of a pack   M text tokens   C values of a token
    D width   F width of the MLP   H heads   E values of a text feature   b bytes of a value
"""

from bisect import bisect_right
from dataclasses import dataclass
from typing import Literal

from openreel.dit.config import DiTConfig
from openreel.dit.engine import EngineConfig
from openreel.dit.places import WIDTH
from openreel.packing.plan import FULL, Window
from openreel.pipeline.errors import InputError

FLOAT32 = 4
GIB = 2**30

BUCKET = 500_000_000
"""values that DeepSpeed reduces at once, its default; the buffer is there whatever the model"""
LIVE = 1_000_000_000
"""parameters that ZeRO-3 gathers at most, DeepSpeed's default"""
RESERVE = 5 * GIB
"""for CUDA's context, NCCL's buffers, the kernels' workspaces and the allocator's fragments"""
TEXT_TOKENS = 512
"""text tokens of a sample: the length to which T5's features are padded or cut elsewhere"""
MOST_TOKENS = 2**24


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Counts of a model's values."""

    total: int
    matrices: int
    """those that Muon steps"""


def count(config: DiTConfig) -> Parameters:
    """The parameters of a denoiser, counted on the real module without memory for it."""
    import torch

    from openreel.dit.model import DiT
    from openreel.dit.optimizer import matrices

    with torch.device("meta"):
        dit = DiT(config)
    return Parameters(
        total=sum(p.numel() for p in dit.parameters()),
        matrices=sum(p.numel() for p in matrices(dit)),
    )


def value_bytes(precision: Literal["fp32", "bf16"]) -> int:
    """b, of weights, gradients and activations."""
    return 2 if precision == "bf16" else FLOAT32


# ---- model states -----------------------------------------------------------------------------


def weight_bytes(counted: Parameters, engine: EngineConfig, gpus: int) -> int:
    """b P on every GPU; under ZeRO-3 b P / N and what is gathered at once."""
    width = value_bytes(engine.precision)
    if engine.zero_stage < 3:
        return width * counted.total
    return width * (_share(counted.total, gpus) + min(counted.total, LIVE))


def gradient_bytes(counted: Parameters, engine: EngineConfig, gpus: int) -> int:
    """b P up to ZeRO-1; b P / N from ZeRO-2 on, which keeps no other rank's."""
    width = value_bytes(engine.precision)
    return width * (counted.total if engine.zero_stage < 2 else _share(counted.total, gpus))


def optimizer_bytes(counted: Parameters, engine: EngineConfig, gpus: int) -> int:
    """8 P: two float32 moments of AdamW and LAMB; Muon has one for a matrix.

    From ZeRO-1 on, 16 P / N: beside the moments a float32 master copy of the weights, whatever the
    precision, and of the gradients while it steps.
    """
    if engine.zero_stage == 0:
        values = 2 * counted.total - (counted.matrices if engine.optimizer == "muon" else 0)
        return FLOAT32 * values
    return 4 * FLOAT32 * _share(counted.total, gpus)


def bucket_bytes(engine: EngineConfig) -> int:
    """The buffer in which ZeRO brings gradients together for reduction: b x 5e8."""
    return value_bytes(engine.precision) * BUCKET if engine.zero_stage > 0 else 0


def average_bytes(counted: Parameters) -> int:
    """4 P: every rank keeps the whole weight average, in float32."""
    return FLOAT32 * counted.total


def gathered_bytes(counted: Parameters, engine: EngineConfig) -> int:
    """4 P from ZeRO-1 on: the float32 weights, made whole after a step for the average."""
    return FLOAT32 * counted.total if engine.zero_stage > 0 else 0


def _share(values: int, gpus: int) -> int:
    return -(-values // gpus)


# ---- activations ------------------------------------------------------------------------------


def layer_bytes(
    config: DiTConfig,
    num_tokens: int,
    num_text: int,
    width: int,
    *,
    window: Window = FULL,
    composed: bool = False,
) -> int:
    """What a layer's backward pass needs of its forward pass:

        b L (27 D + 2 F) + 3 b M D + L (36 + 8 H) + 4 M

    27 = 8 for modulation (six tables gathered as one, two scales plus one), 10 for self-attention
    (the layer's input, its norm, the norm modulated; q and k before their norms; q, k, v; the
    result before its projection and after), 5 for cross-attention (its input, the norm, q before
    and after its own, the result) and 4 for the MLP (its input, the norm, the norm modulated, the
    result). A window's order costs one copy of the result. The terms without b are float32
    statistics of norms and of attention. window: the layer's. composed: as on CPUs, where a
    root-mean-square norm keeps its quotient and attention its result in two orders.
    """
    dim, mlp_dim = config.dim, int(config.dim * config.mlp_ratio)
    widths = 27 + (window != FULL or composed) + (4 if composed else 0)
    values = num_tokens * (widths * dim + 2 * mlp_dim) + num_text * (4 if composed else 3) * dim
    statistics = num_tokens * (36 + 8 * config.num_heads) + 4 * num_text
    return width * values + statistics


def outer_bytes(config: DiTConfig, num_tokens: int, num_text: int, width: int) -> int:
    """The same of all that is outside the layers: b L (4 D + C + 27) + b M (3 D + E), and 4 L C + L
    (4 D / H + 56) of float32, rotations and indices.
    """
    values = num_tokens * (4 * config.dim + config.token_dim + WIDTH)
    values += num_text * (3 * config.dim + config.text_dim)
    head_dim = config.dim // config.num_heads
    return width * values + num_tokens * (FLOAT32 * config.token_dim + 4 * head_dim + 56)


def working_bytes(config: DiTConfig, num_tokens: int, width: int) -> int:
    """Gradients alive at once in a layer's backward pass: b L (F + 3 D), one of the MLP's wide
    values, and three of the width."""
    return width * num_tokens * (int(config.dim * config.mlp_ratio) + 3 * config.dim)


def activation_bytes(
    config: DiTConfig,
    num_tokens: int,
    num_text: int,
    width: int,
    *,
    checkpointed: bool,
    composed: bool = False,
) -> int:
    """Kept from the forward pass at the most: every layer's, or with checkpointing b L D for every
    layer (its input) and the one layer that is being computed again. Without the gradients
    (working_bytes)."""
    windows = (config.windows[i % len(config.windows)] for i in range(config.depth))
    layers = [
        layer_bytes(config, num_tokens, num_text, width, window=window, composed=composed)
        for window in windows
    ]
    outer = outer_bytes(config, num_tokens, num_text, width)
    if not checkpointed:
        return outer + sum(layers)
    return outer + config.depth * width * num_tokens * config.dim + max(layers)


def pack_bytes(config: DiTConfig, num_tokens: int, num_text: int) -> int:
    """A pack on its way through the objective: clean and noisy latents, noise, prediction, target
    and error in float32 with two masks, 26 L C; places, 16 L; text features, 4 M E."""
    latents = num_tokens * (26 * config.token_dim + 16)
    return latents + FLOAT32 * num_text * config.text_dim


# ---- a GPU ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """One GPU's memory, in bytes."""

    weights: int
    gradients: int
    optimizer: int
    bucket: int
    average: int
    gathered: int
    activations: int
    working: int
    pack: int

    @property
    def backward(self) -> int:
        """While gradients are computed."""
        return self._states + self.bucket + self.activations + self.working + self.pack

    @property
    def step(self) -> int:
        """After the optimizer's step, when the weights are averaged; activations are gone."""
        return self._states + self.bucket + self.gathered + self.pack

    @property
    def _states(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.average

    @property
    def total(self) -> int:
        """The larger of the two moments, with what the machine itself takes."""
        return RESERVE + max(self.backward, self.step)


@dataclass(frozen=True, kw_only=True)
class Job:
    """A model, how it is trained, and on how many GPUs. Raises InputError below one GPU."""

    config: DiTConfig
    engine: EngineConfig
    checkpointed: bool
    gpus: int

    def __post_init__(self) -> None:
        if self.gpus < 1:
            raise InputError("gpus", self.gpus, "at least 1")

    def footprint(self, counted: Parameters, num_tokens: int, num_text: int) -> Footprint:
        """Of packs of so many tokens."""
        width = value_bytes(self.engine.precision)
        return Footprint(
            weights=weight_bytes(counted, self.engine, self.gpus),
            gradients=gradient_bytes(counted, self.engine, self.gpus),
            optimizer=optimizer_bytes(counted, self.engine, self.gpus),
            bucket=bucket_bytes(self.engine),
            average=average_bytes(counted),
            gathered=gathered_bytes(counted, self.engine),
            activations=activation_bytes(
                self.config, num_tokens, num_text, width, checkpointed=self.checkpointed
            ),
            working=working_bytes(self.config, num_tokens, width),
            pack=pack_bytes(self.config, num_tokens, num_text),
        )

    def fitting_tokens(self, counted: Parameters, memory: float, text_share: float) -> int:
        """The largest pack that fits so many bytes; 0 where nothing does.

        text_share: text tokens for each token.
        """

        def total(num_tokens: int) -> int:
            return self.footprint(counted, num_tokens, round(num_tokens * text_share)).total

        return max(0, bisect_right(range(MOST_TOKENS), memory, key=total) - 1)
