"""Going on from a checkpoint, also on another number of ranks or with another ZeRO stage.

Shards are cut for the ranks and the stage that wrote them. DeepSpeed's own converter lays each
weight and its optimizer state down whole, and DeepSpeed cuts them anew on loading: nothing is
rounded on the way.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from openreel.dit.distributed import Ranks, agree, barrier
from openreel.dit.engine import EngineConfig
from openreel.pipeline.commit import temporary
from openreel.pipeline.errors import InputError

TAG = "engine"
"""the folder of a checkpoint that DeepSpeed writes and reads"""


def recut(facts: dict[str, Any], engine: EngineConfig, ranks: Ranks) -> bool:
    """Whether a checkpoint's shards must be cut anew for this run.

    facts: the checkpoint's manifest. Raises InputError when the run would not be the same one: it
    must see as many packs a step, and stage 0 has no shards to be made or read.
    """
    packs = facts["world_size"] * facts["engine"]["gradient_accumulation_steps"]
    if ranks.world_size * engine.accumulation != packs:
        asked = ranks.world_size * engine.accumulation
        raise InputError("ranks x accumulation", asked, f"{packs}, as the run was begun")
    begun: int = facts["engine"]["zero_optimization"]["stage"]
    if (begun > 0) != (engine.zero_stage > 0):
        accepted = "1 or 2" if begun else "0"
        raise InputError("zero_stage", engine.zero_stage, f"{accepted}, as it was begun")
    moved = begun != engine.zero_stage or ranks.world_size != int(facts["world_size"])
    return moved and begun > 0


@contextmanager
def shards(checkpoint: Path, anew: bool, ranks: Ranks) -> Iterator[Path]:
    """A verified checkpoint's folder, or for the time being one with its shards whole.

    Raises InputError on every rank when they cannot be converted.
    """
    if not anew:
        yield checkpoint
        return
    folder = Path(agree(str(temporary(checkpoint)), ranks))
    try:
        trouble = agree(_converted(checkpoint, folder) if ranks.is_first else "", ranks)
        if trouble:
            raise InputError("resume", str(checkpoint), f"shards that can be converted ({trouble})")
        yield folder
        barrier(ranks)
    finally:
        if ranks.is_first:
            shutil.rmtree(folder, ignore_errors=True)


def _converted(checkpoint: Path, target: Path) -> str:
    """Fill a new folder with the universal form; what went wrong, or nothing."""
    command = [
        *(sys.executable, "-m", "deepspeed.checkpoint.ds_to_universal"),
        *("--input_folder", str(checkpoint / TAG), "--output_folder", str(target / TAG)),
        *("--num_extract_workers", "1", "--num_merge_workers", "1"),
        "--inject_missing_state",  # it refuses shards of ZeRO 1 and 2 without
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return (done.stderr.strip() or "the converter says nothing").splitlines()[-1]
    (target / "latest_universal").write_text(TAG)
    return ""
