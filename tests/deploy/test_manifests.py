"""Multi-node manifests: schedulers take them, and the command line takes their commands.

Each rule is also provoked, so that it cannot pass by looking at nothing.
"""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from launched import trained_by

ROOT = Path(__file__).parents[2]
SBATCH = ROOT / "deploy" / "slurm" / "train-dit.sbatch"
JOBSET = ROOT / "deploy" / "kubernetes" / "jobset-train-dit.yaml"
SCHEMA = Path(__file__).with_name("jobset_schema.json")
SHORTEST_GRACE = 300
"""seconds for one step of a large pack and one checkpoint"""
Tree = dict[str, Any]

SBATCH_OPTIONS = """
    account array begin chdir comment constraint cpus-per-gpu cpus-per-task dependency error exclude
    exclusive export gpus gpus-per-node gpus-per-task gres job-name licenses mail-type mail-user mem
    mem-per-cpu mem-per-gpu nice no-requeue nodelist nodes ntasks ntasks-per-node open-mode output
    partition qos requeue reservation signal time wait-all-nodes
"""
"""of sbatch's manual"""


def directives(script: str) -> dict[str, str]:
    """The #SBATCH lines before the first command, as sbatch reads them."""
    found = {}
    for line in script.splitlines():
        if line and not line.startswith("#"):
            break
        if line.startswith("#SBATCH"):
            name, _, value = line.removeprefix("#SBATCH ").removeprefix("--").partition("=")
            found[name] = value
    return found


@pytest.fixture
def script() -> str:
    return SBATCH.read_text()


@pytest.fixture
def jobset() -> Tree:
    """The manifest, its own copy."""
    loaded: Tree = json.loads(json.dumps(yaml.safe_load(JOBSET.read_text())))
    return loaded


def job_of(jobset: Tree) -> Tree:
    (replicated,) = jobset["spec"]["replicatedJobs"]
    job: Tree = replicated["template"]["spec"]
    return job


def pod_of(jobset: Tree) -> Tree:
    pod: Tree = job_of(jobset)["template"]["spec"]
    return pod


def container_of(jobset: Tree) -> Tree:
    (container,) = pod_of(jobset)["containers"]
    assert isinstance(container, dict)
    return container


def settings_of(jobset: Tree) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in container_of(jobset)["env"]}


# ---- Slurm: the rules -------------------------------------------------------------------------


def bash_takes_it(script: str) -> None:
    checked = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True)
    assert checked.returncode == 0, checked.stderr


def slurm_knows_every_option(script: str) -> None:
    found = directives(script)
    assert len(found) == script.count("\n#SBATCH")  # none is hidden behind a command
    assert set(found) <= set(SBATCH_OPTIONS.split())


def is_one_process_a_gpu(script: str) -> None:
    found = directives(script)
    assert int(found["nodes"]) > 1
    assert found["ntasks-per-node"] == found["gpus-per-node"]
    # Bound to one GPU each, processes would look for the GPU of their local rank in vain.
    assert "gpus-per-task" not in found
    assert "--gpu-bind=none" in script


def has_time_to_save(script: str) -> None:
    found = directives(script)
    name, _, seconds = found["signal"].partition("@")
    assert name == "TERM"  # to the processes, not to the script (B:)
    assert int(seconds) >= SHORTEST_GRACE
    assert "requeue" in found
    assert found["open-mode"] == "append"


def names_no_machine(text: str) -> None:
    """No host but the example's, no secret, and no DeepSpeed configuration beside the recipe's."""
    hosts = set(re.findall(r"\b(?:[\w-]+\.)+(?:com|io|org|net)\b(?=/)", text))
    ours = {"registry.example.com", "github.com", "jobset.x-k8s.io"}
    labels = {"nvidia.com", "cluster-autoscaler.kubernetes.io", "karpenter.sh"}
    assert hosts <= ours | labels
    assert not re.search(r"AKIA[0-9A-Z]{16}|-----BEGIN|://[^/\s]+:[^/\s]+@", text)
    assert not re.search(r"ds_config|deepspeed_config|zero_optimization|--deepspeed\b", text)


