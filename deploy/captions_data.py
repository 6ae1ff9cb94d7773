"""What the captions page shows: what each captioner did, and some clips with all that is said.

T H W   frames, rows, columns
"""

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from openreel.deploy.report_clips import sampled
from openreel.pipeline import table
from openreel.pipeline.clip import Clip
from openreel.pipeline.curate import usable_clips
from openreel.pipeline.errors import MediaError
from openreel.pipeline.media import Frames, read_clip
from openreel.pipeline.progress import progress
from openreel.pipeline.runs import runs
from openreel.pipeline.sandbox import ChildError
from openreel.recaption.caption import MANIFEST, Caption, ClipCaptions, originals
from openreel.recaption.run import spent_in
from openreel.recaption.tables import caption_tables

NUM_CLIPS = 24
THUMBNAILS, THUMBNAIL = 4, 176
"""frames of a clip, and most pixels of a frame's longer side"""


@dataclass(kw_only=True)
class KindFigures:
    """The captions of one kind of one captioner; those of windows are not counted."""

    used: int = 0
    flaws: Counter[str] = field(default_factory=Counter)
    """check -> captions that are not used because of it"""
    logprobs: list[float] = field(default_factory=list)
    agreements: list[float] = field(default_factory=list)

    def add(self, caption: Caption) -> None:
        if caption.flaw:
            self.flaws[caption.failed_check] += 1
        else:
            self.used += 1
        self.logprobs += [] if caption.logprob is None else [caption.logprob]
        self.agreements += [] if caption.agreement is None else [caption.agreement]


@dataclass(frozen=True, kw_only=True)
class CaptionerFigures:
    """One captioner's table."""

    name: str
    captioner: str
    """identity of the model"""
    rows: Counter[str]
    """verdict -> clips"""
    reasons: Counter[str]
    """of the rows that are not ok"""
    kinds: Mapping[str, KindFigures]
    seconds: float
    """of all runs that wrote it"""
    spent: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class CaptionedClip:
    """One clip with what its captioners say."""

    clip_id: str
    name: str
    facts: str
    frames: tuple[Frames, ...]
    """(H, W, 3) each; none if the file cannot be read here"""
    unreadable: str
    originals: tuple[Caption, ...]
    said: tuple[tuple[str, tuple[Caption, ...]], ...]
    """name of each captioner's table -> its captions, or its row's reason as a flaw"""


def figures(folder: Path) -> CaptionerFigures:
    """Count a captioner's table."""
    header = json.loads((folder / table.HEADER).read_text("utf-8"))
    rows: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    kinds: dict[str, KindFigures] = {}
    for row in table.read(folder, ClipCaptions):
        rows[row.status] += 1
        reasons.update([row.reason] if row.reason else [])
        for caption in row.captions:
            if caption.source != MANIFEST and caption.whole:
                kinds.setdefault(caption.kind, KindFigures()).add(caption)
    return CaptionerFigures(
        name=folder.name,
        captioner=str(header["fingerprint"]["captioner"]),
        rows=rows,
        reasons=reasons,
        kinds=kinds,
        seconds=sum(float(run["seconds"]) for run in runs(folder)),
        spent=spent_in(folder),
    )


def captioned_clips(dataset: Path, count: int = NUM_CLIPS) -> tuple[CaptionedClip, ...]:
    """Some clips, drawn evenly over the folders that they come from, each video's first clip before
    its second; the same ones each time."""
    clips = chosen(usable_clips(dataset), count)
    wanted = {clip.clip_id for clip in clips}
    said: dict[str, list[tuple[str, ClipCaptions]]] = {}
    for folder in caption_tables(dataset):
        for row in table.read(folder, ClipCaptions):
            if row.clip_id in wanted:
                said.setdefault(row.clip_id, []).append((folder.name, row))
    with (
        progress("pictures", total=len(clips)) as report,
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
    ):
        found = []
        for one in pool.map(lambda clip: _captioned(clip, said.get(clip.clip_id, [])), clips):
            found.append(one)
            report()
    return tuple(found)


def chosen(clips: Sequence[Clip], count: int) -> list[Clip]:
    """Clips of each folder in turns. An id is a digest: its order is a shuffle, always the same."""
    groups: dict[str, list[tuple[int, str, int]]] = {}
    seen: Counter[str] = Counter()
    for i, clip in sorted(enumerate(clips), key=lambda one: one[1].clip_id):
        folder = clip.uri.rpartition("/")[0]
        groups.setdefault(folder, []).append((seen[clip.video_id], clip.clip_id, i))
        seen[clip.video_id] += 1
    order = {name: [i for _, _, i in sorted(group)] for name, group in groups.items()}
    return [clips[i] for i in sampled(order, count)]


def _captioned(clip: Clip, said: Sequence[tuple[str, ClipCaptions]]) -> CaptionedClip:
    facts = [f"{clip.width}×{clip.height}"]
    if clip.kind == "image":
        facts.append("image")
    elif clip.fps > 0:
        facts += [f"{clip.num_frames / clip.fps:.2f} s", f"{clip.num_frames} frames"]
    frames, unreadable = _frames(clip)
    return CaptionedClip(
        clip_id=clip.clip_id,
        name=clip.uri.rpartition("/")[2],
        facts=" · ".join([*facts, *([clip.camera] if clip.camera else [])]),
        frames=frames,
        unreadable=unreadable,
        originals=originals(clip),
        said=tuple((name, _own(row)) for name, row in said),
    )


def _own(row: ClipCaptions) -> tuple[Caption, ...]:
    """A captioner's captions, whole ones first; without any, the reason of its row."""
    own = [c for c in row.captions if c.source != MANIFEST]
    if not own and row.reason:
        reason = f"{row.status}: {row.reason}"
        return (Caption(kind="dense", text="", source="", flaw=reason),)
    return tuple(sorted(own, key=lambda c: not c.whole))


def _frames(clip: Clip) -> tuple[tuple[Frames, ...], str]:
    """Frames from the first to the last, scaled down, or none and why."""
    shrink = min(1.0, THUMBNAIL / max(clip.width, clip.height, 1))
    size = (max(1, round(clip.width * shrink)), max(1, round(clip.height * shrink)))
    every = max(1, (clip.num_frames - 1) // (THUMBNAILS - 1))
    try:
        frames = read_clip(clip, size=size, every=every)
    except (MediaError, ChildError, OSError) as error:
        return (), str(error)
    places = np.linspace(0, len(frames) - 1, min(THUMBNAILS, len(frames)))
    return tuple(frames[i] for i in places.astype(int)), ""


def told(one: CaptionerFigures) -> str:
    """A captioner's figures in a line for a terminal."""
    rows = ", ".join(f"{n:,} {status}" for status, n in sorted(one.rows.items(), reverse=True))
    lines = [f"{one.name}: {rows or 'no rows'}"]
    for kind, found in one.kinds.items():
        unused = f", {found.flaws.total():,} not ({listed(found.flaws)})" if found.flaws else ""
        lines.append(f"  {kind}: {found.used:,} used{unused}")
    lines += [f"  {reason}: {n:,}" for reason, n in one.reasons.most_common(3)]
    if one.spent:
        lines.append("  " + ", ".join(f"{k} {v:,.6g}" for k, v in one.spent.items()))
    return "\n".join(lines)


def listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {n:,}" for name, n in counts.most_common())
