"""Launchers' environments, and a program in openreel's place that says what it found in them."""

import json
import os
import socket
import sys
import time
from pathlib import Path

from openreel.deploy.cli import parse

MEMBER = """
import json, os, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from openreel.dit.distributed import initialise, total
ranks = initialise(2)
found = {
    "rank": ranks.rank, "world_size": ranks.world_size, "sum": total(ranks.rank + 1.0, ranks),
    "local_rank": int(os.environ["LOCAL_RANK"]), "arguments": ["openreel", *sys.argv[1:]],
}
(Path(os.environ["MEMBERS"]) / f"{os.getpid()}.json").write_text(json.dumps(found))
"""
"""takes the place of openreel: joins the group as training does, and says what it found"""

SRUN = """
while [[ "$1" == --* ]]; do shift; done
pids=()
for i in 0 1; do
    SLURM_PROCID=$i SLURM_LOCALID=$i SLURM_NTASKS=2 "$@" & pids+=($!)
done
status=0
for pid in "${pids[@]}"; do wait "$pid" || status=$?; done
exit $status
"""
SCONTROL = """
if [ "$1" = show ]; then printf 'localhost\\nelsewhere\\n'; else touch "$MEMBERS/requeued"; fi
"""


def program(folder: Path, name: str, content: str, interpreter: str = "/bin/bash") -> None:
    file = folder / name
    file.write_text(f"#!{interpreter}\n{content}")
    file.chmod(0o755)


def stand_ins(folder: Path) -> Path:
    """A folder of stand-ins: openreel, and Slurm's programs."""
    (folder / "bin").mkdir()
    program(folder / "bin", "openreel", MEMBER, sys.executable)
    program(folder / "bin", "srun", SRUN)
    program(folder / "bin", "scontrol", SCONTROL)
    return folder


def environment(place: Path, **more: str) -> dict[str, str]:
    """Of a scheduler's process: none of a launcher's names is set by the way."""
    launchers = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "LOCAL_SIZE")
    kept = {k: v for k, v in os.environ.items() if k not in launchers and "SLURM" not in k}
    path = f"{place / 'bin'}:{Path(sys.executable).parent}:{kept['PATH']}"
    plain = {"PATH": path, "OMP_NUM_THREADS": "1", "MEMBERS": str(place)}
    return {**kept, **plain, **more}


def slurm(place: Path, **more: str) -> dict[str, str]:
    given = {"SLURM_JOB_NODELIST": "node[1-2]", "SLURM_JOB_ID": str(os.getpid())}
    end = {"SLURM_JOB_END_TIME": str(int(time.time()) + 86_400)}
    return environment(place, **given, SLURM_CPUS_PER_TASK="1", **{**end, **more})


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def check_members(place: Path) -> list[str]:
    """Two ranks met and added up; returns the command that both were."""
    found = [json.loads(file.read_text()) for file in place.glob("*.json")]
    assert sorted(member["rank"] for member in found) == [0, 1]
    assert [member["world_size"] for member in found] == [2, 2]
    assert [member["sum"] for member in found] == [3.0, 3.0]
    (command,) = {tuple(member["arguments"]) for member in found}
    return list(command)


def trained_by(arguments: list[str]) -> dict[str, str]:
    """The options of an openreel command that the command line takes."""
    assert arguments[:3] == ["openreel", "train", "dit"]
    parse(arguments[1:])
    return dict(zip(arguments[4::2], arguments[5::2], strict=True))
