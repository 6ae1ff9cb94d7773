"""What Slurm's script, the JobSet and DeepSpeed's launcher put in the environment is what training
reads: two ranks, started by each, meet and add up."""

import base64
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from launched import (
    check_members,
    environment,
    free_port,
    program,
    slurm,
    stand_ins,
    trained_by,
)

ROOT = Path(__file__).parents[2]
SBATCH = ROOT / "deploy" / "slurm" / "train-dit.sbatch"
JOBSET = ROOT / "deploy" / "kubernetes" / "jobset-train-dit.yaml"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder of stand-ins."""
    return stand_ins(tmp_path)


SUBMITTED = ["/s/data", "/s/vae", "umt5:/s/umt5", "/s/run", "--train.steps", "7"]


@pytest.mark.slow
def test_the_script_brings_two_ranks_together(place: Path) -> None:
    done = subprocess.run(
        ["bash", str(SBATCH), *SUBMITTED],
        env=slurm(place),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    options = trained_by(check_members(place))
    assert options["--dataset"] == "/s/data"
    assert options["--output"] == "/s/run"
    assert options["--train.steps"] == "7"
    assert int(options["--train.timeout-minutes"]) >= 10
    assert not (place / "requeued").exists()


@pytest.mark.parametrize(
    ("status", "left", "requeued"),
    [(130, 500, True), (130, 50_000, False), (1, 500, False), (0, 500, False)],
)
def test_only_a_saved_run_whose_time_is_up_is_queued_again(
    place: Path, status: int, left: int, requeued: bool
) -> None:
    program(place / "bin", "openreel", f"exit {status}")
    env = slurm(place, SLURM_JOB_END_TIME=str(int(time.time()) + left))
    done = subprocess.run(["bash", str(SBATCH), *SUBMITTED], env=env, timeout=60)
    assert done.returncode == status
    assert (place / "requeued").exists() == requeued


def test_a_script_without_its_arguments_says_what_they_are(place: Path) -> None:
    done = subprocess.run(
        ["bash", str(SBATCH), "/s/data"], env=slurm(place), capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "DATASET VAE TEXT OUTPUT" in done.stderr


@pytest.mark.slow
def test_the_jobset_brings_two_pods_together(place: Path) -> None:
    loaded = yaml.safe_load(JOBSET.read_text())["spec"]["replicatedJobs"][0]["template"]["spec"]
    (container,) = loaded["template"]["spec"]["containers"]
    own = {variable["name"]: variable["value"] for variable in container["env"]}
    here = {"NODES": "2", "GPUS_PER_NODE": "1", "MASTER_ADDR": "localhost", "OMP_NUM_THREADS": "1"}
    settings = {**own, **here, "MASTER_PORT": str(free_port())}
    settings["TMPDIR"] = str(place)
    pods = [
        subprocess.Popen(
            container["command"],
            env=environment(place, **settings, JOB_COMPLETION_INDEX=str(index)),
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    for pod in pods:
        _, errors = pod.communicate(timeout=300)
        assert pod.returncode == 0, errors
    trained_by(check_members(place))


@pytest.mark.slow
def test_deepspeeds_launcher_sets_what_training_reads(place: Path) -> None:
    """`deepspeed --num_gpus 2 --no_python --no_local_rank openreel ...` starts ranks by this."""
    world = base64.urlsafe_b64encode(json.dumps({"localhost": [0, 1]}).encode()).decode()
    launcher = [sys.executable, "-m", "deepspeed.launcher.launch", f"--world_info={world}"]
    meeting = ["--master_addr=127.0.0.1", f"--master_port={free_port()}"]
    command = ["openreel", "train", "dit", "smoke", "--dataset", "d"]
    done = subprocess.run(
        [*launcher, *meeting, "--no_python", "--no_local_rank", *command],
        env=environment(place, DS_ACCELERATOR="cpu"),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert check_members(place) == command
