"""The encoding station: a clip's row in, a row that says where its latents lie out.

folder/latents/<first two digits>/<SHA-256 of the file>.safetensors
"""

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import safetensors.numpy

from openreel.pipeline.clip import Clip
from openreel.pipeline.commit import committed_file, sha256
from openreel.pipeline.errors import InputError, MediaError
from openreel.pipeline.media import read_clip
from openreel.pipeline.stage import Stage
from openreel.vae.latent import LatentRow, LatentVideo
from openreel.vae.model import Autoencoder, Frames
from openreel.vae.weights import load_autoencoder

TENSOR = "latents"


@dataclass(frozen=True, kw_only=True)
class EncodeConfig:
    """What of a clip is encoded. None is native: nothing is scaled, nothing left out."""

    max_area: int | None = None
    """width x height above which a clip is scaled down, aspect kept, to even sides"""
    max_frames: int | None = None
    """frames above which only the first are taken"""
    device: str = "cpu"
    budget_mib: int = 4096
    """memory for activations; a frame that needs more is encoded in tiles, with the same result"""

    def __post_init__(self) -> None:
        for field in ("max_area", "max_frames", "budget_mib"):
            value = getattr(self, field)
            if value is not None and value < (4 if field == "max_area" else 1):
                raise InputError(field, value, "4 or more" if field == "max_area" else "1 or more")


def encode_stage(
    vae_folder: Path, out_folder: Path, config: EncodeConfig
) -> Stage[Clip, LatentRow]:
    """The station for an autoencoder's folder; latents are written under out_folder.

    Raises InputError if vae_folder holds no autoencoder. Another autoencoder than the table's is
    refused by the runner, through the fingerprint.
    """
    codec = load_autoencoder(vae_folder).codec
    settings = {k: v for k, v in asdict(config).items() if k != "budget_mib"}
    return Stage(
        name="encode",
        key="clip_id",
        record=LatentRow,
        fingerprint={"codec": codec, **settings},
        build=partial(_build, vae_folder, out_folder, config),
        holds_model=True,
        num_gpus=float(config.device.startswith("cuda")),
        rows_per_block=4,
    )


def _build(vae_folder: Path, out_folder: Path, config: EncodeConfig) -> Callable[[Clip], LatentRow]:
    model = load_autoencoder(vae_folder, config.device)
    return partial(encode_clip, model=model, folder=out_folder, config=config)


def encode_clip(
    clip: Clip,
    *,
    model: Autoencoder,
    folder: Path,
    config: EncodeConfig,
    read: Callable[..., Frames] = read_clip,
) -> LatentRow:
    """Read, encode, write, and say where. Raises MediaError if the clip cannot be read."""
    frames = read(clip, size=scaled_size(clip, config), max_frames=config.max_frames)
    height, width = frames.shape[1:3]
    side = model.plan(height, width, config.budget_mib * 2**20).side
    video = model.encode_video(frames, clip.fps, tile=side)
    row = write_latent(video, folder, clip.clip_id)
    return replace(
        row,
        source_num_frames=clip.num_frames,
        source_height=clip.height,
        source_width=clip.width,
    )


def scaled_size(clip: Clip, config: EncodeConfig) -> tuple[int, int] | None:
    """(width, height) to scale a clip to, both even; None if it is small enough as it is."""
    if config.max_area is None or clip.width * clip.height <= config.max_area:
        return None
    shrink = (config.max_area / (clip.width * clip.height)) ** 0.5
    width, height = (max(2, int(side * shrink / 2) * 2) for side in (clip.width, clip.height))
    return width, height


def write_latent(video: LatentVideo, folder: Path, clip_id: str) -> LatentRow:
    """Write the latents to a file named by its content, verified before it has that name."""
    content = safetensors.numpy.save({TENSOR: video.latents})
    sha = hashlib.sha256(content).hexdigest()
    uri = f"latents/{sha[:2]}/{sha}.safetensors"
    with committed_file(folder / uri) as scratch:
        scratch.write_bytes(content)
        if sha256(scratch) != sha:
            raise OSError(f"{scratch}: what was written reads back differently")
    return LatentRow(
        clip_id=clip_id,
        codec=video.codec,
        uri=uri,
        sha256=sha,
        shape=video.latents.shape,
        num_frames=video.num_frames,
        height=video.height,
        width=video.width,
        fps=video.fps,
    )


def read_latent(row: LatentRow, folder: Path) -> LatentVideo:
    """The latents of a row of the table at folder.

    Raises:
        MediaError: the file is missing, or its bytes or shape are not the row's.
    """
    path = folder / row.uri
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise MediaError(f"{path}: missing") from None
    if hashlib.sha256(content).hexdigest() != row.sha256:
        raise MediaError(f"{path}: its digest is not {row.sha256}, the table's")
    latents = safetensors.numpy.load(content)[TENSOR]
    if latents.shape != tuple(row.shape):
        raise MediaError(f"{path}: got shape {latents.shape}; accepted: {tuple(row.shape)}")
    return LatentVideo(
        latents=latents,
        num_frames=row.num_frames,
        height=row.height,
        width=row.width,
        fps=row.fps,
        codec=row.codec,
    )
