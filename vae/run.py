"""The encoding station: a clip's row in, a row that says where its latents lie out.

folder/latents/<first two digits>/<SHA-256 of the file>.safetensors

A clip that is in the table is not encoded again; another autoencoder than the table's is refused.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import safetensors.numpy

from openreel.pipeline import table
from openreel.pipeline.clip import Clip
from openreel.pipeline.commit import write_by_content
from openreel.pipeline.errors import InputError, MediaError
from openreel.pipeline.media import stream_clip
from openreel.pipeline.stage import Stage
from openreel.vae.codec import Codec, Frames, load_codec
from openreel.vae.latent import LatentRow, LatentVideo
from openreel.vae.tiling import TilePlan

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


def encode_stage(vae: str | Path, out_folder: Path, config: EncodeConfig) -> Stage[Clip, LatentRow]:
    """The station for an autoencoder (load_codec's name); latents are written under out_folder.

    Raises InputError if there is no autoencoder. Another autoencoder than the table's is refused by
    the runner, through the fingerprint.
    """
    codec = load_codec(vae).codec
    settings = {k: v for k, v in asdict(config).items() if k != "budget_mib"}
    return Stage(
        name="encode",
        key="clip_id",
        record=LatentRow,
        fingerprint={"codec": codec, **settings},
        build=partial(_build, vae, out_folder, config),
        holds_model=True,
        num_gpus=float(config.device.startswith("cuda")),
        rows_per_block=4,
    )


def _build(vae: str | Path, out_folder: Path, config: EncodeConfig) -> Callable[[Clip], LatentRow]:
    model = load_codec(vae, config.device)
    return partial(encode_clip, model=model, folder=out_folder, config=config)


def plan_clip(model: Codec, clip: Clip, config: EncodeConfig) -> TilePlan:
    """How a clip will be encoded. Raises InputError if the budget is too small for it."""
    width, height = scaled_size(clip, config) or (clip.width, clip.height)
    num_frames = min(clip.num_frames, config.max_frames or clip.num_frames)
    return model.plan(num_frames, height, width, config.budget_mib * 2**20)


def encode_clip(
    clip: Clip,
    *,
    model: Codec,
    folder: Path,
    config: EncodeConfig,
    stream: Callable[..., Iterator[Frames]] = stream_clip,
) -> LatentRow:
    """Read, encode, write, and say where. Raises MediaError if the clip cannot be read.

    A clip that fits in one tile goes through frame by frame and is never held whole.
    """
    plan = plan_clip(model, clip, config)
    frames = islice(stream(clip, size=scaled_size(clip, config)), config.max_frames)
    if plan.num_tiles == 1:
        video = _streamed(model, frames, clip.fps)
    else:
        video = model.encode_video(np.stack(list(frames)), clip.fps, tile=plan.side)
    row = write_latent(video, folder, clip.clip_id)
    return replace(
        row,
        source_num_frames=clip.num_frames,
        source_height=clip.height,
        source_width=clip.width,
    )


def _streamed(model: Codec, frames: Iterator[Frames], fps: float) -> LatentVideo:
    """Encode frames (H, W, 3) as they come."""
    num_frames, size = 0, (0, 0)

    def counted() -> Iterator[Frames]:
        nonlocal num_frames, size
        for frame in frames:
            num_frames, size = num_frames + 1, (frame.shape[0], frame.shape[1])
            yield frame[None]

    latents = np.concatenate(list(model.encode_stream(counted())), axis=1)
    return LatentVideo(
        latents=latents,
        num_frames=num_frames,
        height=size[0],
        width=size[1],
        fps=fps,
        codec=model.codec,
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
    uri, sha = write_by_content(folder, "latents", content, ".safetensors")
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


def damaged(folder: Path) -> list[tuple[LatentRow, str]]:
    """The usable rows of the table at folder whose files are missing or changed, and how."""
    found = []
    for row in table.usable(folder, LatentRow):
        try:
            read_latent(row, folder)
        except MediaError as error:
            found.append((row, str(error)))
    return found


def give_up(folder: Path, rows: Sequence[tuple[LatentRow, str]]) -> None:
    """Mark damaged rows as failed, so that encoding with retry_failed makes their files again."""
    with table.one_writer(folder):
        table.append(
            folder,
            [
                replace(row, status="failed", stage="encode", reason=why, attempt=row.attempt + 1)
                for row, why in rows
            ],
        )
