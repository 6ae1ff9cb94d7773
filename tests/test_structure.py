"""The house keeps its shape: folders, floors, bare imports, torch-free records, room sizes.

Each check is also provoked, so that it cannot pass by looking at nothing.
"""

import ast
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("pipeline", "recaption", "vae", "packing", "dit", "deploy")
RECORDS = (
    "openreel.pipeline.clip",
    "openreel.recaption.caption",
    "openreel.vae.latent",
    "openreel.packing.batch",
    "openreel.packing.plan",
    "openreel.packing.packer",
)


def python_folders(root: Path) -> set[str]:
    """Top-level folders that hold Python code, tests aside."""
    found = {p.parent.name for p in root.glob("*/*.py")}
    return {name for name in found if name != "tests" and not name.startswith((".", "build"))}


def nested_code(root: Path) -> list[Path]:
    return [path for name in PACKAGES for path in (root / name).glob("*/**/*.py")]


def test_pyproject_lists_exactly_the_folders_there_are(tmp_path: Path) -> None:
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    listed = {f"openreel.{name}" for name in python_folders(ROOT)}
    assert set(tools["setuptools"]["packages"]) == listed
    assert tools["setuptools"]["package-dir"] == {p: p.removeprefix("openreel.") for p in listed}
    assert set(tools["importlinter"]["root_packages"]) == listed
    assert set(tools["ruff"]["lint"]["flake8-tidy-imports"]["banned-api"]) == set(PACKAGES)
    assert not nested_code(ROOT), "an unlisted sub-package would be missing from the wheel"
    assert all((ROOT / name / "py.typed").exists() for name in PACKAGES)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "module.py").touch()
    assert python_folders(tmp_path) == {"new"}
    (tmp_path / "vae" / "sub").mkdir(parents=True)
    (tmp_path / "vae" / "sub" / "module.py").touch()
    assert nested_code(tmp_path)


def test_bare_imports_are_banned(tmp_path: Path) -> None:
    ruff = [sys.executable, "-m", "ruff", "check", "--config", str(ROOT / "pyproject.toml")]
    for name in PACKAGES:
        (tmp_path / "provoked.py").write_text(f"import {name}.module\n\nprint({name})\n")
        found = subprocess.run(
            [*ruff, "--select", "TID251", str(tmp_path)], capture_output=True, text=True
        )
        assert found.returncode == 1
        assert "TID251" in found.stdout


def lint_imports(tree: Path) -> subprocess.CompletedProcess[str]:
    """import-linter on a copy of the packages, laid out as installed."""
    program = Path(sys.executable).with_name("lint-imports")
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    command = [str(program), "--config", str(ROOT / "pyproject.toml"), "--no-cache"]
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        (None, "", ""),
        ("vae/model.py", "import openreel.dit.model", "an import goes only to the left"),
        ("recaption/run.py", "import openreel.vae.latent", "an import goes only to the left"),
        ("packing/plan.py", "import torch", "import no torch"),
        ("dit/blocks.py", "import deepspeed", "know no data, no network, no disk"),
    ],
)
def test_floors_hold_and_a_step_to_the_right_is_seen(
    tmp_path: Path, file: str | None, line: str, contract: str
) -> None:
    for name in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tmp_path / "openreel" / name, ignore=ignored)
    if file is not None:
        path = tmp_path / "openreel" / file
        path.write_text(path.read_text() + f"\n{line}\n")
    found = lint_imports(tmp_path)
    assert (found.returncode == 0) == (file is None), found.stdout
    broken = [text for text in found.stdout.splitlines() if text.endswith("BROKEN")]
    assert [contract in text for text in broken] == ([] if file is None else [True])


def imports_torch(module: str) -> bool:
    """Whether importing a module alone brings torch in."""
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    return bool(subprocess.run([sys.executable, "-c", code]).returncode)


@pytest.mark.parametrize("module", RECORDS)
def test_records_and_planners_import_no_torch(module: str) -> None:
    assert not imports_torch(module)


def test_the_torch_check_sees_torch() -> None:
    assert imports_torch("openreel.dit.rope")


def oversized(path: Path) -> list[str]:
    """Files above 400 lines and functions above 60."""
    source = path.read_text()
    found = [f"{path.name}: {n} lines"] if (n := len(source.splitlines())) > 400 else []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and node.end_lineno is not None:
            length = node.end_lineno - node.lineno + 1
            found += [f"{path.name}: {node.name} has {length} lines"] if length > 60 else []
    return found


def test_rooms_are_small(tmp_path: Path) -> None:
    files = [path for name in PACKAGES for path in (ROOT / name).glob("*.py")]
    assert len(files) > 40
    assert [line for path in files for line in oversized(path)] == []
    long = tmp_path / "long.py"
    long.write_text("def long() -> None:\n" + "    pass\n" * 401)
    assert len(oversized(long)) == 2


@pytest.mark.slow
def test_the_wheel_holds_openreel_alone(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path)]
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns(".git", ".venv", "build", "demo-*", "*.egg-info")
    shutil.copytree(ROOT, source, ignore=ignored)
    subprocess.run([*build, str(source)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"openreel"}
    expected = {f"openreel/{n}/{p.name}" for n in PACKAGES for p in (ROOT / n).glob("*.py")}
    assert expected <= set(names)
    assert "openreel/deploy/Dockerfile" in names
    assert all(f"openreel/{name}/py.typed" in names for name in PACKAGES)
