"""The verb `openreel eval captions`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text
from tyro.conf import Positional

from openreel.deploy.verbs import existing, show
from openreel.pipeline.errors import InputError

if TYPE_CHECKING:  # a typo must not wait for torch to load
    from openreel.recaption.assess import Assessment, Author, Said


@dataclass(frozen=True, kw_only=True)
class EvalCaptions:
    """What each captioner of a dataset wrote: lengths, flaws, repetition, likeness to originals."""

    dataset: Positional[Path]
    calibrate: Path | None = None
    """a captioner's folder: show instead how low an agreement speaks against a caption, for
    openreel recaption --min-agreement, from the texts that came with the clips"""
    share: float = 0.05
    """of those texts that may be refused"""
    device: str = "cpu"
    """on which that captioner reads"""

    def run(self) -> None:
        from openreel.deploy.stations_text import captions_of
        from openreel.recaption.assess import by_author

        if self.calibrate is not None:
            show(self._thresholds(self.calibrate))
            return
        captions = captions_of(existing("dataset", self.dataset))
        for part in rendered(by_author(captions.values())):
            show(part)

    def _thresholds(self, captioner: Path) -> Table:
        from openreel.deploy.stations import clips_of
        from openreel.recaption.calibration import agreements
        from openreel.recaption.coca_writer import CocaWriter
        from openreel.recaption.decoding import Decoding

        if not 0 < self.share < 1:
            raise InputError("share", self.share, "above 0, below 1")
        writer = CocaWriter(captioner, Decoding(), self.device)
        found = agreements(writer, clips_of(existing("dataset", self.dataset)))
        shown = Table(
            *("min-agreement", "own texts refused", "others' texts let pass"),
            title=f"{len(found.own):,} texts with their clips, {len(found.others):,} with others",
        )
        for least in (found.refusing(self.share), found.balanced()):
            shares = (found.refused(least), found.passed(least))
            shown.add_row(f"{least:.3f}", *(f"{share:.1%}" for share in shares))
        return shown


def rendered(said: "Mapping[Author, Sequence[Said]]") -> Iterator[Any]:
    """Tables for a terminal: shares, figures, flaws and, where there are originals, likeness."""
    from openreel.recaption.assess import assess

    found = {author: figures for author, own in said.items() if (figures := assess(own))}
    yield _shown_shares(found)
    yield _shown_figures(found)
    if any(figures.flaws for figures in found.values()):
        yield _shown_flaws(found)
    yield from _shown_likeness(said)


def _named(author: "Author") -> tuple[Text, str]:
    from openreel.pipeline.report import visible

    parts = (author.source, author.model[:8], author.prompt and f"prompt {author.prompt[:8]}")
    return Text(visible(" ".join(part for part in parts if part))), author.kind


def _shown_shares(found: "Mapping[Author, Assessment]") -> Table:
    shown = Table(
        *("captioner", "kind", "captions", "windows", "with a flaw", "boilerplate", "repeated"),
        title="captions of clips; windows of long ones are counted only",
    )
    for author, figures in found.items():
        shares = (figures.flawed, figures.boilerplate, figures.repeated)
        numbers = (str(figures.captions), str(figures.windows))
        shown.add_row(*_named(author), *numbers, *(f"{share:.1%}" for share in shares))
    return shown


def _shown_figures(found: "Mapping[Author, Assessment]") -> Table:
    shown = Table(
        *("captioner", "kind", "words", "distinct-2", "log-prob", "agreement"),
        title="their words (least, 10 %, median, 90 %, most), log-probability of a token",
    )
    for author, figures in found.items():
        shown.add_row(
            *_named(author),
            " ".join(f"{length:g}" for length in figures.words),
            f"{figures.distinct_2:.3f}",
            *("" if x is None else f"{x:.3f}" for x in (figures.logprob, figures.agreement)),
        )
    return shown


def _shown_flaws(found: "Mapping[Author, Assessment]") -> Table:
    from openreel.pipeline.report import visible

    shown = Table("captioner", "kind", "flaw", "captions", title="captions that are not used")
    for author, figures in found.items():
        for flaw, number in figures.flaws.items():
            shown.add_row(*_named(author), Text(visible(flaw)), str(number))
    return shown


def _shown_likeness(said: "Mapping[Author, Sequence[Said]]") -> Iterator[Any]:
    from openreel.recaption import ngrams
    from openreel.recaption.assess import against_originals
    from openreel.recaption.caption import MANIFEST

    if {author.source == MANIFEST for author in said} != {True, False}:
        return
    if not ngrams.installed():
        yield Text("likeness to the originals: pip install 'openreel[metrics]'")
        return
    shown = Table(
        *("captioner", "kind", "clips", "BLEU-4", "ROUGE-L", "CIDEr"),
        title="likeness to the texts that came with the clips",
        caption="blind to the words that tell directions: scores by attribute come first",
    )
    for author in said:
        if scores := against_originals(said, author):
            figures = (f"{x:.3f}" for x in (scores.bleu_4, scores.rouge_l, scores.cider))
            shown.add_row(*_named(author), str(scores.clips), *figures)
    yield shown
