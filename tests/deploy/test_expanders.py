"""From the command line to an expansion: the right backend, on record, and never an exception."""

import json
from pathlib import Path

import pytest

from openreel.deploy import stations_expander
from openreel.deploy.bundle import Bundle
from openreel.deploy.cli import main
from openreel.deploy.world import describe, draw_scene
from openreel.recaption.caption import Caption, ClipCaptions

NOWHERE = ("--expand", "endpoint", "--expand-url", "http://127.0.0.1:9/v1", "--expand-model", "m")


def record(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    main(["expand", *arguments, "--record"])
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_a_prompt_is_expanded_in_a_bundles_style(
    bundle_folder: Path, bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    prompt = "a red ball moves right"
    found = record(capsys, prompt, "--model", str(bundle_folder))
    assert found["text"] == bundle.expander.expand(prompt).text != prompt
    assert (found["backend"], found["status"]) == ("offline", "expanded")
    main(["expand", prompt, "--model", str(bundle_folder)])
    shown = capsys.readouterr()
    assert shown.out == f"{found['text']}\n", "the text alone, for a pipe"
    assert shown.err.startswith("expanded by offline in ")


def test_off_is_the_identity_and_markup_is_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    for prompt in ("[bold]a dog[/bold]", "a  dog\t", "🐈 赤い"):
        main(["expand", prompt, "--expand", "off"])
        assert capsys.readouterr().out == f"{prompt}\n"
    main(["expand", "[bold]a dog[/bold] runs"])
    assert "[bold]" in capsys.readouterr().out


def test_a_server_that_is_down_costs_no_expansion_and_no_video(
    bundle_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = record(capsys, "a dog runs", *NOWHERE, "--expand-timeout", "4")
    assert (found["status"], found["text"]) == ("fell back", "a dog runs")
    common = ["generate", "a dog runs", "--model", str(bundle_folder), "-o", str(tmp_path)]
    sizes = ["--size", "16x16", "--frames", "1", "--steps", "1", "--expand-timeout", "4"]
    main([*common, *sizes, *NOWHERE])
    assert "prompt not expanded: error" in capsys.readouterr().err
    (sidecar,) = tmp_path.glob("*.json")
    expansion = json.loads(sidecar.read_text())["expansion"]
    assert (expansion["status"], expansion["text"]) == ("fell back", "a dog runs")
    assert expansion["backend"].startswith("endpoint:m")
    assert expansion["reason"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--expand", "clever"], "clever"),
        (["--expand", "local"], "expand_model: got ''; accepted: a chat model's folder"),
        (["--expand", "local", "--expand-model", "nowhere"], "a folder with config.json"),
        (["--expand", "own"], "expand: got 'own'; accepted: a bundle with an expander"),
        (["--expand", "endpoint", "--expand-url", "ftp://x", "--expand-model", "m"], "base_url"),
        (["--expand-words", "9", "3"], "words: got '9 to 3'"),
        (["--expand-timeout", "-1"], "timeout_s: got -1"),
        (["--model", "nowhere"], "model: got 'nowhere'"),
        (["--seen", "\udcff"], "text in UTF-8"),
    ],
)
def test_mistakes_are_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["expand", "a dog", *arguments])
    assert stop.value.code == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert says in errors


@pytest.mark.slow
def test_an_expander_is_trained_goes_on_and_expands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    truths = {str(i): describe(draw_scene(0, i)) for i in range(40)}
    rows = {
        key: ClipCaptions(
            clip_id=key,
            captions=(
                Caption(kind="short", text=truth.short, source="manifest"),
                Caption(kind="dense", text=truth.dense, source="manifest"),
            ),
        )
        for key, truth in truths.items()
    }
    monkeypatch.setattr(stations_expander, "captions_of", lambda dataset: rows)
    command = ["train", "expander", "smoke", "--dataset", "d", "-o", str(tmp_path / "run")]
    main(command)
    model = tmp_path / "run" / "model"
    weights = (model / "model.safetensors").read_bytes()
    main(command)
    assert (model / "model.safetensors").read_bytes() == weights, "done is done"
    with pytest.raises(SystemExit):
        main([*command, "--seed", "5"])
    assert "seed" in capsys.readouterr().err
    found = record(capsys, "a red ball moves right", "--model", str(model))
    assert str(found["backend"]).startswith("language:"), "auto takes the own model where it is"
    assert found["status"] == "fell back", "four steps teach nothing, and the guards know"
    assert found["text"] == "a red ball moves right"
    monkeypatch.setattr(stations_expander, "captions_of", lambda dataset: {})
    with pytest.raises(SystemExit):
        main([*command[:-1], str(tmp_path / "other")])
    assert "a short and a dense caption of a clip" in capsys.readouterr().err