SLURM_RULES: list[Callable[[str], None]] = [
    bash_takes_it,
    slurm_knows_every_option,
    is_one_process_a_gpu,
    has_time_to_save,
    names_no_machine,
]
SLURM_BROKEN: dict[str, tuple[str, str, Callable[[str], None]]] = {
    "an open quote": ('"$dataset"', '"$dataset', bash_takes_it),
    "a misspelt option": ("--requeue", "--requeu", slurm_knows_every_option),
    "an option too late": ("#SBATCH --mem=0", "true\n#SBATCH --mem=0", slurm_knows_every_option),
    "fewer processes": ("ntasks-per-node=8", "ntasks-per-node=1", is_one_process_a_gpu),
    "bound GPUs": (" --gpu-bind=none", "", is_one_process_a_gpu),
    "a signal to the script": ("TERM@600", "B:TERM@600", has_time_to_save),
    "a short grace": ("TERM@600", "TERM@60", has_time_to_save),
    "another registry": ("openreel train", "x.registry.io/openreel train", names_no_machine),
    "a config of DeepSpeed's": (
        "--train.time",
        "--deepspeed ds_config --train.time",
        names_no_machine,
    ),
}


@pytest.mark.parametrize("rule", SLURM_RULES)
def test_the_script_keeps_the_rule(script: str, rule: Callable[[str], None]) -> None:
    rule(script)


@pytest.mark.parametrize("name", SLURM_BROKEN)
def test_a_broken_rule_of_the_script_is_seen(script: str, name: str) -> None:
    old, new, rule = SLURM_BROKEN[name]
    assert old in script
    with pytest.raises((AssertionError, ValueError)):
        rule(script.replace(old, new))


# ---- JobSet: the rules ------------------------------------------------------------------------


def faults(jobset: Tree) -> list[str]:
    """What the resource's definition finds wrong."""
    schema = json.loads(SCHEMA.read_text())
    found = jsonschema.Draft202012Validator(schema).iter_errors(jobset)
    return [f"{'/'.join(map(str, error.absolute_path))}: {error.message}" for error in found]


def begins_anew_together(jobset: Tree) -> None:
    """A lost pod ends its job, a lost job restarts the set; what is moved is not counted."""
    job, policy = job_of(jobset), jobset["spec"]["failurePolicy"]
    assert job["backoffLimit"] == 0
    assert pod_of(jobset)["restartPolicy"] == "Never"  # or a policy of failures is refused
    (moved,) = job["podFailurePolicy"]["rules"]
    assert moved["action"] == "FailJob"
    assert moved["onPodConditions"][0]["type"] == "DisruptionTarget"
    assert policy["maxRestarts"] > 0
    first, last = policy["rules"]
    assert first["onJobFailureReasons"] == ["PodFailurePolicy"]
    assert first["action"] == "RestartJobSetAndIgnoreMaxRestarts"
    assert last["action"] == "RestartJobSet"


