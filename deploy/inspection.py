"""What a path holds, whatever it is: a dataset, a training run, a video."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from openreel.deploy.report_page import write_report
from openreel.deploy.run_page import write_run_page
from openreel.dit import checkpoint
from openreel.dit.metrics import read
from openreel.pipeline.errors import InputError
from openreel.pipeline.lineage import lineage
from openreel.pipeline.probe import probe
from openreel.pipeline.report import rendered, visible
from openreel.pipeline.summary import load, summarise


def inspect(path: Path, row: str | None = None, *, verify: bool = True) -> Any:
    """Something that rich can print; of a dataset, also DATASET/report.html is written, and of a
    training run RUN/index.html.

    row: an id in a dataset; where it comes from is shown instead. verify: read the source files
    again and say whether their bytes are still the same. Raises InputError for a path that is none
    of these, and for an unknown row.
    """
    if (path / "sources").is_dir():
        return _dataset(path) if row is None else _lineage(path, row, verify)
    if row is not None:
        raise InputError("row", row, "a row of a dataset, which this path is not")
    if (path / "checkpoints").is_dir():
        return _run(path)
    if path.is_file():
        return _video(path)
    raise InputError("path", str(path), "a dataset, a training run's folder or a video")


def _dataset(path: Path) -> Group:
    tables = load(path)
    found = summarise(tables)
    try:
        written = f"{write_report(path, tables, found)}: pictures, charts and reasons"
    except OSError as error:  # a dataset may well be read-only
        written = f"no page is written: {error.strerror}"
    hint = f"openreel inspect {path} --row CLIP_ID: where a clip comes from"
    return Group(rendered(found), Text(visible(written)), Text(visible(hint)))


def _lineage(path: Path, row: str, verify: bool) -> Group:
    tables = []
    for name, facts in lineage(path, row, verify=verify):
        shown = Table("column", "value", title=visible(name))
        for column, value in facts.items():
            text = json.dumps(value) if isinstance(value, dict | list) else str(value)
            shown.add_row(Text(column), Text(visible(text)))
        tables.append(shown)
    return Group(*tables)


def _run(folder: Path) -> Group:
    table = Table(
        "checkpoint", "state", title=f"{folder} ({len(read(folder / 'metrics.jsonl'))} steps)"
    )
    for step in checkpoint.committed(folder / "checkpoints"):
        table.add_row(step.name, checkpoint.problem(step) or "verified")
    try:
        written = f"{write_run_page(folder)}: curves, samples and what was left out"
    except OSError as error:
        written = f"no page is written: {error.strerror}"
    return Group(table, Text(visible(written)))


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
