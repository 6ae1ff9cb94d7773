"""The clips that the report page shows: which ones, and three frames of each.

They are drawn evenly and by their ids, so that the same dataset shows the same ones.

T H W   frames, rows, columns
"""

import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from openreel.pipeline import table
from openreel.pipeline.clip import Clip
from openreel.pipeline.curate import CLIPS
from openreel.pipeline.errors import MediaError
from openreel.pipeline.media import Frames, read_clip
from openreel.pipeline.progress import progress
from openreel.pipeline.remote import is_uri
from openreel.pipeline.sandbox import ChildError
from openreel.pipeline.summary import Tables, summed_up

NUM_KEPT, NUM_REJECTED, NUM_PAIRS = 18, 18, 8
THUMBNAILS, THUMBNAIL = 3, 176
"""frames of a clip, and most pixels of a frame's longer side"""
_MOST_FETCHED = 256 << 20
"""bytes of an object in a store"""


@dataclass(frozen=True, kw_only=True)
class Card:
    """One clip."""

    clip_id: str
    name: str
    facts: str
    status: str
    reason: str
    frames: tuple[Frames, ...]
    """(H, W, 3) each; none if the file cannot be read here"""
    unreadable: str = ""
    """and why"""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A clip that is not used because another one is nearly the same."""

    duplicate: Card
    kept: Card | None


@dataclass(frozen=True, kw_only=True)
class Shown:
    """The clips on the page."""

    kept: tuple[Card, ...]
    rejected: tuple[Card, ...]
    pairs: tuple[Pair, ...]


def shown_clips(dataset: Path, tables: Tables) -> Shown:
    """Draw the clips and read their pictures; a file that cannot be read is one without."""
    groups = _groups(tables.clips)
    chosen = {name: sampled(group, number) for name, (group, number) in groups.items()}
    cards = _cards(dataset, tables, chosen)
    ids, same_as = tables.clips["clip_id"], tables.clips["duplicate_of"]
    found = {
        name: tuple(cards[key] for i in group if (key := ids[i].as_py()) in cards)
        for name, group in chosen.items()
    }
    partner = {ids[i].as_py(): cards.get(same_as[i].as_py()) for i in chosen["duplicates"]}
    return Shown(
        kept=found["kept"],
        rejected=found["rejected"],
        pairs=tuple(Pair(duplicate=c, kept=partner[c.clip_id]) for c in found["duplicates"]),
    )


# ---- which clips ------------------------------------------------------------------------------


def sampled(groups: Mapping[str, Sequence[int]], number: int) -> list[int]:
    """Some of each group, in turns that begin with the largest, as evenly as their sizes allow."""
    order = sorted(groups, key=lambda name: (-len(groups[name]), name))
    share = dict.fromkeys(order, 0)
    left = min(number, sum(map(len, groups.values())))
    while left:
        for name in order:
            if left and share[name] < len(groups[name]):
                share[name] += 1
                left -= 1
    return [i for name in order for i in groups[name][: share[name]]]


def _groups(clips: pa.Table) -> dict[str, tuple[dict[str, list[int]], int]]:
    """What is shown of -> its groups, each in the order in which its clips are drawn."""
    ids, status = clips["clip_id"].to_pylist(), clips["status"].to_pylist()
    reason, camera = clips["reason"].to_pylist(), clips["camera"].to_pylist()
    same_as = clips["duplicate_of"].to_pylist()
    common = summed_up(reason)
    kept: dict[str, list[int]] = {}
    rejected: dict[str, list[int]] = {}
    duplicates: dict[str, list[int]] = {}
    # An id is a digest: its order is a shuffle that is the same each time.
    for i in sorted(range(len(ids)), key=ids.__getitem__):
        if same_as[i]:
            duplicates.setdefault("", []).append(i)
        elif status[i] == "ok":
            kept.setdefault(camera[i], []).append(i)
        else:
            rejected.setdefault(common[reason[i]], []).append(i)
    videos = clips["video_id"].to_pylist()
    kept = {name: _varied(group, videos) for name, group in kept.items()}
    rejected = {name: _varied(group, videos) for name, group in rejected.items()}
    duplicates = {name: _varied(group, same_as) for name, group in duplicates.items()}
    return {
        "kept": (kept, NUM_KEPT),
        "rejected": (rejected, NUM_REJECTED),
        "duplicates": (duplicates, NUM_PAIRS),
    }


def _varied(group: Sequence[int], of: Sequence[str]) -> list[int]:
    """The first of each video, then the second of each, and so on."""
    seen: Counter[str] = Counter()
    turns = []
    for i in group:
        turns.append((seen[of[i]], i))
        seen[of[i]] += 1
    return [i for _, i in sorted(turns, key=lambda turn: turn[0])]


# ---- pictures ---------------------------------------------------------------------------------


def _cards(dataset: Path, tables: Tables, chosen: Mapping[str, Sequence[int]]) -> dict[str, Card]:
    """Id -> card, for the chosen clips and those that stand for duplicates."""
    ids, same_as = tables.clips["clip_id"], tables.clips["duplicate_of"]
    wanted = {ids[i].as_py() for group in chosen.values() for i in group}
    wanted |= {same_as[i].as_py() for i in chosen["duplicates"]}
    if not wanted:
        return {}
    # By id and not by place: the table may be written to meanwhile.
    view = table.view(dataset / CLIPS, Clip)
    rows = view.where(pc.is_in(view.keys, value_set=pa.array(sorted(wanted)))).rows()
    far = _too_far(tables.sources, {row.uri for row in rows})
    cards = {}
    with (
        progress("thumbnails", total=len(rows)) as report,
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
    ):
        for card in pool.map(lambda clip: _card(clip, clip.uri in far), rows):
            cards[card.clip_id] = card
            report()
    return cards


def _too_far(sources: pa.Table, uris: Collection[str]) -> set[str]:
    """Objects in a store that are too large to be fetched for the sake of a thumbnail."""
    large = sources.filter(pc.greater(sources["num_bytes"], _MOST_FETCHED))["uri"].to_pylist()
    return {uri for uri in large if uri in uris and is_uri(uri)}


def _card(clip: Clip, too_far: bool) -> Card:
    facts = [f"{clip.width}×{clip.height}"]
    if clip.kind == "image":
        facts.append("image")
    elif clip.fps > 0:
        facts += [f"{clip.num_frames / clip.fps:.2f} s", f"{clip.fps:.4g} fps"]
    facts += [clip.camera] if clip.camera else []
    frames: tuple[Frames, ...] = ()
    unreadable = ""
    try:
        if too_far:
            raise MediaError("too large to be fetched for this page")
        frames = _frames(clip)
    except (ValueError, ChildError, OSError) as error:
        unreadable = str(error)
    return Card(
        clip_id=clip.clip_id,
        name=clip.uri.rsplit("/", 1)[-1],
        facts=" · ".join(facts),
        status=clip.status,
        reason=clip.reason,
        frames=frames,
        unreadable=unreadable,
    )


def _frames(clip: Clip) -> tuple[Frames, ...]:
    """The first, a middle and the last frame, scaled down."""
    shrink = min(1.0, THUMBNAIL / max(clip.width, clip.height, 1))
    size = (max(1, round(clip.width * shrink)), max(1, round(clip.height * shrink)))
    every = max(1, (clip.num_frames - 1) // (THUMBNAILS - 1))
    frames = read_clip(clip, size=size, every=every)
    places = np.linspace(0, len(frames) - 1, min(THUMBNAILS, len(frames)))
    return tuple(frames[i] for i in places.astype(int))
