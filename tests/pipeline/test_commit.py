"""A name is either absent, old and whole, or new and whole."""

import hashlib
from pathlib import Path

import pytest

from openreel.pipeline import commit
from openreel.pipeline.commit import (
    committed_file,
    committed_folder,
    is_temporary,
    write_by_content,
    write_text,
)
from openreel.pipeline.keyed import generator, uniform


def fail_in_a_file(path: Path) -> None:
    with committed_file(path) as scratch:
        scratch.write_text("half of the n")
        assert is_temporary(scratch)
        assert path.read_text() == "old"
        raise OSError("disk full")


def fail_in_a_folder(path: Path) -> None:
    with committed_folder(path) as scratch:
        (scratch / "weights").write_text("half")
        raise OSError("disk full")


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "table"
    write_text(path, "old")
    with pytest.raises(OSError, match="disk full"):
        fail_in_a_file(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "model"
    with pytest.raises(OSError, match="disk full"):
        fail_in_a_folder(path)
    assert not list(tmp_path.iterdir())
    with committed_folder(path) as scratch:
        (scratch / "weights").write_text("all")
        assert not path.exists()
    assert (path / "weights").read_text() == "all"


def test_a_file_named_by_its_content_is_verified_before_it_has_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = hashlib.sha256(b"some").hexdigest()
    for _ in range(2):
        found = write_by_content(tmp_path, "shards", b"some", ".bin")
        assert found == (f"shards/{name[:2]}/{name}.bin", name)
    assert (tmp_path / found[0]).read_bytes() == b"some"
    monkeypatch.setattr(commit, "sha256", lambda path: "what a bad disk gives back")
    with pytest.raises(OSError, match="reads back differently"):
        write_by_content(tmp_path, "shards", b"other", ".bin")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [f"{name}.bin"]


def test_keyed_numbers_depend_on_the_key_alone() -> None:
    first = [uniform(0, "noise", clip) for clip in "abc"]
    generator(0, "noise", "a").random(1000)
    assert [uniform(0, "noise", clip) for clip in "cba"] == first[::-1]
    assert len({*first, uniform(1, "noise", "a"), uniform(0, "noisea", "")}) == 5
