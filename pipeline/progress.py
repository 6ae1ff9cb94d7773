"""Progress: a rich bar on a terminal, JSON lines otherwise. One call to report, anywhere."""

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Report = Callable[..., None]
"""report(advance=1, **figures): figures are shown beside the bar or written into the line"""


def _shown(figures: dict[str, object]) -> str:
    return "  ".join(
        f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in figures.items()
    )


def note(name: str, text: str) -> None:
    """One line about a station that a person should read: JSON where nobody sits before it."""
    line = f"{name}: {text}" if sys.stderr.isatty() else json.dumps({"station": name, "note": text})
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


@contextlib.contextmanager
def progress(name: str, total: int | None = None, every_s: float = 5.0) -> Iterator[Report]:
    """Report the progress of one station. Lines are at least every_s seconds apart."""
    shown = _bar(name, total) if sys.stderr.isatty() else _lines(name, total, every_s)
    with shown as report:
        yield report


@contextlib.contextmanager
def _lines(name: str, total: int | None, every_s: float) -> Iterator[Report]:
    done, start, last = 0, time.monotonic(), float("-inf")
    latest: dict[str, object] = {}

    def line(**figures: object) -> None:
        event = {"station": name, "done": done, "total": total}
        seconds = round(time.monotonic() - start, 1)
        sys.stderr.write(json.dumps({**event, "seconds": seconds, **figures}) + "\n")
        sys.stderr.flush()

    def report(advance: int = 1, **figures: object) -> None:
        nonlocal done, last, latest
        done, latest = done + advance, figures
        if time.monotonic() - last >= every_s:
            last = time.monotonic()
            line(**figures)

    yield report
    line(**latest, finished=True)


@contextlib.contextmanager
def _bar(name: str, total: int | None) -> Iterator[Report]:
    columns = (
        TextColumn("{task.description:>18}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task(name, total=total, figures="")

        def report(advance: int = 1, **figures: object) -> None:
            bars.update(task, advance=advance, figures=_shown(figures))

        yield report
