"""`openreel eval captions` as a person calls it."""

from pathlib import Path

import pytest

from openreel.deploy.cli import main
from openreel.pipeline import table
from openreel.recaption import ngrams
from openreel.recaption.caption import Caption, ClipCaptions
from openreel.recaption.tables import place_of
from tests.benchmarks.small_clips import dataset_of, small_clips, untrained

TEXTS = ["a red ball moves right", "a blue box stays still on a table", "two bars move up"]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Two captioners' tables; one repeats itself, opens as no caption should, and writes markup."""
    for source, texts, flaw in (
        ("videococa", TEXTS, ""),
        ("vlm", ["The image shows a [bold]ball[/]"] * 3, "boilerplate: the image shows"),
    ):
        model = f"{source}\u202e[red]" * 2
        folder = place_of(tmp_path, source, {"model": model}).folder
        table.create(folder, stage="recaption", key="clip_id", fingerprint={"model": model})
        rows = []
        for i, text in enumerate(texts):
            original = Caption(kind="original", text=TEXTS[i], source="manifest")
            written = Caption(
                kind="dense", text=text, source=source, model=model, flaw=flaw, logprob=-0.25
            )
            rows.append(ClipCaptions(clip_id=f"clip-{i}", captions=(original, written)))
        table.append(folder, rows)
    return tmp_path


def shown_by(dataset: Path, capsys: pytest.CaptureFixture[str], *options: str) -> list[list[str]]:
    """The cells of every row of the tables."""
    main(["eval", "captions", str(dataset), *options])
    lines = capsys.readouterr().out.splitlines()
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]


def test_each_captioner_is_shown_with_its_figures(
    dataset: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    rows = shown_by(dataset, capsys)
    wanted = (("videococa videococ", 7), ("vlm vlm", 7), ("videococa", 6), ("vlm vlm", 4))
    shares, worse, figures, flaws = (
        next(row for row in rows if row[0].startswith(name) and len(row) == length)
        for name, length in wanted
    )
    assert shares[1:] == ["dense", "3", "0", "0.0%", "0.0%", "0.0%"]
    assert worse[2:] == ["3", "0", "100.0%", "100.0%", "100.0%"]
    assert figures[1:] == ["dense", "4 4.2 5 7.4 8", "1.000", "-0.250", ""]
    assert "\u202e" not in worse[0]
    assert "\\u202e[red" in worse[0], "what is not printed is spelt out, and no markup is obeyed"
    assert flaws[1:] == ["dense", "boilerplate", "3"]
    likeness, other = (row for row in rows if len(row) == 6 and "." in row[3] and row[2] == "3")
    assert likeness[2:] == ["3", "1.000", "1.000", "10.000"]
    assert float(other[3]) == 0 < float(other[4]) < 0.5


def test_without_the_packages_the_rest_is_shown(
    dataset: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ngrams, "PACKAGES", ("no_such_package",))
    main(["eval", "captions", str(dataset)])
    shown = capsys.readouterr().out
    assert "pip install 'openreel[metrics]'" in shown
    assert "boilerplate" in shown
    assert "CIDEr" not in shown


def test_a_dataset_without_captions_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, word in (
        ([str(tmp_path)], "dataset: got"),
        ([str(tmp_path / "nowhere")], "dataset: got"),
        ([], "dataset"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(["eval", "captions", *arguments])
        lines = capsys.readouterr().err.splitlines()
        assert stopped.value.code == 2
        assert len(lines) == 1
        assert word in lines[0].lower()


def test_a_threshold_for_the_check_of_agreement_is_shown_and_can_be_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Five clips with a text each: a share of 0.25 may refuse one, and one is a fifth."""
    dataset = dataset_of(tmp_path / "data", small_clips(tmp_path / "media", 5))
    captioner = str(untrained(tmp_path / "captioner"))
    asked, balanced = shown_by(dataset, capsys, "--calibrate", captioner, "--share", "0.25")
    assert asked[1] == "20.0%"
    assert float(asked[0]) >= -1 <= float(balanced[0])
    assert balanced[1:] != asked[1:]
    command = ["recaption", str(dataset), "--captioner", captioner, "--min-agreement", asked[0]]
    main([*command, "--dry-run"])
    assert f"'min_agreement': {float(asked[0])}" in capsys.readouterr().out
    for wrong in (["--share", "0"], ["--share", "1"]):
        with pytest.raises(SystemExit):
            main(["eval", "captions", str(dataset), "--calibrate", captioner, *wrong])
        assert "share: got" in capsys.readouterr().err
