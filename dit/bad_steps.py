"""What a step held whose loss or gradient is no number: RUN/bad-steps.jsonl, a line a micro-batch.

Randomness is keyed by (seed, sample, epoch): with these lines the very batch can be made again.
"""

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from openreel.dit.distributed import Ranks

NAME = "bad-steps.jsonl"


def record(
    folder: Path, ranks: Ranks, step: int, held: Sequence[Any], losses: Sequence[float]
) -> None:
    """Gather from all ranks what their micro-batches held and add it to the file; rank 0 writes.

    held: JSON-serialisable, of each micro-batch. losses: of those that were reached.
    """
    own = [
        {
            "step": step,
            "rank": ranks.rank,
            "micro_batch": i,
            "loss": _shown(losses[i]) if i < len(losses) else None,
            "held": what,
        }
        for i, what in enumerate(held)
    ]
    gathered: list[list[dict[str, Any]]] = [own] * ranks.world_size
    if ranks.world_size > 1:
        torch.distributed.all_gather_object(gathered, own)
    if not ranks.is_first:
        return
    with (folder / NAME).open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for lines in gathered for line in lines)
        file.flush()
        os.fsync(file.fileno())


def _shown(loss: float) -> float | str:
    """JSON has no word for what is no number."""
    return loss if math.isfinite(loss) else str(loss)
