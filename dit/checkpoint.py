"""Checkpoints are committed, not written.

    step-00000100.tmp-<id>/   every rank writes its shards
                              all flush, all agree that nobody failed
    manifest.json             size and digest of each file, written by rank 0
    step-00000100/            one rename makes it a checkpoint
    latest                    the pointer, replaced

A crash at any moment leaves the previous checkpoint or the new one. Loading verifies every digest,
refuses a pickle that could run code, and lets all ranks agree on the step before any of them loads;
DeepSpeed by itself starts again from zero when the pointer is lost, and loads flipped bytes.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch

from openreel.dit.distributed import Ranks, agree, total
from openreel.pipeline.commit import fsync, is_temporary, sha256, temporary, write_text
from openreel.pipeline.errors import InputError

Resume = Literal["auto", "must", "never"]

# DeepSpeed's optimizer shards need these and nothing else beyond plain tensors and containers.
ALLOWED_GLOBALS = frozenset(
    {
        "deepspeed.utils.tensor_fragment.fragment_address",
        "deepspeed.runtime.fp16.loss_scaler.LossScaler",
        "deepspeed.runtime.zero.config.ZeroStageEnum",
    }
)


def _name(step: int) -> str:
    return f"step-{step:08d}"


def save(
    root: Path, step: int, ranks: Ranks, write: Callable[[Path], None], facts: dict[str, Any]
) -> Path:
    """Commit a checkpoint of all ranks: write(folder) fills it, facts go into the manifest.

    Raises RuntimeError on every rank when one of them failed; what is under a final name stays.
    """
    root.mkdir(parents=True, exist_ok=True)
    final = root / _name(step)
    scratch = Path(agree(str(temporary(final)), ranks))
    scratch.mkdir(exist_ok=True)
    failure: Exception | None = None
    try:
        write(scratch)
        for file in _files(scratch):
            fsync(file)
    except Exception as error:
        failure = error
    failures = total(float(failure is not None), ranks)
    if failures:
        shutil.rmtree(scratch, ignore_errors=True)
        cause = failure or "another rank failed"
        raise RuntimeError(f"checkpoint {final.name} not saved: {cause}") from failure
    trouble = ""
    if ranks.is_first:
        try:
            _commit(scratch, final, facts)
        except OSError as error:
            failure, trouble = error, str(error)
            shutil.rmtree(scratch, ignore_errors=True)
    if trouble := agree(trouble, ranks):
        raise RuntimeError(f"checkpoint {final.name} not saved: {trouble}") from failure
    return final


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "manifest.json")


def _commit(scratch: Path, final: Path, facts: dict[str, Any]) -> None:
    files = {
        str(p.relative_to(scratch)): {"bytes": p.stat().st_size, "sha256": sha256(p)}
        for p in _files(scratch)
    }
    write_text(scratch / "manifest.json", json.dumps({**facts, "files": files}, indent=1))
    fsync(scratch)
    replaced = temporary(final)
    if final.exists():  # the same step again, after a resume from an older one
        os.rename(final, replaced)
    os.rename(scratch, final)
    fsync(final.parent)
    write_text(final.parent / "latest", final.name)
    shutil.rmtree(replaced, ignore_errors=True)


def prune(root: Path, keep: int) -> None:
    """Remove all but the newest `keep` (at least 2) checkpoints, and what crashes left over."""
    for folder in root.glob("step-*"):
        if is_temporary(folder):
            shutil.rmtree(folder, ignore_errors=True)
    for folder in committed(root)[: -max(keep, 2)]:
        shutil.rmtree(folder, ignore_errors=True)


def committed(root: Path) -> list[Path]:
    """Checkpoints under final names, oldest first."""
    return sorted(p for p in root.glob("step-*") if p.is_dir() and not is_temporary(p))


def problem(folder: Path) -> str | None:
    """What is wrong with a checkpoint, or None: presence, size, digest, pickles."""
    try:
        files = manifest(folder)["files"]
    except (OSError, ValueError, KeyError) as error:
        return f"{folder.name}/manifest.json: {error}"
    for name, expected in files.items():
        file = folder / name
        if not file.is_file():
            return f"{folder.name}/{name} is missing"
        if file.stat().st_size != expected["bytes"] or sha256(file) != expected["sha256"]:
            return f"{folder.name}/{name} is not what was saved (its digest differs)"
        if file.suffix == ".pt" and (foreign := _foreign_globals(file)):
            return f"{folder.name}/{name} would run {', '.join(foreign)}"
    return None


def _foreign_globals(file: Path) -> list[str]:
    found = torch.serialization.get_unsafe_globals_in_checkpoint(str(file))
    return sorted(set(found) - ALLOWED_GLOBALS)


def find(root: Path, resume: Resume, ranks: Ranks) -> Path | None:
    """The newest checkpoint that verifies, the same on all ranks; None to start from the beginning.

    auto takes the newest good one if there is any, must insists, never ignores them. Raises
    InputError when there are checkpoints but none is good, or when one must be there and is not.
    """
    found, complaint = None, ""
    if ranks.is_first and resume != "never":
        problems = []
        for folder in reversed(committed(root)):
            trouble = problem(folder)
            if trouble is None:
                found = folder
                break
            problems.append(trouble)
        if found is None and problems:
            complaint = problems[0]
        elif found is None and resume == "must":
            complaint = "no checkpoint"
    found, complaint = agree((found, complaint), ranks)
    if complaint:
        raise InputError("resume", f"{resume} from {root}", f"a good checkpoint ({complaint})")
    assert found is None or isinstance(found, Path)
    return found


def manifest(folder: Path) -> dict[str, Any]:
    """The facts that a checkpoint was saved with, and its files."""
    read: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return read
