"""Which runs wrote a table, how fast, and with what software: one line a run, beside the table."""

import contextlib
import datetime
import functools
import importlib.metadata
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from openreel.pipeline.clip import Status
from openreel.pipeline.commit import write_text

RUNS = "_runs.jsonl"
_TOOLS = ("ray", "pyarrow", "av", "imageio-ffmpeg", "scenedetect", "torch")

OnRow = Callable[[str, Status], None]


@functools.cache
def version() -> str:
    """openreel's own version."""
    return importlib.metadata.version("openreel")


@functools.cache
def tools() -> dict[str, str]:
    """The versions of what a row's content may depend on."""
    return {name: importlib.metadata.version(name) for name in _TOOLS}


@contextlib.contextmanager
def logged(folder: Path, stage: str, on_row: OnRow | None) -> Iterator[OnRow]:
    """Yield a listener that counts and passes on; a run that did anything leaves a line."""
    counts: Counter[str] = Counter()
    started, start = datetime.datetime.now(datetime.UTC), time.monotonic()

    def note(key: str, status: Status) -> None:
        counts[status] += 1
        if on_row is not None:
            on_row(key, status)

    try:
        yield note
    finally:
        if counts:
            line = {
                "stage": stage,
                "started": started.isoformat(timespec="seconds"),
                "seconds": round(time.monotonic() - start, 3),
                "rows": counts.total(),
                **{status: counts[status] for status in ("ok", "rejected", "failed")},
                "version": version(),
                "tools": tools(),
            }
            before = (folder / RUNS).read_text("utf-8") if (folder / RUNS).exists() else ""
            write_text(folder / RUNS, before + json.dumps(line) + "\n")


def runs(folder: Path) -> list[dict[str, Any]]:
    """The runs that wrote a table, oldest first."""
    path = folder / RUNS
    return (
        [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []
    )
