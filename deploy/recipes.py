"""Recipes: plain functions that return a complete frozen config. A recipe is its own run card.

    demo    the whole road on two CPU cores in minutes: `openreel demo`
    smoke   the same road in seconds, for tests; its pictures are noise
    small   one 80 GB GPU, a few days: 480-pixel clips of your own
    large   64 GPUs of 80 GB: 1.4 B parameters, images and clips of 5 s at 1280x720

Every field can be set on the command line: `openreel train dit demo --train.steps 2000`.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openreel.dit.attention import Backend
from openreel.dit.config import DiTConfig
from openreel.dit.engine import EngineConfig
from openreel.dit.flow import Flow, ShiftConfig
from openreel.dit.sample import SampleConfig
from openreel.dit.train import DenoiserTaskConfig
from openreel.dit.trainer import TrainConfig
from openreel.packing.drop import TokenDrop
from openreel.packing.loader import CaptionMix
from openreel.packing.packer import PackerConfig
from openreel.packing.patches import Patch
from openreel.packing.plan import FULL, Window
from openreel.pipeline.curate import CurateConfig
from openreel.pipeline.duplicates import DuplicateConfig
from openreel.pipeline.errors import InputError
from openreel.recaption.expander_model import ExpanderSizes
from openreel.recaption.expander_train import ExpanderTrainConfig
from openreel.recaption.run import RecaptionConfig
from openreel.recaption.train import CaptionerTrainConfig
from openreel.recaption.videococa import VideoCoCaConfig
from openreel.recaption.videococa import tiny as tiny_captioner
from openreel.vae.config import AutoencoderConfig, base, tiny
from openreel.vae.losses import LossWeights
from openreel.vae.run import EncodeConfig
from openreel.vae.train import VaeTrainConfig


@dataclass(frozen=True, kw_only=True)
class CaptionerRecipe:
    """`openreel train captioner`"""

    task: CaptionerTrainConfig
    train: TrainConfig
    model: VideoCoCaConfig = field(default_factory=tiny_captioner)
    """sizes of a new captioner; its vocabulary and context are those of the captions"""
    init: Path | None = None
    """a captioner's folder to go on from, with its sizes and words, as in DALL-E 3's fine-tunings:
    --init FOLDER --task.kinds short, and once more with dense"""


@dataclass(frozen=True, kw_only=True)
class AutoencoderRecipe:
    """`openreel train vae`"""

    model: AutoencoderConfig
    task: VaeTrainConfig
    train: TrainConfig
    read: EncodeConfig = field(default_factory=EncodeConfig)
    """how large clips are read; the default is native"""


@dataclass(frozen=True, kw_only=True)
class DenoiserRecipe:
    """`openreel train dit`"""

    dim: int
    depth: int
    num_heads: int
    packer: PackerConfig
    task: DenoiserTaskConfig
    train: TrainConfig
    mlp_ratio: float = 4.0
    patch: Patch = (1, 2, 2)
    windows: tuple[Window, ...] = (FULL,)
    pooled_text: bool = True
    shape_condition: bool = True
    fractional_places: bool = True
    checkpoint_activations: bool = False
    attention: Backend | None = None
    """varlen, flash (the extra) or sdpa; None takes varlen on CUDA in half precision, else sdpa"""
    mix: CaptionMix = field(default_factory=CaptionMix)
    drop: TokenDrop = field(default_factory=TokenDrop)
    """tokens of a sample that are not trained on (NaViT's token drop); none by default"""
    workers: int = 0
    """threads that read packs ahead of the step; 0 reads between steps"""
    gpus: int = 1
    """what --dry-run reckons with; a run takes what its launcher gives"""
    prompts: tuple[str, ...] = ()
    """shown every train.preview_every steps, each in the shape of some clip; none: a few clips'
    captions"""

    def model(self, *, channels: int, text_dim: int) -> DiTConfig:
        """The denoiser's shape, for latents of so many channels and text features of such width."""
        return DiTConfig(
            latent_channels=channels,
            text_dim=text_dim,
            dim=self.dim,
            depth=self.depth,
            num_heads=self.num_heads,
            mlp_ratio=self.mlp_ratio,
            patch=self.patch,
            windows=self.windows,
            pooled_text=self.pooled_text,
            shape_condition=self.shape_condition,
            fractional_places=self.fractional_places,
        )


@dataclass(frozen=True, kw_only=True)
class ExpanderRecipe:
    """`openreel train expander`"""

    task: ExpanderTrainConfig
    train: TrainConfig
    model: ExpanderSizes = field(default_factory=ExpanderSizes)
    """of a new model"""
    init: Path | None = None
    """the folder of a chat model to go on from, instead of a new one"""


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """How much of the procedural world the demo renders; clips with captions to learn from."""

    num_videos: int
    num_images: int


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The whole road."""

    seed: int
    world: WorldConfig
    curate: CurateConfig
    captioner: CaptionerRecipe
    recaption: RecaptionConfig
    autoencoder: AutoencoderRecipe
    encode: EncodeConfig
    denoiser: DenoiserRecipe
    sample: SampleConfig
    expander: ExpanderRecipe


def described(config: Any) -> dict[str, Any]:
    """A config as plain values, ready for JSON."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config), default=str))
    return plain


OPERATIONAL = (
    *("save_every", "keep", "timeout_minutes", "accumulation", "gpus", "workers"),
    *("prompts", "preview_every", "peak_tflops"),
)
"""settings of a training run that its result does not depend on (given the packs of a step)"""


def lasting(config: Any) -> dict[str, Any]:
    """A training recipe as plain values, without what may change from one call to the next."""

    def kept(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: kept(v) for k, v in value.items() if k not in OPERATIONAL}
        return value

    found: dict[str, Any] = kept(described(config))
    return found


def fingerprint(config: Any) -> str:
    """16 digits that name the content of a config, or of its plain values."""
    plain = config if isinstance(config, dict) else described(config)
    content = json.dumps(plain, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def demo() -> Recipe:
    """Two CPU cores, about ten minutes in all; coloured shapes at 72 x 72 pixels of area."""
    return Recipe(
        seed=0,
        world=WorldConfig(num_videos=130, num_images=40),
        # The world's films differ by construction, some in no more than a colour.
        curate=CurateConfig(duplicates=DuplicateConfig(perceptual=False)),
        captioner=_demo_captioner(),
        recaption=RecaptionConfig(),
        autoencoder=AutoencoderRecipe(
            model=tiny(),
            task=VaeTrainConfig(batch_pixels=1, loss=LossWeights(ssim=0.0)),
            train=TrainConfig(
                steps=1000,
                engine=EngineConfig(learning_rate=2e-3, warmup_steps=100, betas=(0.9, 0.98)),
                ema_decay=0.98,
                save_every=200,
                preview_every=500,
            ),
            read=EncodeConfig(max_area=96 * 96, max_frames=17),
        ),
        encode=EncodeConfig(max_area=96 * 96, max_frames=17),
        denoiser=DenoiserRecipe(
            dim=128,
            depth=4,
            num_heads=4,
            packer=PackerConfig(max_tokens=1536, look_ahead=64),
            # What a prompt asks for is decided where there is much noise: hence the mean.
            task=DenoiserTaskConfig(
                level_mean=0.5, flow=Flow(predicts="data"), shift=ShiftConfig(base_tokens=8)
            ),
            train=TrainConfig(
                steps=2000,
                engine=EngineConfig(learning_rate=4e-3, optimizer="muon", warmup_steps=20),
                ema_decay=0.995,
                save_every=200,
                preview_every=500,
            ),
            prompts=(
                "a red ball moves right",
                "a green triangle moves up",
                "a blue bar moves down",
            ),
        ),
        sample=SampleConfig(steps=24, guidance=3.0),
        expander=ExpanderRecipe(
            model=ExpanderSizes(dim=96, depth=3),
            task=ExpanderTrainConfig(batch_size=16),
            train=TrainConfig(
                steps=600,
                engine=EngineConfig(learning_rate=4e-3, warmup_steps=50, betas=(0.9, 0.98)),
                ema_decay=0.98,
                save_every=100,
            ),
        ),
    )


def _demo_captioner() -> CaptionerRecipe:
    return CaptionerRecipe(
        task=CaptionerTrainConfig(batch_size=32),
        model=dataclasses.replace(tiny_captioner(), image_size=40),
        train=TrainConfig(
            steps=400,
            engine=EngineConfig(
                learning_rate=2e-3,
                optimizer="muon",
                warmup_steps=50,
                betas=(0.9, 0.98),
                weight_decay=0.05,
            ),
            ema_decay=0.98,
            save_every=100,
        ),
    )


def smoke() -> Recipe:
    """Seconds: every station, nothing learnt."""
    whole = demo()

    def short(train: TrainConfig) -> TrainConfig:
        shown = min(train.preview_every, 4)
        return dataclasses.replace(train, steps=4, save_every=2, preview_every=shown)

    captioner = dataclasses.replace(
        whole.captioner,
        task=CaptionerTrainConfig(batch_size=4),
        train=short(whole.captioner.train),
    )
    autoencoder = dataclasses.replace(whole.autoencoder, train=short(whole.autoencoder.train))
    denoiser = dataclasses.replace(
        whole.denoiser,
        dim=48,
        depth=2,
        num_heads=2,
        packer=PackerConfig(max_tokens=1024, look_ahead=16),
        train=short(whole.denoiser.train),
    )
    return dataclasses.replace(
        whole,
        world=WorldConfig(num_videos=6, num_images=2),
        captioner=captioner,
        autoencoder=autoencoder,
        encode=dataclasses.replace(whole.encode, max_frames=9),
        denoiser=denoiser,
        sample=SampleConfig(steps=3, guidance=2.0),
        expander=dataclasses.replace(whole.expander, train=short(whole.expander.train)),
    )


def small() -> Recipe:
    """One 80 GB GPU: a 0.4 B denoiser on clips of up to 480 x 480 pixels of area, 81 frames."""
    whole = demo()
    engine = EngineConfig(learning_rate=1e-4, warmup_steps=1000, precision="bf16", zero_stage=1)
    long = TrainConfig(
        steps=200_000, engine=engine, ema_decay=0.9999, save_every=1000, preview_every=2000
    )
    return dataclasses.replace(
        whole,
        curate=CurateConfig(),
        captioner=CaptionerRecipe(
            task=CaptionerTrainConfig(batch_size=128),
            train=dataclasses.replace(long, steps=50_000),
        ),
        autoencoder=AutoencoderRecipe(
            model=base(),
            task=VaeTrainConfig(batch_pixels=8_000_000),
            train=dataclasses.replace(long, engine=dataclasses.replace(engine, precision="fp32")),
        ),
        recaption=RecaptionConfig(device="cuda"),
        encode=EncodeConfig(max_area=480 * 480, max_frames=81, device="cuda"),
        denoiser=DenoiserRecipe(
            dim=1152,
            depth=24,
            num_heads=16,
            packer=PackerConfig(max_tokens=32_768),
            task=DenoiserTaskConfig(),
            train=long,
            checkpoint_activations=True,
        ),
        sample=SampleConfig(steps=50, guidance=5.0),
        expander=ExpanderRecipe(
            model=ExpanderSizes(dim=512, depth=8, num_heads=8, vocabulary=16_384, context=1024),
            task=ExpanderTrainConfig(batch_size=128),
            train=dataclasses.replace(long, steps=20_000),
        ),
    )


def large() -> Recipe:
    """64 GPUs of 80 GB: a 1.4 B denoiser of Wan 2.1's small shape (arXiv 2503.20314, table 1) on
    images and clips of up to 1280 x 720 pixels of area and 81 frames."""
    whole = small()
    engine = dataclasses.replace(whole.denoiser.train.engine, warmup_steps=2000)
    return dataclasses.replace(
        whole,
        encode=dataclasses.replace(whole.encode, max_area=1280 * 720),
        denoiser=dataclasses.replace(
            whole.denoiser,
            dim=1536,
            depth=30,
            num_heads=12,
            mlp_ratio=8960 / 1536,
            # One clip of 5 s at 1280 x 720 is 75,600 tokens; with the rest of a pack go images.
            packer=PackerConfig(max_tokens=75_776),
            train=dataclasses.replace(whole.denoiser.train, engine=engine),
            gpus=64,
        ),
    )


RECIPES = {recipe.__name__: recipe for recipe in (demo, smoke, small, large)}


def recipe(name: str) -> Recipe:
    """The recipe of a name. Raises InputError with the names there are."""
    if name not in RECIPES:
        raise InputError("recipe", name, ", ".join(RECIPES))
    return RECIPES[name]()
