"""Raw files to the tables of sources, videos and clips, and to files of clips if they are wanted.

    sources/     one row a file      digest of the bytes; equal bytes are used once
    videos/      one row a content   one decode: what it is, shots, scores
    clips/       one row a span      cut from the shots, scored, judged, compared with all others
    embeddings/  one row a clip      only where a model is given
    copies/      one row a clip      only where clips are to be files of their own

Each table is one row in, one row out; a video fans out into clips between two finished tables.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openreel.pipeline import table
from openreel.pipeline.clip import Clip, Copy, Source, Status
from openreel.pipeline.clips import ClipConfig
from openreel.pipeline.commit import write_text
from openreel.pipeline.copies import CopyConfig, copies_stage, read_from_copies
from openreel.pipeline.cut import cut
from openreel.pipeline.duplicates import DuplicateConfig
from openreel.pipeline.embedding import EmbeddingConfig, embedding_stage
from openreel.pipeline.errors import InputError
from openreel.pipeline.judge import FilterConfig
from openreel.pipeline.listing import Listing, list_sources
from openreel.pipeline.look import LookConfig, videos_stage
from openreel.pipeline.progress import progress
from openreel.pipeline.runs import OnRow
from openreel.pipeline.sandbox import Limits
from openreel.pipeline.settle import settle
from openreel.pipeline.shots import ShotConfig
from openreel.pipeline.sources import check_unchanged, reject_duplicates, sources_stage
from openreel.pipeline.stage import In, Out, Stage, run_stage
from openreel.pipeline.view import View

SOURCES, VIDEOS, CLIPS = "sources", "videos", "clips"
EMBEDDINGS, COPIES = "embeddings", "copies"
OTHERS = "others.json"


@dataclass(frozen=True, kw_only=True)
class CurateConfig:
    """Everything that the tables depend on."""

    shots: ShotConfig = field(default_factory=ShotConfig)
    clips: ClipConfig = field(default_factory=ClipConfig)
    filters: FilterConfig = field(default_factory=FilterConfig)
    duplicates: DuplicateConfig = field(default_factory=DuplicateConfig)
    embedding: EmbeddingConfig = field(default_factory=EmbeddingConfig)
    copies: CopyConfig = field(default_factory=CopyConfig)
    limits: Limits = field(default_factory=Limits)
    max_bad: float = 0.5
    """the share of unusable files, among the first 50 and after, at which the run stops"""

    def __post_init__(self) -> None:
        if not 0 < self.max_bad <= 1:
            raise InputError("max_bad", self.max_bad, "above 0, at most 1 (never stop)")


def curate(
    inputs: Sequence[str | Path],
    dataset: Path,
    config: CurateConfig | None = None,
    *,
    retry_failed: bool = False,
) -> None:
    """Bring every media file of `inputs` into the tables under `dataset`.

    inputs: files, folders, manifests and URIs, as list_sources takes them. May be interrupted at
    any time; the same call goes on. Raises InputError for inputs without media, for a dataset begun
    with another config, if a file of an earlier run has changed, and if most files are unusable.
    """
    curate_listed(list_sources(inputs), dataset, config or CurateConfig(), retry_failed)


def curate_listed(
    listing: Listing, dataset: Path, config: CurateConfig, retry_failed: bool = False
) -> None:
    """As curate, of files that have been listed."""
    sources, videos, clips = dataset / SOURCES, dataset / VIDEOS, dataset / CLIPS
    check_unchanged(sources, listing.sources)
    write_text(dataset / OTHERS, json.dumps(listing.others, sort_keys=True))

    _run(sources_stage(), listing.sources, sources, retry_failed)
    reject_duplicates(sources)
    usable = table.view(sources, Source).having("ok").largest_first("num_bytes")
    look = videos_stage(LookConfig(shots=config.shots, limits=config.limits))
    _run(look, usable, videos, retry_failed, max_bad=config.max_bad)
    with progress("clips") as report:
        counted = _counted(report)
        cut(videos, clips, config.clips, config.filters, counted, retry_failed=retry_failed)

    model = config.embedding.weights is not None
    if model:
        embed = embedding_stage(config.embedding)
        _run(embed, table.view(clips, Clip).having("ok"), dataset / EMBEDDINGS, retry_failed)
    settle(clips, dataset / EMBEDDINGS if model else None, config.duplicates, config.filters)
    if config.copies.enabled:
        copy = copies_stage(dataset, config.copies.encode, config.limits)
        kept = table.view(clips, Clip).having("ok").largest_first("num_frames", "width", "height")
        _run(copy, kept, dataset / COPIES, retry_failed)


def usable_clips(dataset: Path) -> list[Clip]:
    """The clips to work on, in the order of their ids, each read from its copy if it has one."""
    clips = table.usable(dataset / CLIPS, Clip)
    if not (dataset / COPIES).is_dir():
        return clips
    copies = {row.clip_id: row for row in table.usable(dataset / COPIES, Copy)}
    return read_from_copies(clips, copies)


def _run(
    stage: Stage[In, Out],
    rows: Sequence[In] | View[Any],
    folder: Path,
    retry_failed: bool,
    max_bad: float = 1.0,
) -> None:
    with progress(stage.name, total=len(rows)) as report:
        on_row = _counted(report, max_bad)
        run_stage(stage, rows, folder, retry_failed=retry_failed, on_row=on_row)


_BUDGET_AFTER = 50
"""rows before their verdicts say something of the whole input"""


def _counted(report: Any, max_bad: float = 1.0) -> OnRow:
    """Show each row's verdict; stop a run most of whose input is bad."""
    counts: Counter[str] = Counter()

    def on_row(key: str, status: Status) -> None:
        counts[status] += 1
        report(1, **counts)
        bad, rows = counts.total() - counts["ok"], counts.total()
        if rows >= _BUDGET_AFTER and bad > max_bad * rows:
            accepted = f"at most {max_bad:.0%}; openreel inspect tells why, --max-bad 1 goes on"
            raise InputError("input", f"{bad} of {rows} files unusable", accepted)

    return on_row
