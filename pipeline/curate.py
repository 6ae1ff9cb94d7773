"""Raw files to the tables of sources, videos and clips.

    sources/  one row a file      digest of the bytes; equal bytes are used once
    videos/   one row a content   probed, every frame decoded; shots found
    clips/    one row a span      cut from the shots, scored, judged

Each table is one row in, one row out; a video fans out into clips between two finished tables.
"""

import dataclasses
import functools
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from openreel.pipeline import table
from openreel.pipeline.clip import Clip, Shot, Source, Status, Video
from openreel.pipeline.clips import POLICY, ClipConfig, clips_of, judge
from openreel.pipeline.commit import sha256, write_text
from openreel.pipeline.errors import InputError
from openreel.pipeline.listing import list_sources
from openreel.pipeline.media import read_image
from openreel.pipeline.probe import MediaInfo, probe
from openreel.pipeline.progress import progress
from openreel.pipeline.sandbox import Limits
from openreel.pipeline.shots import Scan, ShotConfig, find_shots, scan_frames, shrunk
from openreel.pipeline.stage import In, Out, Stage, run_stage

SOURCES, VIDEOS, CLIPS = "sources", "videos", "clips"
OTHERS = "others.json"


@dataclass(frozen=True, kw_only=True)
class CurateConfig:
    """Everything that the three tables depend on."""

    clips: ClipConfig = field(default_factory=ClipConfig)
    shots: ShotConfig = field(default_factory=ShotConfig)
    limits: Limits = field(default_factory=Limits)


def curate(
    inputs: Sequence[Path],
    dataset: Path,
    config: CurateConfig | None = None,
    *,
    retry_failed: bool = False,
) -> None:
    """Bring every media file in `inputs` (files or folders) into the tables under `dataset`.

    May be interrupted at any time; the same call goes on. Raises InputError for inputs without
    media, for a dataset begun with another config, and if a file of an earlier run has changed.
    """
    config = config or CurateConfig()
    listing = list_sources(inputs)
    _check_unchanged(dataset / SOURCES, listing.sources)
    write_text(dataset / OTHERS, json.dumps(listing.others, sort_keys=True))

    _run(_sources_stage(), listing.sources, dataset / SOURCES, retry_failed)
    _reject_duplicates(dataset / SOURCES)
    sources = table.usable(dataset / SOURCES, Source)
    _run(_videos_stage(config), sources, dataset / VIDEOS, retry_failed)
    videos = table.usable(dataset / VIDEOS, Video)
    clips = [clip for video in videos for clip in clips_of(video, config.clips)]
    _run(_clips_stage(config), clips, dataset / CLIPS, retry_failed)


def _run(stage: Stage[In, Out], rows: Sequence[In], folder: Path, retry_failed: bool) -> None:
    counts: Counter[str] = Counter()
    with progress(stage.name, total=len(rows)) as report:

        def on_row(key: str, status: Status) -> None:
            counts[status] += 1
            report(1, **counts)

        run_stage(stage, rows, folder, retry_failed=retry_failed, on_row=on_row)


def _check_unchanged(folder: Path, listed: Sequence[Source]) -> None:
    """Clips point into their source files, so that a changed file would change them in silence."""
    if not folder.exists():
        return
    keys = {source.uri: source.key for source in listed}
    for known in table.read(folder, Source):
        if keys.get(known.uri, known.key) != known.key or not Path(known.uri).is_file():
            raise InputError(
                "input", known.uri, "the file and captions that were curated, or a new dataset"
            )


# ---- sources ----------------------------------------------------------------------------------


def _sources_stage() -> Stage[Source, Source]:
    return Stage(
        name="sources",
        key="key",
        record=Source,
        fingerprint={},
        build=_build_identify,
        rows_per_block=8,
    )


def _build_identify() -> Callable[[Source], Source]:
    return identify


def identify(source: Source) -> Source:
    """The source with the digest of its bytes."""
    return replace(source, video_id=sha256(Path(source.uri))[:32])


def _reject_duplicates(folder: Path) -> None:
    """Of sources with the same bytes the first by name is used; the others say which it is."""
    first: dict[str, Source] = {}
    duplicates = []
    for source in sorted(table.usable(folder, Source), key=lambda source: source.uri):
        kept = first.setdefault(source.video_id, source)
        if kept is not source:
            reason = f"duplicate of {kept.uri}"
            again = source.attempt + 1
            duplicates.append(replace(source, status="rejected", reason=reason, attempt=again))
    if duplicates:
        table.append(folder, duplicates)
        table.compact(folder, Source)


# ---- videos -----------------------------------------------------------------------------------


def _videos_stage(config: CurateConfig) -> Stage[Source, Video]:
    limits = dataclasses.asdict(config.limits)
    return Stage(
        name="videos",
        key="video_id",
        record=Video,
        fingerprint={
            "shots": dataclasses.asdict(config.shots),
            # What a file may contain decides its verdict; what a child may cost does not.
            "limits": {name: limits[name] for name in limits if name.startswith("max_")},
        },
        build=functools.partial(_build_look, config),
    )


def _build_look(config: CurateConfig) -> Callable[[Source], Video]:
    return functools.partial(look, config=config)


def look(source: Source, config: CurateConfig) -> Video:
    """Probe a source and find its shots. Raises MediaError if it is not wholly usable."""
    path = Path(source.uri)
    info = probe(path, config.limits)
    if info.kind == "image":
        shots, scan = _still(path, info, config)
    else:
        shots, scan = find_shots(path, info, config.shots, config.limits)
    fields = dataclasses.asdict(info)
    del fields["end_pts"]  # the last shot's
    return Video(
        video_id=source.video_id,
        uri=source.uri,
        texts=source.texts,
        shots=shots,
        luma=scan.luma,
        change=scan.change,
        **fields,
    )


def _still(path: Path, info: MediaInfo, config: CurateConfig) -> tuple[tuple[Shot, ...], Scan]:
    """An image is one shot of one frame."""
    image = read_image(path, size=shrunk(info, config.shots.side), limits=config.limits)
    shot = Shot(start_frame=0, end_frame=1, start_pts=info.pts[0], end_pts=info.end_pts)
    return (shot,), scan_frames([image], config.shots)


# ---- clips ------------------------------------------------------------------------------------


def _clips_stage(config: CurateConfig) -> Stage[Clip, Clip]:
    return Stage(
        name="clips",
        key="clip_id",
        record=Clip,
        fingerprint={"policy": POLICY, **dataclasses.asdict(config.clips)},
        build=functools.partial(_build_judge, config.clips),
        rows_per_block=256,
    )


def _build_judge(config: ClipConfig) -> Callable[[Clip], Clip]:
    return functools.partial(judge, config=config)