def numbers_its_pods(jobset: Tree) -> None:
    job, settings = job_of(jobset), settings_of(jobset)
    assert job["completionMode"] == "Indexed"
    assert job["parallelism"] == job["completions"] == int(settings["NODES"]) > 1
    limits = container_of(jobset)["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == settings["GPUS_PER_NODE"]
    name = jobset["metadata"]["name"]
    (replicated,) = jobset["spec"]["replicatedJobs"]
    assert settings["MASTER_ADDR"] == f"{name}-{replicated['name']}-0-0.{name}"
    assert jobset["spec"]["network"]["enableDNSHostnames"] is True
    (port,) = container_of(jobset)["ports"]
    assert settings["MASTER_PORT"] == str(port["containerPort"])


def leaves_time_to_save(jobset: Tree) -> None:
    """The launcher gives its processes time, and Kubernetes gives the launcher more."""
    patience = int(settings_of(jobset)["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"])
    assert SHORTEST_GRACE <= patience < pod_of(jobset)["terminationGracePeriodSeconds"]
    command = container_of(jobset)["command"]
    assert command[:2] == ["bash", "-c"]
    assert command[2].startswith("exec ")  # or bash would keep the signal for itself


def is_pinned_and_bounded(jobset: Tree) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    container = container_of(jobset)
    assert container["image"].rpartition("/")[2] == f"openreel:{project['version']}-cuda"
    assert {"cpu", "memory"} <= set(container["resources"]["limits"])
    volumes = pod_of(jobset)["volumes"]
    assert all("sizeLimit" in volume.get("emptyDir", {"sizeLimit": ""}) for volume in volumes)
    security = pod_of(jobset)["securityContext"]
    assert security["runAsNonRoot"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False


def shares_its_storage(jobset: Tree) -> None:
    """Every path of the command lies on the claim that all pods mount."""
    words = shlex.split(container_of(jobset)["command"][2])
    options = trained_by(words[words.index("openreel") :])
    volumes = {volume["name"]: volume for volume in pod_of(jobset)["volumes"]}
    mounts = {m["mountPath"]: m["name"] for m in container_of(jobset)["volumeMounts"]}
    assert "persistentVolumeClaim" in volumes[mounts["/data"]]
    for name in ("--dataset", "--vae", "--text", "--output"):
        assert Path(options[name].rpartition(":")[2]).is_relative_to("/data"), name
    assert volumes[mounts["/dev/shm"]]["emptyDir"]["medium"] == "Memory"
    assert int(options["--train.timeout-minutes"]) >= 10


JOBSET_RULES: list[Callable[[Tree], None]] = [
    begins_anew_together,
    numbers_its_pods,
    leaves_time_to_save,
    is_pinned_and_bounded,
    shares_its_storage,
]


def _set(name: str, value: str) -> Callable[[Tree], None]:
    def change(jobset: Tree) -> None:
        (variable,) = [v for v in container_of(jobset)["env"] if v["name"] == name]
        variable["value"] = value

    return change


def _command(old: str, new: str) -> Callable[[Tree], None]:
    def change(jobset: Tree) -> None:
        command = container_of(jobset)["command"]
        assert old in command[2]
        command[2] = command[2].replace(old, new)

    return change


JOBSET_BROKEN: dict[str, tuple[Callable[[Tree], Any], Callable[[Tree], None]]] = {
    "pods replaced one by one": (lambda j: job_of(j).update(backoffLimit=3), begins_anew_together),
    "no restart": (
        lambda j: j["spec"]["failurePolicy"].update(maxRestarts=0),
        begins_anew_together,
    ),
    "half the pods": (lambda j: job_of(j).update(parallelism=4), numbers_its_pods),
    "another name": (lambda j: j["metadata"].update(name="other"), numbers_its_pods),
    "fewer GPUs": (_set("GPUS_PER_NODE", "4"), numbers_its_pods),
    "torchrun's own patience": (_set("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "30"), leaves_time_to_save),
    "a short grace": (
        lambda j: pod_of(j).update(terminationGracePeriodSeconds=500),
        leaves_time_to_save,
    ),
    "a shell in between": (_command("exec torchrun", "torchrun"), leaves_time_to_save),
    "latest": (
        lambda j: container_of(j).update(image="registry.example.com/openreel:latest"),
        is_pinned_and_bounded,
    ),
    "output on the pod's own disk": (
        _command("/data/runs/large", "/scratch/r"),
        shares_its_storage,
    ),
    "a misspelt option": (_command("--train.timeout", "--train.timeuot"), shares_its_storage),
}


@pytest.mark.parametrize("rule", JOBSET_RULES)
def test_the_jobset_keeps_the_rule(jobset: Tree, rule: Callable[[Tree], None]) -> None:
    rule(jobset)


@pytest.mark.parametrize("name", JOBSET_BROKEN)
def test_a_broken_rule_of_the_jobset_is_seen(jobset: Tree, name: str) -> None:
    change, rule = JOBSET_BROKEN[name]
    change(jobset)
    with pytest.raises((AssertionError, KeyError, ValueError)):
        rule(jobset)


def test_jobset_knows_every_field(jobset: Tree) -> None:
    assert faults(jobset) == []
    names_no_machine(JOBSET.read_text())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda j: j["spec"]["failurePolicy"].update(maxRestart=3), "maxRestart"),
        (lambda j: job_of(j).update(completions="8"), "'8' is not of type 'integer'"),
        (lambda j: j["spec"]["replicatedJobs"][0].pop("name"), "'name' is a required property"),
        (lambda j: pod_of(j).update(restartpolicy="Never"), "restartpolicy"),
        (
            lambda j: j["spec"]["failurePolicy"]["rules"][0].update(action="Restart"),
            "'Restart' is not one of",
        ),
        (
            lambda j: container_of(j)["resources"]["limits"].update(memory="20 gigs"),
            "20 gigs",
        ),
    ],
)
def test_a_mistake_is_seen_by_the_schema(
    jobset: Tree, change: Callable[[Tree], Any], message: str
) -> None:
    change(jobset)
    assert any(message in fault for fault in faults(jobset)), faults(jobset)


def test_torchrun_is_as_patient_as_it_is_told(
    jobset: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch.distributed.launcher.api import LaunchConfig

    name = "TORCH_ELASTIC_SHUTDOWN_TIMEOUT"
    monkeypatch.setenv(name, settings_of(jobset)[name])
    config = LaunchConfig(min_nodes=1, max_nodes=1, nproc_per_node=1)
    assert config.shutdown_timeout == int(settings_of(jobset)[name])
