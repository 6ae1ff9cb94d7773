"""Listing finds the media, pairs the captions, and names what is wrong in one line."""

import json
import os
from pathlib import Path

import pyarrow as pa
import pytest

from openreel.pipeline.clip import Source
from openreel.pipeline.errors import InputError
from openreel.pipeline.listing import list_sources


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "below").mkdir()
    for name in ("b.mp4", "a.MOV", "below/c.png", "notes.txt", "list.csv", "bare"):
        (tmp_path / name).write_bytes(b"x")
    lines = [
        {"file": "b.mp4", "kind": "short", "text": "one", "start_s": 0.0, "end_s": 1.0},
        {"file": "b.mp4", "kind": "dense", "text": "two"},
    ]
    (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    return tmp_path


def test_media_are_listed_once_in_order_and_the_rest_is_counted(folder: Path) -> None:
    listing = list_sources([folder, folder / "b.mp4", folder / "below"])
    assert [Path(s.uri).name for s in listing.sources] == ["a.MOV", "b.mp4", "c.png"]
    assert listing.others == {".txt": 1, ".csv": 1, "(none)": 1}
    assert all(Path(s.uri).is_absolute() for s in listing.sources)


def test_captions_belong_to_their_file(folder: Path) -> None:
    by_name = {Path(s.uri).name: s for s in list_sources([folder / "b.mp4", folder]).sources}
    assert [(t.kind, t.text, t.end_s) for t in by_name["b.mp4"].texts] == [
        ("short", "one", 1.0),
        ("dense", "two", float("inf")),
    ]
    assert by_name["a.MOV"].texts == ()


def test_the_key_changes_with_the_bytes_the_time_and_the_captions(folder: Path) -> None:
    def key() -> str:
        return {Path(s.uri).name: s.key for s in list_sources([folder]).sources}["b.mp4"]

    keys = [key()]
    assert key() == keys[0]
    os.utime(folder / "b.mp4", (1, 1))
    keys.append(key())
    (folder / "b.mp4").write_bytes(b"xy")
    keys.append(key())
    (folder / "captions.jsonl").write_text('{"file": "b.mp4", "kind": "short", "text": "new"}')
    keys.append(key())
    assert len(set(keys)) == 4


def test_mistakes_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"input: got '.*/gone'; accepted: a folder or a media file or a manifest"
    ):
        list_sources([tmp_path / "gone"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"input: got '.*/empty'; accepted: media files \(\.avi"):
        list_sources([tmp_path / "empty"])
    with pytest.raises(InputError, match=r"notes.txt'; accepted: media files"):
        list_sources([folder / "notes.txt"])
    for line in (
        "{",
        "[1]",
        '{"file": "b.mp4", "kind": "long", "text": ""}',
        '{"kind": "short", "text": ""}',
        '{"file": "b.mp4", "kind": "short", "text": "", "more": 1}',
        '{"file": "b.mp4", "kind": "short"}',
    ):
        (folder / "captions.jsonl").write_text("\n" + line)
        with pytest.raises(InputError, match=r"captions.jsonl, line 2(, short)?: got"):
            list_sources([folder])
    (folder / "captions.jsonl").write_bytes(b"\n\xff")
    with pytest.raises(
        InputError, match=r"captions.jsonl, line 2: got b.*; accepted: text in UTF-8"
    ):
        list_sources([folder])


def test_a_path_may_be_a_string_or_a_file_uri(folder: Path) -> None:
    wanted = list_sources([folder]).sources
    assert list_sources([str(folder)]).sources == wanted
    assert list_sources([f"file://{folder}"]).sources == wanted
    assert list_sources([f"FILE://localhost{folder}/"]).sources == wanted
    for uri in ("file://", "file://elsewhere/a.mp4", f"file://{folder}/a#b.mp4", "http://x/a.mp4"):
        with pytest.raises(InputError, match=r"input: got '(file|http)://"):
            list_sources([uri])


def test_odd_names_are_kept_as_they_are(tmp_path: Path) -> None:
    names = [
        "a\nb.mp4",
        "'q\".mp4",
        "w?h#y.mp4",
        "100%20.mp4",
        "\u00fc\u2028.mp4",
        " .mp4",
        "-rf.mp4",
    ]
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    lines = [json.dumps({"file": n, "kind": "short", "text": n}, ensure_ascii=False) for n in names]
    (tmp_path / "captions.jsonl").write_text("\n".join(lines), encoding="utf-8")
    sources = list_sources([tmp_path]).sources
    assert sorted(Path(s.uri).name for s in sources) == sorted(names)
    assert all(s.status == "ok" and s.texts[0].text == Path(s.uri).name for s in sources)
    by_file = [list_sources([tmp_path / name]).sources[0] for name in names]
    assert sorted(by_file, key=lambda s: s.uri) == list(sources)


def test_a_name_that_no_table_can_hold_is_rejected_with_the_reason(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/caf\xe9.mp4", "wb") as file:
        file.write(b"x")
    (tmp_path / "good.mp4").write_bytes(b"x")
    bad, good = list_sources([tmp_path]).sources
    assert (bad.status, bad.stage, bad.video_id) == ("rejected", "sources", "")
    assert bad.uri == f"{tmp_path}/caf\\xe9.mp4"
    assert "not valid UTF-8" in bad.reason
    assert pa.Table.from_pylist([bad.to_row(), good.to_row()], schema=Source.schema()).num_rows == 2
    assert good.status == "ok"


def test_linked_folders_are_read_once_even_in_a_circle(tmp_path: Path) -> None:
    real, outside = tmp_path / "real", tmp_path / "outside"
    for folder in (real / "below", outside):
        folder.mkdir(parents=True)
    (real / "below" / "a.mp4").write_bytes(b"x")
    (outside / "b.mp4").write_bytes(b"x")
    (real / "below" / "up").symlink_to(real)
    (real / "again").symlink_to(real / "below")
    (real / "out").symlink_to(outside)
    (real / "linked.mp4").symlink_to(outside / "b.mp4")
    listing = list_sources([real])
    assert [s.uri for s in listing.sources] == [
        str(outside / "b.mp4"),
        str(real / "below" / "a.mp4"),
    ]


def test_what_only_looks_like_a_medium_is_rejected_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    (tmp_path / "circle.mp4").symlink_to(tmp_path / "circle.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    sources = {Path(s.uri).name: s for s in list_sources([tmp_path]).sources}
    assert set(sources) == {"nowhere.mp4", "circle.mp4", "pipe.mp4"}
    assert {s.status for s in sources.values()} == {"rejected"}
    assert sources["nowhere.mp4"].reason == "a link to a file that does not exist"
    assert "Too many levels" in sources["circle.mp4"].reason
    assert "not a file with content" in sources["pipe.mp4"].reason


def test_a_folder_that_may_not_be_read_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.scandir

    def refused(path: str) -> object:
        if str(path).endswith("below"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr("os.scandir", refused)
    with pytest.raises(
        InputError, match=r"got '.*/below'; accepted: a folder that can be read \(Permission"
    ):
        list_sources([folder])


def test_each_file_is_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(300):
        (tmp_path / f"{number}.mp4").touch()
        (tmp_path / f"{number}.txt").touch()
    looked: list[str] = []
    real = os.stat

    def counted(path: str, **options: object) -> os.stat_result:
        looked.append(str(path))
        return real(path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("os.stat", counted)
    assert len(list_sources([tmp_path]).sources) == 300
    media = [path for path in looked if path.endswith((".mp4", ".txt"))]
    assert len(media) == len(set(media)) == 300
