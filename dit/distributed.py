"""Ranks and devices: torchrun's environment where there is one, a world of one otherwise."""

import atexit
import datetime
import logging
import os
from dataclasses import dataclass
from typing import Any

import torch
from torch.distributed import HashStore  # type: ignore[attr-defined]

from openreel.pipeline.errors import InputError


@dataclass(frozen=True)
class Ranks:
    """This process among its peers."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        return self.rank == 0


def initialise(timeout_minutes: int = 30) -> Ranks:
    """Join the process group once; later calls return the same answer.

    torchrun and the deepspeed launcher set RANK, WORLD_SIZE, LOCAL_RANK and the master's address,
    srun sets Slurm's own names and the batch script MASTER_ADDR; without any of them this process
    is alone. Gloo serves CPUs, NCCL serves GPUs. Raises InputError for srun without MASTER_ADDR.
    """
    cuda = torch.cuda.is_available()
    if not cuda:
        os.environ["DS_ACCELERATOR"] = "cpu"
    _environment()
    if not torch.distributed.is_initialized():
        if "RANK" not in os.environ:
            # In memory: no port that another run could hold, no address that children inherit.
            os.environ.setdefault("LOCAL_RANK", "0")  # DeepSpeed insists on it
            alone = HashStore()
            torch.distributed.init_process_group(
                "nccl" if cuda else "gloo", store=alone, rank=0, world_size=1
            )
        deepspeed = quiet_deepspeed()
        # DeepSpeed would compile a shared-memory collective for minutes; gloo does the same work.
        shared_memory = deepspeed.get_accelerator().create_op_builder("ShareMemCommBuilder")
        if shared_memory is not None:
            deepspeed.ops.__compatible_ops__[shared_memory.NAME] = False
        deepspeed.init_distributed(
            dist_backend="nccl" if cuda else "gloo",
            auto_mpi_discovery=False,
            verbose=False,
            timeout=datetime.timedelta(minutes=timeout_minutes),
        )
        if not cuda:
            atexit.register(_leave)
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if cuda:
        torch.cuda.set_device(local_rank)
    return Ranks(
        rank=torch.distributed.get_rank(),
        world_size=torch.distributed.get_world_size(),
        device=torch.device("cuda", local_rank) if cuda else torch.device("cpu"),
    )


def _leave() -> None:
    """End gloo's threads while the interpreter lives.

    They may hold the last reference to a tensor; dropped during the interpreter's own end, it
    aborts the process, and a finished run counts as failed (pytorch/pytorch#179291).
    """
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _environment() -> None:
    """srun's names under the ones that torch knows."""
    if "RANK" in os.environ or int(os.environ.get("SLURM_NTASKS", "1")) == 1:
        return
    if "MASTER_ADDR" not in os.environ:
        raise InputError("MASTER_ADDR", "nothing", "the first node's name, set before srun")
    os.environ["RANK"] = os.environ["SLURM_PROCID"]
    os.environ["LOCAL_RANK"] = os.environ["SLURM_LOCALID"]
    os.environ["WORLD_SIZE"] = os.environ["SLURM_NTASKS"]
    os.environ.setdefault("MASTER_PORT", "29500")


def quiet_deepspeed() -> Any:
    """DeepSpeed, imported when it is needed, saying only what is wrong."""
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    import deepspeed

    deepspeed.utils.logger.setLevel(logging.ERROR)
    return deepspeed


def agree(value: Any, ranks: Ranks) -> Any:
    """Rank 0's value, on every rank."""
    box = [value]
    if ranks.world_size > 1:
        torch.distributed.broadcast_object_list(box, src=0)
    return box[0]


def total(value: float, ranks: Ranks) -> float:
    """The sum of a number over all ranks, in float64."""
    tensor = torch.tensor(value, dtype=torch.float64, device=ranks.device)
    if ranks.world_size > 1:
        torch.distributed.all_reduce(tensor)
    return float(tensor)


def barrier(ranks: Ranks) -> None:
    if ranks.world_size > 1:
        torch.distributed.barrier()
