"""The manifest is one that KubeRay takes, and keeps the rules that no schema can hold.

Each check is also provoked, so that it cannot pass by looking at nothing.
"""

import copy
import json
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import tyro
import yaml

from openreel.deploy import verbs
from openreel.deploy.cli import parse

ROOT = Path(__file__).parents[2]
MANIFEST = ROOT / "deploy" / "ray" / "rayjob-curate.yaml"
SCHEMA = Path(__file__).with_name("rayjob_schema.json")
Tree = dict[str, Any]


@pytest.fixture
def job() -> Tree:
    """The manifest, its own copy: where the file shares parts, this tree does not."""
    loaded: Tree = json.loads(json.dumps(yaml.safe_load(MANIFEST.read_text())))
    return loaded


def faults(job: Tree) -> list[str]:
    """What the resource's definition finds wrong."""
    schema = json.loads(SCHEMA.read_text())
    found = jsonschema.Draft202012Validator(schema).iter_errors(job)
    return [f"{'/'.join(map(str, error.absolute_path))}: {error.message}" for error in found]


def templates(job: Tree) -> dict[str, Tree]:
    cluster = job["spec"]["rayClusterSpec"]
    found = {"head": cluster["headGroupSpec"]["template"]}
    found |= {group["groupName"]: group["template"] for group in cluster["workerGroupSpecs"]}
    return found | {"submitter": job["spec"]["submitterPodTemplate"]}


def containers(job: Tree) -> Iterator[Tree]:
    """Every container, also the autoscaler's, which takes the head's image."""
    head = templates(job)["head"]["spec"]["containers"][0]
    options = job["spec"]["rayClusterSpec"]["autoscalerOptions"]
    yield {"name": "autoscaler", "image": head["image"], **options}
    for template in templates(job).values():
        yield from template["spec"]["containers"]
        yield from template["spec"].get("initContainers", [])


# ---- the rules --------------------------------------------------------------------------------


def ends_by_itself(job: Tree) -> None:
    """The cluster goes away; a job that hangs or never starts ends; one that dies is retried."""
    spec = job["spec"]
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["ttlSecondsAfterFinished"] > 0
    # KubeRay refuses rules of deletion beside the time to live, and retries on a shared cluster.
    assert "deletionStrategy" not in spec
    assert "clusterSelector" not in spec
    assert spec["submissionMode"] in ("K8sJobMode", "HTTPMode", "SidecarMode")
    assert 0 < spec["preRunningDeadlineSeconds"] < spec["activeDeadlineSeconds"]
    assert spec["backoffLimit"] > 0


def is_pinned(job: Tree) -> None:
    """One image everywhere, of this version, with the version of Ray that was tested."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (image,) = {container["image"] for container in containers(job)}
    tag = image.rpartition("/")[2].partition(":")[2]
    assert tag.startswith(project["version"])
    (ray,) = re.findall(r"^ray==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert job["spec"]["rayClusterSpec"]["rayVersion"] == ray


def has_limits(job: Tree) -> None:
    """No pod takes a machine's memory or disk."""
    for container in containers(job):
        resources = container["resources"]
        assert {"cpu", "memory"} <= set(resources["limits"]) & set(resources["requests"])
    for template in templates(job).values():
        for volume in template["spec"].get("volumes", []):
            assert "sizeLimit" in volume.get("emptyDir", {"sizeLimit": "not one"})


