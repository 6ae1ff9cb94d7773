"""The recaptioning station: a clip's row in, the row of all its captions out.

    clip -> windows -> a writer's captions of each -> one caption a kind, checked -> a row

Clips are read ahead in threads while the writer works on others (pipeline/batches.py). What a
writer says of a window does not depend on which clips are written about together.
"""

import json
import os
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from openreel.pipeline.batches import Batched
from openreel.pipeline.clip import Clip, digest
from openreel.pipeline.commit import write_text
from openreel.pipeline.errors import InputError
from openreel.pipeline.media import stream_clip
from openreel.pipeline.stage import Stage
from openreel.recaption.caption import Caption, ClipCaptions, mean, originals
from openreel.recaption.checks import CaptionChecks, flaw
from openreel.recaption.decoding import Decoding
from openreel.recaption.merge import Part, merge
from openreel.recaption.windows import WindowConfig, WindowSpan, read_windows, windows_of
from openreel.recaption.writer import Frames, Window, Writer, Written
from openreel.recaption.writers import WriterPlan

WRITTEN_KINDS = ("short", "dense")
"""what a captioner may be asked for; originals come with the source"""
NO_WINDOW = "error: no window has a caption that can be used"


@dataclass(frozen=True, kw_only=True)
class RecaptionConfig:
    """What is written about each clip."""

    kinds: tuple[str, ...] = WRITTEN_KINDS
    decoding: Decoding = field(default_factory=Decoding)
    checks: CaptionChecks = field(default_factory=CaptionChecks)
    windows: WindowConfig = field(default_factory=WindowConfig)
    batch_size: int = 16
    """windows that are written about together"""
    num_cpus: float = 1.0
    """processors of a worker"""
    device: str = "cpu"

    # The last three are no part of the table's fingerprint: a run may go on elsewhere.

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in WRITTEN_KINDS:
                raise InputError("kinds", kind, ", ".join(WRITTEN_KINDS))
        if not self.kinds or len(set(self.kinds)) < len(self.kinds):
            raise InputError("kinds", self.kinds, "each once, at least one")
        for name in ("batch_size", "num_cpus"):
            if getattr(self, name) < 1:
                raise InputError(name, getattr(self, name), "1 or more")


def fingerprint(plan: WriterPlan, config: RecaptionConfig) -> dict[str, object]:
    """Everything that captions depend on, but for the number of the take."""
    lasting = asdict(config)
    for passing in ("device", "batch_size", "num_cpus"):
        del lasting[passing]
    return {
        "source": plan.source,
        "captioner": plan.identity,
        "prompts": {kind: prompt_digest(text) for kind, text in plan.prompts.items()},
        **lasting,
    }


def prompt_digest(prompt: str) -> str:
    """What a caption keeps of the instruction that it was written under."""
    return digest(prompt)[:8] if prompt else ""


def recaption_stage(
    plan: WriterPlan, config: RecaptionConfig, *, take: int = 1, spent: Path | None = None
) -> Stage[Clip, ClipCaptions]:
    """The station for a captioner.

    take: the number of the attempt, of which each is a table of its own. spent: the folder in which
    a captioner that costs money leaves what it has cost.
    """
    return Stage(
        name="recaption",
        key="clip_id",
        record=ClipCaptions,
        fingerprint={**fingerprint(plan, config), "take": take},
        build=partial(_build, plan, config, take, spent),
        holds_model=True,
        num_cpus=config.num_cpus,
        num_gpus=float(config.device.startswith("cuda")),
        rows_per_block=4 * config.batch_size,
        batch=config.batch_size,
        max_workers=plan.max_workers,
    )


def _build(
    plan: WriterPlan, config: RecaptionConfig, take: int, spent: Path | None
) -> Batched[Clip, ClipCaptions]:
    return recaptioning(plan.build(), config, take=take, spent=spent)


def recaptioning(
    writer: Writer,
    config: RecaptionConfig,
    *,
    read: Callable[..., Iterable[Frames]] = stream_clip,
    take: int = 1,
    spent: Path | None = None,
) -> Batched[Clip, ClipCaptions]:
    """The station's work. read: as stream_clip."""
    count = None if spent is None else spent / f"_spent-{uuid.uuid4().hex[:8]}.json"

    def work(some: Sequence[tuple[Clip, Any]]) -> list[ClipCaptions]:
        rows = written_rows(some, writer, config)
        if count is not None:
            note_spent(writer, count)
        return rows

    return Batched(
        read=lambda clip: read_windows(clip, writer.sight, config.windows, take=take, read=read),
        work=work,
        length=lambda clip: len(windows_of(clip, config.windows)),
        num_readers=2 if config.device == "cpu" else max(2, min(8, os.cpu_count() or 2)),
    )


