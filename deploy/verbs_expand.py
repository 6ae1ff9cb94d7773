"""The verb that shows what would be generated from a prompt."""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from tyro.conf import Positional

from openreel.deploy.expanders import ExpandOptions
from openreel.pipeline.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Expand(ExpandOptions):
    """A short prompt to a text in the style of the training captions, and nothing else."""

    prompt: Positional[str]
    model: Path | None = None
    """a bundle or an expander's folder, whose captions set the style"""
    seed: int = 0
    seen: str = ""
    """a caption of the picture that a video is to start from"""
    record: bool = False
    """print everything that is recorded of it, as JSON, instead of the text"""
    dry_run: bool = False
    """say which expander it would be, and do nothing"""

    def run(self) -> None:
        from openreel.deploy.expanders import expander_of
        from openreel.recaption.expansion import untouched

        readable("prompt", self.prompt)
        readable("seen", self.seen)
        if self.expand == "off":
            result = untouched(self.prompt, self.seed)
        else:
            expander = expander_of(self, self.model)
            if self.dry_run:
                limits = expander.words
                print(f"{expander.backend.identity}, {limits.low} to {limits.high} words")
                return
            result = expander.expand(self.prompt, seed=self.seed, seen=self.seen)
        print(json.dumps(asdict(result), indent=1) if self.record else result.text)
        broken = "; ".join((result.reason, *result.violations)).strip("; ")
        story = f"{result.status} by {result.backend} in {result.seconds:.1f} s"
        print(f"{story}: {broken}" if broken else story, file=sys.stderr)


def readable(field: str, text: str) -> None:
    """Raises InputError for bytes that are no text."""
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise InputError(field, ascii(text)[:80], "text in UTF-8")
