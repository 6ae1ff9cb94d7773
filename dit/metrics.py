"""What a run writes down: JSON lines (one a step) and TensorBoard."""

import json
import os
from pathlib import Path
from typing import Any

from openreel.pipeline.commit import write_text


class Metrics:
    """Appends steps; a resumed run first drops the steps that it will repeat."""

    def __init__(self, folder: Path, resumed_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "metrics.jsonl"
        forget(self.path, resumed_step)
        self.file = self.path.open("a", encoding="utf-8")
        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=resumed_step + 1)

    def write(self, step: int, figures: dict[str, float]) -> None:
        self.file.write(json.dumps({"step": step, **figures}) + "\n")
        self.file.flush()
        for name, value in figures.items():
            self.board.add_scalar(name, value, step)

    def picture(self, name: str, step: int, path: Path) -> None:
        """Show a picture's file on the board."""
        import numpy as np
        from PIL import Image

        with Image.open(path) as opened:
            frame_HWC = np.asarray(opened.convert("RGB"))
        self.board.add_image(name, frame_HWC, step, dataformats="HWC")

    def close(self) -> None:
        os.fsync(self.file.fileno())
        self.file.close()
        self.board.close()


def forget(path: Path, resumed_step: int) -> None:
    """Drop the lines of the steps that a resumed run will repeat."""
    if path.exists():
        kept = [line for line in read(path) if line["step"] <= resumed_step]
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))


def read(path: Path) -> list[dict[str, Any]]:
    """The steps of a metrics file; a line that a crash cut short is left out."""
    if not path.exists():
        return []
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue
    return lines