def written_rows(
    some: Sequence[tuple[Clip, Sequence[tuple[WindowSpan, Window]]]],
    writer: Writer,
    config: RecaptionConfig,
) -> list[ClipCaptions]:
    """The rows of clips with their windows: captions that came along, then a kind's at a time."""
    windows = [window for _, pairs in some for _, window in pairs]
    said: dict[str, list[Written]] = {kind: [] for kind in config.kinds}
    for start in range(0, len(windows), config.batch_size):
        batch = windows[start : start + config.batch_size]
        for kind in config.kinds:
            said[kind] += writer.write(batch, kind)
    rows, first = [], 0
    for clip, pairs in some:
        own = {kind: all_of[first : first + len(pairs)] for kind, all_of in said.items()}
        rows.append(_row(clip, [span for span, _ in pairs], own, writer, config))
        first += len(pairs)
    return rows


def _row(
    clip: Clip,
    spans: Sequence[WindowSpan],
    said: Mapping[str, Sequence[Written]],
    writer: Writer,
    config: RecaptionConfig,
) -> ClipCaptions:
    """A failed row, to be tried again, if the captioner failed on a window."""
    captions = list(originals(clip))
    for kind, written in said.items():
        # A caption's provenance, the same for all of a kind.
        by = Caption(
            kind=kind,
            text="",
            source=writer.source,
            model=writer.identity,
            prompt=prompt_digest(writer.prompt(kind)),
        )
        captions += _captions(by, spans, written, config.checks)
    errors = [w.reason for written in said.values() for w in written if w.outcome == "error"]
    if not errors:
        return ClipCaptions(clip_id=clip.clip_id, captions=tuple(captions))
    return ClipCaptions(
        clip_id=clip.clip_id, captions=tuple(captions), status="failed", reason=errors[0][:500]
    )


def _captions(
    by: Caption, spans: Sequence[WindowSpan], written: Sequence[Written], checks: CaptionChecks
) -> list[Caption]:
    """Of a short clip its one caption; of a long one those of its windows, then all as one."""
    own = [
        replace(
            by,
            text=one.text,
            logprob=one.logprob,
            agreement=one.agreement,
            start_s=span.start_s,
            end_s=span.end_s,
            whole=False,
            flaw=flaw(one, checks),
        )
        for span, one in zip(spans, written, strict=True)
    ]
    if len(own) == 1:
        return [replace(own[0], start_s=0.0, end_s=None, whole=True)]
    return [*own, _whole(by, own, checks)]


def _whole(by: Caption, own: Sequence[Caption], checks: CaptionChecks) -> Caption:
    """The usable captions of a clip's windows as one; its scores are their means."""
    usable = [caption for caption in own if not caption.flaw]
    if not usable:
        return replace(by, flaw=NO_WINDOW)
    parts = [Part(start_s=c.start_s, end_s=c.end_s or 0.0, text=c.text) for c in usable]
    merged = merge(parts, times=by.kind == "dense")
    found = flaw(Written(text=merged.text), checks, windows=len(usable))
    if merged.contradiction:
        found = f"contradiction: {merged.contradiction}"
    return replace(
        by,
        text=merged.text,
        logprob=mean(c.logprob for c in usable),
        agreement=mean(c.agreement for c in usable),
        flaw=found,
    )


# ---- what a server has cost -------------------------------------------------------------------


def note_spent(writer: Writer, path: Path) -> None:
    """Replace a worker's count of requests, tokens and cost, if its writer keeps one."""
    spent = getattr(writer, "spent", None)
    if spent is not None:
        write_text(path, json.dumps(asdict(spent)))


def spent_in(folder: Path) -> dict[str, float]:
    """The sums of all counts of a table's workers; empty where nothing was counted."""
    total: dict[str, float] = {}
    for path in sorted(folder.glob("_spent-*.json")):
        for name, value in json.loads(path.read_text("utf-8")).items():
            total[name] = total.get(name, 0) + value
    return total
