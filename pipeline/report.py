"""The truth about a dataset, as tables for a terminal."""

from pathlib import Path

from rich.console import Group
from rich.table import Table
from rich.text import Text

from openreel.pipeline.curate import CLIPS
from openreel.pipeline.summary import Report, load, summarise

__all__ = ["Report", "rendered", "report", "visible"]

_SHOWN_FILES = 40
"""of the files that are not used; the tables have all"""


def report(dataset: Path) -> Report:
    """Read the tables of a dataset. Raises InputError if it is none."""
    return summarise(load(dataset))


def visible(text: str) -> str:
    """A text from outside with everything that does not print, such as control characters and
    marks that turn the direction of writing, spelt out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def rendered(found: Report) -> Group:
    """The report as tables for a terminal."""
    parts = [_shown_counts(found), _shown_clips(found)]
    if found.cameras:
        cameras = Table("camera", "used", "not used", title="clips by the camera's motion")
        for name, (used, unused) in found.cameras.items():
            cameras.add_row(Text(name), str(used), str(unused))
        parts.append(cameras)
    parts += [_shown_scores(found), _shown_files(found)]
    return Group(*parts)


def _shown_counts(found: Report) -> Table:
    counts = Table("table", "ok", "rejected", "failed", title="rows")
    for name, statuses in found.counts.items():
        counts.add_row(name, *(str(statuses.get(s, 0)) for s in ("ok", "rejected", "failed")))
    return counts


def _shown_clips(found: Report) -> Table:
    title = f"{found.clip_seconds:.1f} s of clips are used"
    if found.duplicates:
        title += f", {found.duplicates} are nearly the same as another"
    clips = Table("clips not used", "reason", title=title)
    for reason, number in found.reasons[CLIPS].items():
        clips.add_row(str(number), Text(visible(reason)))
    return clips


def _shown_scores(found: Report) -> Table:
    spread = [row for row in found.scores if row.values[0] < row.values[-1]]
    same = [f"{row.score} {row.values[0]:.3g}" for row in found.scores if row not in spread]
    scores = Table(
        *("score", "clips", "least", "10 %", "median", "90 %", "most"),
        title="scores of the clips that are used",
        caption=f"the same for all: {', '.join(same)}" if same else None,
    )
    for row in spread:
        figures = [f"{value:.3g}" for value in row.values]
        scores.add_row(row.score, str(row.number), *figures)
    return scores


def _shown_files(found: Report) -> Table:
    files = Table("file", "status", "reason", title="files not used")
    for row in found.refused[:_SHOWN_FILES]:
        name = Text(visible(row.uri.rsplit("/", 1)[-1]))
        files.add_row(name, row.status, Text(visible(row.reason)))
    if len(found.refused) > _SHOWN_FILES:
        rest = len(found.refused) - _SHOWN_FILES
        files.add_row(f"{rest} more", "", "see the sources and videos tables")
    for suffix, number in sorted(found.others.items()):
        name = Text(visible(f"{number} x {suffix}"))
        files.add_row(name, "passed over", "not a media file by its name")
    return files
