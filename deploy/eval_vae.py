"""The station that judges an autoencoder: files or a dataset's clips in, a table and a sheet out.

OUTPUT/eval.json    every figure
OUTPUT/sheet.png    originals over reconstructions
"""

import dataclasses
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Group
from rich.table import Table

from openreel.deploy.contact_sheet import contact_sheet
from openreel.pipeline.clip import Clip
from openreel.pipeline.commit import write_text
from openreel.pipeline.curate import CLIPS, usable_clips
from openreel.pipeline.errors import InputError, MediaError
from openreel.pipeline.listing import list_sources
from openreel.pipeline.media import read_clip
from openreel.pipeline.probe import probe
from openreel.pipeline.progress import progress
from openreel.pipeline.remote import local_copy
from openreel.pipeline.sources import identify
from openreel.vae.codec import Frames, load_codec
from openreel.vae.evaluate import (
    PASSES,
    ClipFigures,
    Drift,
    Judges,
    Plain,
    drift,
    figures,
    means,
    plain,
    reconstruct,
)
from openreel.vae.measures import frechet
from openreel.vae.run import EncodeConfig, scaled_size

SHEET_ROWS, SHEET_FRAMES = 8, 5
DRIFT_CLIPS, DRIFT_FRAMES = 2, 17
"""ten passes are dear: so many clips, so many frames of each"""
FEATURES = 2048
"""clips from which on an rFVD is commonly quoted"""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What was found."""

    vae: str
    codec: str
    abilities: dict[str, Any]
    clips: tuple[ClipFigures, ...]
    means: dict[str, float]
    drift: tuple[Drift, ...]
    plain: Plain
    rfvd: float
    absent: tuple[str, ...]
    """figures that were not made, and why"""
    weights: dict[str, str]
    """the files of the networks that judged"""
    unread: tuple[str, ...]
    """clips that could not be read, and why"""


def evaluate(
    vae: str,
    inputs: Sequence[str],
    output: Path,
    config: EncodeConfig,
    *,
    limit: int,
    lpips: Path | None = None,
    fvd: Path | None = None,
    passes: int = PASSES,
) -> Evaluation:
    """Judge an autoencoder on at most `limit` clips; writes OUTPUT/eval.json and OUTPUT/sheet.png.

    Raises InputError for an autoencoder, an input or weights that can't be used, and when no clip
    can be read.
    """
    codec, judges = load_codec(vae, config.device), Judges(lpips, fvd)
    clips = clips_to_judge(inputs, limit)
    found: list[ClipFigures] = []
    wear: list[Drift] = []
    unread: list[str] = []
    sheet: list[tuple[str, Frames]] = []
    seen, made = [], []
    budget = config.budget_mib * 2**20
    with progress("eval vae", total=len(clips)) as step:
        for clip in clips:
            step()
            frames = _frames(clip, config)
            if isinstance(frames, str):
                unread.append(frames)
                continue
            decoded = reconstruct(codec, frames, budget)
            found.append(figures(_name(clip), frames, decoded, judges))
            if len(wear) < DRIFT_CLIPS and passes:
                wear.append(drift(codec, frames[:DRIFT_FRAMES], budget, passes))
            if len(sheet) < 2 * SHEET_ROWS:
                sheet += _strips(found[-1], frames, decoded)
            if judges.fvd is not None:
                seen.append(judges.features(frames))
                made.append(judges.features(decoded))
    if not found:
        raise InputError("input", "; ".join(unread)[:300], "at least one clip that can be read")
    evaluation = Evaluation(
        vae=vae,
        codec=codec.codec,
        abilities=dataclasses.asdict(codec.abilities),
        clips=tuple(found),
        means=dict(means(found)),
        drift=tuple(wear),
        plain=plain(codec, budget),
        rfvd=frechet(seen, made) if len(seen) > 1 else math.nan,
        absent=tuple(_absent(judges, len(seen))),
        weights={k: str(v) for k, v in (("LPIPS", lpips), ("rFVD", fvd)) if v is not None},
        unread=tuple(unread),
    )
    contact_sheet(output / "sheet.png", sheet)
    write_text(output / "eval.json", json.dumps(_plain_values(evaluation), indent=1))
    return evaluation


def _frames(clip: Clip, config: EncodeConfig) -> Frames | str:
    """A clip's frames, or why there are none."""
    try:
        return read_clip(clip, size=scaled_size(clip, config), max_frames=config.max_frames)
    except MediaError as error:
        return f"{_name(clip)}: {error}"