def has_no_privileges(job: Tree) -> None:
    for template in templates(job).values():
        security = template["spec"]["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] > 0
        assert security["seccompProfile"]["type"] == "RuntimeDefault"
    for container in containers(job):
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def holds_no_secret(job: Tree) -> None:
    """Whatever is called a secret comes from one, and nothing looks like one."""
    for container in containers(job):
        for variable in container["env"]:
            secret = re.search("KEY|SECRET|TOKEN|PASSWORD|CREDENTIAL", variable["name"])
            assert secret is None or "value" not in variable
    assert not re.search(r"AKIA[0-9A-Z]{16}|-----BEGIN|://[^/\s]+:[^/\s]+@", json.dumps(job))


def is_closed_to_strangers(job: Tree) -> None:
    """Ray asks for a token, at both ends of every connection."""
    assert job["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    for container in containers(job):
        assert {"name": "RAY_AUTH_MODE", "value": "token"} in container["env"]


def survives_preemption(job: Tree) -> None:
    """Workers scale from none on spot machines and have time to end; no work is on the head."""
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["autoscalerOptions"]["version"] == "v2"
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert "tolerations" not in cluster["headGroupSpec"]["template"]["spec"]
    for name, template in templates(job).items():
        assert template["spec"]["restartPolicy"] == "Never"  # or the autoscaler's version 2 refuses
        if name != "submitter":
            assert template["spec"]["terminationGracePeriodSeconds"] >= 120
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        assert any("spot" in taint["key"] for taint in group["template"]["spec"]["tolerations"])


def runs_a_command_that_exists(job: Tree) -> None:
    """The entrypoint is understood by the command line, and writes where every pod can read."""
    program, *arguments = shlex.split(job["spec"]["entrypoint"])
    assert program == "openreel"
    parse(arguments)
    assert arguments[0] == "curate"
    command = tyro.cli(verbs.Curate, args=arguments[1:])
    claims = []
    for name, template in templates(job).items():
        if name == "submitter":
            continue
        volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
        for container in template["spec"]["containers"]:
            paths = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
            (mounted,) = [p for p in paths if Path(p) in command.output.parents]
            claims.append(volumes[paths[mounted]]["persistentVolumeClaim"]["claimName"])
            settings = {v["name"]: v.get("value") for v in container["env"]}
            assert "emptyDir" in volumes[paths["/scratch"]]
            assert Path(settings["OPENREEL_CACHE"]).is_relative_to("/scratch")
    assert len(claims) == 2
    assert len(set(claims)) == 1


RULES: list[Callable[[Tree], None]] = [
    ends_by_itself,
    is_pinned,
    has_limits,
    has_no_privileges,
    holds_no_secret,
    is_closed_to_strangers,
    survives_preemption,
    runs_a_command_that_exists,
]


@pytest.mark.parametrize("rule", RULES)
def test_the_manifest_keeps_the_rule(job: Tree, rule: Callable[[Tree], None]) -> None:
    rule(job)


def test_kuberay_knows_every_field(job: Tree) -> None:
    assert faults(job) == []
    assert SCHEMA.stat().st_size < 60_000


def _worker(job: Tree) -> Tree:
    group: Tree = job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]
    return group


def _container(job: Tree) -> Tree:
    container: Tree = _worker(job)["template"]["spec"]["containers"][0]
    return container


UNKNOWN: dict[str, tuple[Callable[[Tree], Any], str]] = {
    "misspelt at the top": (
        lambda job: job["spec"].update(backOffLimit=3),
        "backOffLimit",
    ),
    "misspelt deep inside": (
        lambda job: _container(job)["securityContext"].update(runAsNonroot=True),
        "runAsNonroot",
    ),
    "a string for a number": (
        lambda job: job["spec"].update(backoffLimit="3"),
        "'3' is not of type 'integer'",
    ),
    "a number for a string": (
        lambda job: _worker(job)["rayStartParams"].update({"num-cpus": 4}),
        "4 is not of type 'string'",
    ),
    "no such mode": (
        lambda job: job["spec"]["rayClusterSpec"]["authOptions"].update(mode="tokens"),
        "'tokens' is not one of",
    ),
    "something missing": (
        lambda job: _worker(job).pop("groupName"),
        "'groupName' is a required property",
    ),
    "no quantity": (
        lambda job: _container(job)["resources"]["limits"].update(memory="20 gigs"),
        "20 gigs",
    ),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_mistake_is_seen_by_the_schema(job: Tree, name: str) -> None:
    change, message = UNKNOWN[name]
    change(job)
    assert any(message in fault for fault in faults(job)), faults(job)


def _set_image(job: Tree) -> None:
    for template in templates(job).values():
        for container in template["spec"]["containers"]:
            container["image"] = "registry.example.com/openreel:latest"


BROKEN: dict[str, tuple[Callable[[Tree], Any], Callable[[Tree], None]]] = {
    "a time to live without shutdown": (
        lambda job: job["spec"].update(shutdownAfterJobFinishes=False),
        ends_by_itself,
    ),
    "no retry": (lambda job: job["spec"].update(backoffLimit=0), ends_by_itself),
    "no deadline": (
        lambda job: job["spec"].update(activeDeadlineSeconds=0),
        ends_by_itself,
    ),
    "latest": (_set_image, is_pinned),
    "another image for workers": (
        lambda job: _container(job).update(image="registry.example.com/openreel:0.1.0-cuda"),
        is_pinned,
    ),
    "no limit on memory": (
        lambda job: _container(job)["resources"]["limits"].pop("memory"),
        has_limits,
    ),
    "scratch without a size": (
        lambda job: _worker(job)["template"]["spec"]["volumes"][1]["emptyDir"].clear(),
        has_limits,
    ),
    "root": (
        lambda job: _worker(job)["template"]["spec"]["securityContext"].update(runAsUser=0),
        has_no_privileges,
    ),
    "a literal secret": (
        lambda job: _container(job)["env"].append(
            {"name": "AWS_SECRET_ACCESS_KEY", "value": "not so secret"}
        ),
        holds_no_secret,
    ),
    "a secret in an address": (
        lambda job: job["spec"].update(
            entrypoint="openreel curate s3://key:word@bucket -o /data/d"
        ),
        holds_no_secret,
    ),
    "no token": (
        lambda job: job["spec"]["rayClusterSpec"]["authOptions"].update(mode="disabled"),
        is_closed_to_strangers,
    ),
    "a short grace": (
        lambda job: _worker(job)["template"]["spec"].update(terminationGracePeriodSeconds=30),
        survives_preemption,
    ),
    "work on the head": (
        lambda job: job["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"].clear(),
        survives_preemption,
    ),
    "output on the pod's own disk": (
        lambda job: job["spec"].update(entrypoint="openreel curate s3://b/v -o /scratch/dataset"),
        runs_a_command_that_exists,
    ),
    "a misspelt argument": (
        lambda job: job["spec"].update(entrypoint="openreel curate s3://b/v --outptu /data/d"),
        runs_a_command_that_exists,
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_rule_is_seen(job: Tree, name: str) -> None:
    change, rule = BROKEN[name]
    rule(copy.deepcopy(job))
    change(job)
    with pytest.raises((AssertionError, KeyError, ValueError)):
        rule(job)
