"""The record of recaptioning: what is said about a clip, by whom. No torch here."""

from dataclasses import dataclass

from openreel.pipeline.clip import Verdict

KINDS = ("original", "short", "dense")


@dataclass(frozen=True, kw_only=True)
class Caption:
    """One text about one clip, and where it came from."""

    kind: str
    """original (came with the source), short (the subject) or dense (everything seen)"""
    text: str
    source: str
    """manifest, videococa, ..."""
    model: str = ""
    """digest of the captioner's weights; empty for the manifest's"""
    logprob: float = 0.0
    """mean log-probability of a token"""
    flaw: str = ""
    """why it is kept on record but not used; empty if it is used"""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind: got {self.kind!r}; accepted: {', '.join(KINDS)}")


@dataclass(frozen=True, kw_only=True)
class ClipCaptions(Verdict):
    """One row of the captions table: every caption of one clip."""

    clip_id: str
    captions: tuple[Caption, ...] = ()

    def of_kind(self, kind: str) -> Caption | None:
        """The newest caption of a kind that has no flaw, or None."""
        return next((c for c in reversed(self.captions) if c.kind == kind and not c.flaw), None)
