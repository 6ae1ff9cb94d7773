"""Listing finds the media, pairs the captions, and names what is wrong in one line."""

import json
import os
from pathlib import Path

import pytest

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
        InputError, match=r"input: got '.*/gone'; accepted: a folder or a media file"
    ):
        list_sources([tmp_path / "gone"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"input: got '.*/empty'; accepted: media files \(\.avi"):
        list_sources([tmp_path / "empty"])
    with pytest.raises(InputError, match=r"notes.txt'; accepted: media files"):
        list_sources([folder / "notes.txt"])
    for line in ("{", "[1]", '{"file": "b.mp4", "kind": "long", "text": ""}', '{"kind": "short"}'):
        (folder / "captions.jsonl").write_text("\n" + line)
        with pytest.raises(InputError, match=r"captions.jsonl, line 2: got"):
            list_sources([folder])
