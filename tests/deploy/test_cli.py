"""Every mistake a person makes ends in one line and status 2, without a traceback."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from openreel.deploy import cli


def stopped(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stop:
        cli.main(list(arguments))
    assert isinstance(stop.value.code, int)
    return stop.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["generate", "a ball", "--sizee", "64x64"], "--sizee"),
        (["generate", "a ball", "--size", "1080"], "size: got '1080'; accepted: WIDTHxHEIGHT"),
        (["generate", "a ball", "--size", "0x0"], "size: got '0x0'"),
        (["generate", "a ball", "--seconds", "soon"], "--seconds"),
        (["generate", "  "], "prompt: got '  '"),
        (["generate", "a ball", "--model", "nowhere"], "model: got 'nowhere'"),
        (["generate"], "prompt (required)"),
        (["makevideo"], "makevideo"),
        (["train"], "captioner, vae, dit"),
        (
            ["train", "dit", "huge", "--dataset", "d", "-o", "o", "--vae", "v", "--text", "t"],
            "huge",
        ),
        (["train", "vae", "smoke", "--dataset", "d", "-o", "o", "--train.stepz", "3"], "stepz"),
        (["curate", "no-such-folder", "-o", "OUT"], "no-such-folder"),
        (["curate", "EMPTY", "-o", "OUT"], "EMPTY"),
        (["curate", "TEXTS", "-o", "OUT"], "TEXTS"),
        (["demo", "--videos", "no-such-folder"], "videos: got 'no-such-folder'"),
        (["demo", "--output", "/proc/nothing/here"], "output: got '/proc/nothing/here'"),
        (["inspect", "no-such-file"], "path: got 'no-such-file'"),
        (["inspect", "EMPTY"], "a dataset, a training run's folder or a video"),
        (["decode", "TEXTS/notes.txt", "--model", "nowhere"], "model: got 'nowhere'"),
        (["encode", "EMPTY", "--vae", "nowhere"], "vae: got 'nowhere'"),
    ],
)
def test_a_mistake_is_one_line_with_status_2(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "TEXTS").mkdir()
    (tmp_path / "TEXTS" / "notes.txt").write_text("no video")
    status, errors = stopped(capsys, *arguments)
    assert status == 2
    assert errors.count("\n") == 1
    assert errors.startswith("openreel: ")
    assert says in errors


def test_a_full_disk_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(argv: list[str]) -> None:
        cause = OSError(errno.ENOSPC, "No space left on device", "/data/clip.mp4")
        raise RuntimeError("checkpoint not saved") from cause

    monkeypatch.setattr(cli, "parse", lambda argv: lambda: full(argv))
    assert stopped(capsys) == (2, "openreel: /data/clip.mp4: No space left on device\n")


def test_our_own_bugs_are_not_dressed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def bug() -> None:
        raise ValueError("ours")

    monkeypatch.setattr(cli, "parse", lambda argv: bug)
    with pytest.raises(ValueError, match="ours"):
        cli.main([])


def test_a_field_of_the_recipe_is_changed_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    changed = ["--dry-run", "--train.steps", "77"]
    cli.main(["train", "vae", "smoke", "--dataset", "d", "-o", "o", *changed])
    shown = capsys.readouterr().out
    assert "'steps': 77" in shown


def test_help_comes_without_loading_torch() -> None:
    code = (
        "import sys\nfrom openreel.deploy.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
