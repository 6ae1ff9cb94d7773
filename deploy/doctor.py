"""What is installed, what will be used, what is missing."""

import importlib.metadata
import platform
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGES = (
    "torch",
    "deepspeed",
    "ray",
    "transformers",
    "open-clip-torch",
    "diffusers",
    "pyarrow",
    "av",
    "scenedetect",
)
OPTIONAL = ("flash-attn",)


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    what: str
    found: str
    ok: bool = True


def examine(folder: Path) -> Iterator[Finding]:
    """Look at this machine; folder is where outputs would go."""
    yield Finding("openreel", importlib.metadata.version("openreel"))
    yield Finding("python", f"{platform.python_version()} on {platform.platform()}")
    for name in PACKAGES:
        version = _version(name)
        yield Finding(name, version or "missing: pip install openreel", version is not None)
    for name in OPTIONAL:
        yield Finding(name, _version(name) or "not installed (an extra; nothing needs it)")
    yield _ffmpeg()
    yield from _compute()
    disk = shutil.disk_usage(folder)
    yield Finding("disk", f"{disk.free / 2**30:.1f} GiB free in {folder.resolve()}")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _ffmpeg() -> Finding:
    from openreel.pipeline.media import ffmpeg_program

    try:
        program = ffmpeg_program()
        answer = subprocess.run(
            [program, "-version"], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        return Finding("ffmpeg", f"missing: {error}", ok=False)
    words = answer.stdout.split()
    return Finding("ffmpeg", f"{words[2]} at {program}")


def _compute() -> Iterator[Finding]:
    import psutil
    import torch

    from openreel.dit.attention import choose_backend

    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    name = torch.cuda.get_device_name() if cuda else f"{torch.get_num_threads()} CPU threads"
    dtype = torch.bfloat16 if cuda else torch.float32
    memory = psutil.virtual_memory()
    yield Finding("device", f"{name}, {str(dtype).removeprefix('torch.')}")
    yield Finding("attention", choose_backend(device, dtype))
    gib = 2**30
    yield Finding("memory", f"{memory.available / gib:.1f} of {memory.total / gib:.1f} GiB free")