def clips_to_judge(inputs: Sequence[str], limit: int) -> list[Clip]:
    """The usable clips of datasets, and files and folders of media as a clip each; `limit` of them,
    evenly from first to last. Raises InputError if there is none."""
    clips: list[Clip] = []
    media = []
    for given in inputs:
        if (Path(given) / CLIPS).is_dir():
            clips += usable_clips(Path(given))
        else:
            media.append(given)
    sources = list_sources(media).sources if media else ()
    total = len(clips) + len(sources)
    if total == 0:
        raise InputError("input", " ".join(inputs), "media files, or a dataset with usable clips")
    chosen = sorted({round(i) for i in np.linspace(0, total - 1, min(limit, total))})
    picked = [clips[i] for i in chosen if i < len(clips)]
    return picked + list(_whole_files(sources[i - len(clips)] for i in chosen if i >= len(clips)))


def _whole_files(sources: Iterable[Any]) -> Iterator[Clip]:
    for source in sources:
        known = identify(source)
        with local_copy(known.uri, known.video_id) as path:
            info = probe(path)
        yield Clip(
            clip_id=known.video_id,
            video_id=known.video_id,
            uri=known.uri,
            kind="image" if info.kind == "image" else "video",
            start_frame=0,
            num_frames=info.num_frames,
            start_pts=info.pts[0],
            end_pts=info.end_pts,
            time_base=info.time_base,
            fps=info.fps,
            width=info.width,
            height=info.height,
        )


def _name(clip: Clip) -> str:
    return f"{Path(clip.uri).name}@{clip.start_frame}"


def _strips(clip: ClipFigures, frames: Frames, decoded: Frames) -> list[tuple[str, Frames]]:
    chosen = sorted({round(i) for i in np.linspace(0, len(frames) - 1, SHEET_FRAMES)})
    said = f"{clip.name}, {clip.width}x{clip.height}"
    judged = f"back: PSNR {clip.psnr:.1f} dB, SSIM {clip.ssim:.3f}"
    return [(said, frames[chosen]), (judged, decoded[chosen])]


def _absent(judges: Judges, num_clips: int) -> Iterator[str]:
    if judges.lpips is None:
        yield "LPIPS: no weights given (--lpips FILE)"
    if judges.fvd is None:
        yield "rFVD: no weights given (--fvd FILE)"
    elif num_clips < 2:
        yield "rFVD: needs two clips or more"


def _plain_values(evaluation: Evaluation) -> dict[str, Any]:
    """For JSON, which knows neither nan nor infinity: null."""

    def known(value: Any) -> Any:
        if isinstance(value, float) and not math.isfinite(value):
            return None
        if isinstance(value, dict):
            return {k: known(v) for k, v in value.items()}
        return [known(v) for v in value] if isinstance(value, list | tuple) else value

    found: dict[str, Any] = known(dataclasses.asdict(evaluation))
    return found


def rendered(found: Evaluation) -> Group:
    """For a person."""
    table = Table("clip", "frames", "size", "PSNR dB", "SSIM", "MS-SSIM", "flicker", "LPIPS")
    for c in found.clips:
        scales = "" if c.ms_ssim_scales == 5 else f" ({c.ms_ssim_scales} scales)"
        size, ms = f"{c.width}x{c.height}", f"{_said(c.ms_ssim, 4)}{scales}"
        row = (_said(c.psnr, 2), _said(c.ssim, 4), ms, _said(c.flicker, 2), _said(c.lpips, 4))
        table.add_row(c.name, str(c.num_frames), size, *row)
    m = found.means
    ends = [_said(m[k], n) for k, n in (("psnr", 2), ("ssim", 4), ("ms_ssim", 4), ("flicker", 2))]
    table.add_row("mean", "", "", *ends, _said(m["lpips"], 4), style="bold")
    lines = [f"{found.vae}, codec {found.codec}: {_promises(found.abilities)}"]
    for i, one in enumerate(found.drift):
        steps = ", ".join(_said(p, 1) for p in one.psnr)
        lines.append(
            f"{found.clips[i].name}, {len(one.psnr)} passes: PSNR {steps} dB; colours off by "
            f"{one.colour[0]:.2f} after the first and {one.colour[-1]:.2f} after the last (L*a*b*)"
        )
    lines.append(
        f"plain colours: {found.plain.off_mean:.3f} levels off the mean (at most "
        f"{found.plain.largest:.1f}), wobble {found.plain.wobble:.3f}"
    )
    if math.isfinite(found.rfvd):
        few = "" if len(found.clips) >= FEATURES else f", few for it: {FEATURES} are usual"
        lines.append(f"rFVD {found.rfvd:.1f} over {len(found.clips)} clips{few}")
    lines += [f"{name} by {path}" for name, path in found.weights.items()]
    lines += [f"absent: {what}" for what in found.absent]
    lines += [f"not read: {what}" for what in found.unread]
    return Group(table, *lines)


def _said(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def _promises(found: dict[str, Any]) -> str:
    said = [f"{k}: {'yes' if found[k] else 'no'}" for k in ("causal", "streams", "tiles")]
    return ", ".join([*said, *([found["note"]] if found["note"] else [])])
