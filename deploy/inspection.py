"""What a path holds, whatever it is: a dataset, a training run, a video."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from openreel.dit import checkpoint
from openreel.dit.metrics import read
from openreel.pipeline.errors import InputError
from openreel.pipeline.probe import probe
from openreel.pipeline.report import rendered, report


def inspect(path: Path) -> Any:
    """Something that rich can print. Raises InputError for a path that is none of these."""
    if (path / "sources").is_dir():
        return rendered(report(path))
    if (path / "checkpoints").is_dir():
        return _run(path)
    if path.is_file():
        return _video(path)
    raise InputError("path", str(path), "a dataset, a training run's folder or a video")


def _run(folder: Path) -> Table:
    table = Table(
        "checkpoint", "state", title=f"{folder} ({len(read(folder / 'metrics.jsonl'))} steps)"
    )
    for step in checkpoint.committed(folder / "checkpoints"):
        table.add_row(step.name, checkpoint.problem(step) or "verified")
    return table


def _video(path: Path) -> Table:
    table = Table("field", "value", title=path.name)
    found = asdict(probe(path))
    for name, value in found.items():
        if name != "pts":
            table.add_row(name, str(value))
    sidecar = path.with_suffix(".json")
    if sidecar.exists():
        for name, value in json.loads(sidecar.read_text()).items():
            table.add_row(name, json.dumps(value) if isinstance(value, dict) else str(value))
    return table
