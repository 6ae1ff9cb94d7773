"""The record of recaptioning: what is said about a clip, by whom. No torch here."""

from collections.abc import Iterable
from dataclasses import dataclass

from openreel.pipeline.clip import Clip, Verdict

KINDS = ("original", "short", "dense")
MANIFEST = "manifest"
"""source of the texts that came with clips"""


@dataclass(frozen=True, kw_only=True)
class Caption:
    """One text about one clip or a window of it, and where it came from."""

    kind: str
    """original (came with the source), short (the subject) or dense (everything seen)"""
    text: str
    source: str
    """manifest, videococa, vlm, endpoint, template"""
    model: str = ""
    """identity of what wrote it; empty for the manifest's"""
    prompt: str = ""
    """digest of the instruction that it was written under; empty where there is none"""
    logprob: float | None = None
    """mean log-probability of a token, where the model tells"""
    agreement: float | None = None
    """contrastive likeness of clip and text, -1 to 1, where the model has such a head"""
    start_s: float = 0.0
    end_s: float | None = None
    """seconds of the clip that it is about; None: to its end"""
    whole: bool = True
    """False: of one window of a long clip, kept beside the caption merged from all of them"""
    flaw: str = ""
    """why it is kept on record but not used; empty if it is used"""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind: got {self.kind!r}; accepted: {', '.join(KINDS)}")

    @property
    def failed_check(self) -> str:
        """The name of the check that it did not pass; empty if it is used."""
        return self.flaw.partition(":")[0]


def originals(clip: Clip) -> tuple[Caption, ...]:
    """The texts that came with a clip."""
    return tuple(Caption(kind=t.kind, text=t.text, source=MANIFEST) for t in clip.texts)


def mean(figures: Iterable[float | None]) -> float | None:
    """Of the captions' figures that are known; None if none is."""
    known = [figure for figure in figures if figure is not None]
    return sum(known) / len(known) if known else None


@dataclass(frozen=True, kw_only=True)
class ClipCaptions(Verdict):
    """One row of a captions table: what one captioner says of one clip, after the originals."""

    clip_id: str
    captions: tuple[Caption, ...] = ()

    def of_kind(self, kind: str) -> Caption | None:
        """The newest caption of a kind of the whole clip that has no flaw, or None."""
        fitting = (c for c in self.captions if c.kind == kind and c.whole and not c.flaw)
        return next(reversed(tuple(fitting)), None)


def merged(rows: Iterable[ClipCaptions]) -> dict[str, ClipCaptions]:
    """Rows of several captioners, oldest first, as one row a clip; equal captions stand once."""
    together: dict[str, dict[Caption, None]] = {}
    for row in rows:
        together.setdefault(row.clip_id, {}).update(dict.fromkeys(row.captions))
    return {i: ClipCaptions(clip_id=i, captions=tuple(found)) for i, found in together.items()}
