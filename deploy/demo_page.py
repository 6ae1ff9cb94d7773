"""From the demo's folders to its page: every figure on it is read or measured here."""

import math
import os
import platform
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from importlib.metadata import version
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import NoReturn

import numpy as np

from openreel.deploy import stations, stations_text
from openreel.deploy.charts import Curve, Segment
from openreel.deploy.contact_sheet import contact_sheet
from openreel.deploy.demo import Place, read_checks, read_seconds
from openreel.deploy.generate import Made, read_made
from openreel.deploy.page import render
from openreel.deploy.page_data import (
    Captioned,
    Captioning,
    Checks,
    ClipCard,
    Curation,
    Packing,
    Page,
    Reconstruction,
    RefusedFile,
    Run,
    Said,
    Video,
)
from openreel.deploy.recipes import Recipe
from openreel.dit import metrics
from openreel.packing.loader import PackLoader
from openreel.packing.patches import patch_grid
from openreel.pipeline import table
from openreel.pipeline.clip import Clip
from openreel.pipeline.commit import write_text
from openreel.pipeline.curate import CLIPS
from openreel.pipeline.errors import MediaError
from openreel.pipeline.media import Frames, Span, probe, read_clip, read_frames
from openreel.pipeline.report import report
from openreel.recaption.caption import Caption, ClipCaptions
from openreel.recaption.coca_writer import SOURCE
from openreel.vae.latent import LatentRow
from openreel.vae.run import read_latent
from openreel.vae.weights import load_autoencoder

NUM_CARDS, NUM_CAPTIONED, NUM_REBUILT = 24, 8, 4
NUM_PACKS, NUM_DRAWN_PACKS = 40, 8
STRIP, SHEET_STRIP = 4, 7
"""frames of a clip on the page, and of a video on the contact sheet"""
THUMBNAIL = 240
"""most pixels of a thumbnail's longer side"""


def write_page(place: Place, videos: Path | None, config: Recipe) -> None:
    """Write ROOT/index.html and ROOT/contact-sheet.png. videos: the user's own, shown first."""
    clips = table.read(place.dataset / CLIPS, Clip)
    by_id = {clip.clip_id: clip for clip in clips}
    own = frozenset(c.clip_id for c in clips if videos is not None and _is_under(c, videos))
    made = read_made(place.videos)
    page = Page(
        run=_run(place, videos),
        curation=_curation(place, clips, own),
        captioning=_captioning(stations_text.captions_of(place.dataset), by_id, own),
        reconstructions=_reconstructions(place, by_id, own, config),
        packing=_packing(place, config),
        curves=(
            _curve("captioner", place.captioner),
            _curve("autoencoder", place.autoencoder),
            _curve("denoiser", place.denoiser),
        ),
        videos=tuple(_video(video, place.root) for video in made),
        checks=_checks(place),
    )
    contact_sheet(place.root / "contact-sheet.png", [_sheet_row(video) for video in made])
    write_text(place.root / "index.html", render(page))


def _is_under(clip: Clip, folder: Path) -> bool:
    return Path(clip.uri).resolve().is_relative_to(folder.resolve())


def mixed(*groups: Iterable[str], count: int) -> list[str]:
    """Some of each group, as evenly as their numbers allow, in the order of the groups."""
    kept = [list(group) for group in groups]
    turns = (key for turn in zip_longest(*kept) for key in turn if key is not None)
    chosen = frozenset(islice(turns, count))
    return [key for key in chain(*kept) if key in chosen]


def evenly(frames: Frames, count: int) -> Frames:
    """At most count frames of (T, H, W, 3), from the first to the last."""
    chosen: Frames = frames[np.linspace(0, len(frames) - 1, min(count, len(frames))).astype(int)]
    return chosen


# ---- the run ----------------------------------------------------------------------------------


def _run(place: Place, videos: Path | None) -> Run:
    command = ["openreel", "demo", "--output", place.root.name]
    if videos is not None:
        command += ["--videos", str(videos)]
    names = ("openreel", "torch", "deepspeed", "ray", "diffusers", "open-clip-torch")
    versions = {"python": platform.python_version()} | {name: version(name) for name in names}
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors"
    return Run(
        command=shlex.join(command),
        versions=(("machine", machine), *versions.items()),
        seconds=tuple(read_seconds(place).items()),
    )


def _curve(name: str, run: Path) -> Curve:
    """The loss of a training run; a step that was skipped for a loss that is no number is not."""
    lines = metrics.read(run / "metrics.jsonl")
    points = [(float(line["step"]), float(line["loss"])) for line in lines]
    return Curve(name=name, points=tuple(p for p in points if math.isfinite(p[1])))


# ---- clips and captions -----------------------------------------------------------------------


def _curation(place: Place, clips: Sequence[Clip], own: frozenset[str]) -> Curation:
    found = report(place.dataset)

    def group(of_user: bool, used: bool) -> list[str]:
        return [
            c.clip_id for c in clips if (c.clip_id in own) == of_user and (c.status == "ok") == used
        ]

    by_id = {clip.clip_id: clip for clip in clips}
    groups = [group(of_user, used) for of_user in (True, False) for used in (True, False)]
    refused = [
        RefusedFile(name=Path(row.uri).name, status=row.status, reason=row.reason)
        for row in found.refused
    ]
    others = [
        RefusedFile(
            name=f"{number} × {suffix}", status="passed over", reason="not a media file by its name"
        )
        for suffix, number in sorted(found.others.items())
    ]
    return Curation(
        funnel=tuple(
            (name, counts.get("ok", 0), counts.get("rejected", 0), counts.get("failed", 0))
            for name, counts in found.counts.items()
        ),
        seconds_used=found.clip_seconds,
        cards=tuple(_card(by_id[key]) for key in mixed(*groups, count=NUM_CARDS)),
        refused=(*refused, *others),
    )


def _card(clip: Clip) -> ClipCard:
    frames = "image" if clip.kind == "image" else f"{clip.num_frames} frames, {clip.fps:g} fps"
    strip = _strip(clip)
    return ClipCard(
        name=Path(clip.uri).name,
        frame=None if strip is None else strip[len(strip) // 2],
        facts=f"{clip.width}×{clip.height}, {frames}",
        status=clip.status,
        reason=clip.reason,
    )


def _strip(clip: Clip) -> Frames | None:
    """A few frames of a clip, scaled down where it is large; None if it cannot be read any more."""
    shrink = min(1.0, THUMBNAIL / max(clip.width, clip.height))
    size = (max(1, round(clip.width * shrink)), max(1, round(clip.height * shrink)))
    every = max(1, clip.num_frames // STRIP)
    try:
        frames = read_clip(clip, size=None if shrink == 1.0 else size, every=every)
    except MediaError:
        return None
    return evenly(frames, STRIP)


def _captioning(
    captions: Mapping[str, ClipCaptions], clips: Mapping[str, Clip], own: frozenset[str]
) -> Captioning:
    known = [key for key in captions if key in clips]
    truths = {key: _truths(clips[key]) for key in known}
    compared = [key for key in known if {"short", "dense"} <= set(truths[key])]

    def exact(kind: str) -> float | None:
        if not compared:
            return None
        return float(np.mean([_text(captions[k], kind) == truths[k][kind] for k in compared]))

    def said(key: str, kind: str) -> Said:
        caption = written(captions[key], kind)
        told = compare(_text(captions[key], kind), truths[key].get(kind))
        return told if caption is None else replace(told, flaw=caption.flaw)

    chosen = mixed(
        [key for key in known if key in own],
        [key for key in known if key not in own],
        count=NUM_CAPTIONED,
    )
    strips = {key: _strip(clips[key]) for key in chosen}
    return Captioning(
        exact_short=exact("short"),
        exact_dense=exact("dense"),
        num_compared=len(compared),
        num_flawed=sum(
            bool(caption.flaw)
            for key in known
            for kind in ("short", "dense")
            if (caption := written(captions[key], kind)) is not None
        ),
        examples=tuple(
            Captioned(
                frames=strip,
                truth=truths[key].get("dense", truths[key].get("original", "")),
                short=said(key, "short"),
                dense=said(key, "dense"),
            )
            for key, strip in strips.items()
            if strip is not None
        ),
    )


def _truths(clip: Clip) -> dict[str, str]:
    """Kind -> the text that came with the file."""
    return {text.kind: text.text for text in clip.texts}


def written(captions: ClipCaptions, kind: str) -> Caption | None:
    """The captioner's own newest caption, flawed or not; never a text that came with the file,
    which is the truth that captions are compared with."""
    own = (c for c in reversed(captions.captions) if c.kind == kind and c.source == SOURCE)
    return next(own, None)


def _text(captions: ClipCaptions, kind: str) -> str:
    caption = written(captions, kind)
    return "" if caption is None else caption.text


def compare(text: str, truth: str | None) -> Said:
    """A caption's words, each with whether the truth has it too, at its place among the others."""
    words = text.split()
    if truth is None:
        return Said(words=tuple((word, None) for word in words))
    wanted, found = ([w.strip(".,").lower() for w in t.split()] for t in (truth, text))
    matcher = SequenceMatcher(None, wanted, found, autojunk=False)
    agreed = {b + i for _, b, size in matcher.get_matching_blocks() for i in range(size)}
    return Said(words=tuple((word, i in agreed) for i, word in enumerate(words)))


# ---- latents and packs ------------------------------------------------------------------------


def _reconstructions(
    place: Place, clips: Mapping[str, Clip], own: frozenset[str], config: Recipe
) -> tuple[Reconstruction, ...]:
    folder = place.dataset / "latents"
    rows = {row.clip_id: row for row in table.usable(folder, LatentRow) if row.num_frames > 1}
    wide = [key for key, row in rows.items() if row.width > row.height]
    tall = [key for key, row in rows.items() if row.width <= row.height]
    mine = [key for key in rows if key in own]
    chosen = mixed(mine, _without(wide, own), _without(tall, own), count=NUM_REBUILT)
    codec = load_autoencoder(place.autoencoder / "model")

    def rebuilt(row: LatentRow) -> Reconstruction:
        original = stations.read_scaled(clips[row.clip_id], config.encode)
        decoded = codec.decode_video(read_latent(row, folder))
        return Reconstruction(
            facts=f"{row.width}×{row.height}, {row.num_frames} frames; "
            f"{'×'.join(map(str, row.shape))} latents",
            original=evenly(original, STRIP),
            decoded=evenly(decoded, STRIP),
            psnr=psnr(original, decoded),
        )

    return tuple(rebuilt(rows[key]) for key in chosen)


def _without(keys: Iterable[str], others: frozenset[str]) -> list[str]:
    return [key for key in keys if key not in others]


def psnr(original: Frames, decoded: Frames) -> float:
    """Peak signal-to-noise ratio in dB of (T, H, W, 3), 100 where nothing differs."""
    error = float(np.mean((original.astype(np.float64) - decoded) ** 2))
    return 100.0 if error == 0 else 10 * math.log10(255**2 / error)


def _packing(place: Place, config: Recipe) -> Packing:
    """The first packs of the denoiser's training, from lengths alone."""
    latents = table.usable(place.dataset / "latents", LatentRow)
    recipe = config.denoiser
    loader = PackLoader(
        latents,
        stations_text.captions_of(place.dataset),
        read=_never,
        embed=_never,
        patch=recipe.patch,
        packer=recipe.packer,
        mix=recipe.mix,
        seed=config.seed,
    )
    grids = {}
    for row in loader.rows:
        _, t, h, w = row.shape
        grids[row.clip_id] = patch_grid((t, h, w), recipe.patch)
    packs = [
        tuple(Segment(grid=grids[item.sample_id]) for item in loader.next_items())
        for _ in range(NUM_PACKS)
    ]
    capacity = recipe.packer.max_tokens
    filled = [sum(segment.num_tokens for segment in pack) / capacity for pack in packs]
    return Packing(
        packs=tuple(packs[:NUM_DRAWN_PACKS]),
        capacity=capacity,
        mean_fill=float(np.mean(filled)),
        num_packs=NUM_PACKS,
    )


def _never(_: object) -> NoReturn:
    raise AssertionError("packs are drawn from lengths alone")


# ---- videos and checks ------------------------------------------------------------------------


def _video(made: Made, root: Path) -> Video:
    facts = made.facts
    return Video(
        prompt=made.prompt,
        expanded=facts["expansion"]["text"],
        size_in_words=facts["size_in_words"],
        facts=_rate(made),
        width=facts["width"],
        height=facts["height"],
        content=made.video.read_bytes(),
        link=made.video.relative_to(root).as_posix(),
        sidecar=made.sidecar.relative_to(root).as_posix(),
    )


def _rate(made: Made) -> str:
    facts = made.facts
    return f"{facts['num_frames']} frames at {facts['fps']:g} a second, seed {facts['seed']}"


def _sheet_row(made: Made) -> tuple[str, Frames]:
    frames = read_frames(made.video, Span.whole(probe(made.video)))
    label = f"{made.prompt}  ({made.size}; {_rate(made)})"
    return label, evenly(frames, SHEET_STRIP)


def _checks(place: Place) -> Checks:
    checked = read_checks(place)
    trained, untrained = checked["trained"], checked["untrained"]
    return Checks(
        trained=trained.scores,
        untrained=untrained.scores,
        trained_summary=trained.summary,
        untrained_summary=untrained.summary,
    )
