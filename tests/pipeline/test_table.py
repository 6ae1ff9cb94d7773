"""Rows are written whole, read once, and never lost to a crash."""

from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from openreel.pipeline import table
from openreel.pipeline.clip import Source, TimedText, Verdict, Video, digest
from openreel.pipeline.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Number(Verdict):
    key: str
    value: int


def numbers(*values: int) -> list[Number]:
    return [Number(key=digest(v), value=v) for v in values]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    table.create(tmp_path / "t", stage="count", key="key", fingerprint={"a": {"b": 1}, "c": 2})
    return tmp_path / "t"


def values(folder: Path) -> list[int]:
    return sorted(row.value for row in table.read(folder, Number))


def test_nested_rows_come_back_equal(tmp_path: Path) -> None:
    table.create(tmp_path, stage="sources", key="key", fingerprint={})
    text = TimedText(kind="short", text="a red ball")
    row = Source(key="k", uri="/a", num_bytes=3, texts=(text, replace(text, end_s=1.5)))
    bare = Source(key="j", uri="/b", num_bytes=0)
    table.append(tmp_path, [row, bare])
    assert table.read(tmp_path, Source) == [bare, row]
    assert row.texts[0].end_s == float("inf")


def test_every_record_has_an_arrow_schema() -> None:
    assert Video.schema().names[:4] == ["status", "stage", "reason", "attempt"]
    assert "shots" in Video.schema().names


def test_order_of_reading_is_the_order_of_keys(folder: Path) -> None:
    for n in (3, 1, 2):
        table.append(folder, numbers(n))
    keys = [row.key for row in table.read(folder, Number)]
    assert keys == sorted(keys)
    assert len(keys) == 3


def test_equal_rows_are_one_row(folder: Path) -> None:
    assert table.append(folder, numbers(1, 2)) == table.append(folder, numbers(1, 2))
    table.append(folder, numbers(2, 3))
    assert len(table.parts(folder)) == 2
    assert values(folder) == [1, 2, 3]


def test_the_newest_attempt_wins_in_either_order(folder: Path) -> None:
    (first,) = numbers(1)
    table.append(folder, [replace(first, attempt=2, status="ok")])
    table.append(folder, [replace(first, status="failed", reason="no luck")])
    (row,) = table.read(folder, Number)
    assert (row.status, row.attempt) == ("ok", 2)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
@pytest.mark.parametrize("merged", [False, True])
def test_of_two_results_of_the_same_work_all_readers_take_the_same(
    folder: Path, order: tuple[int, ...], merged: bool
) -> None:
    """Whichever was committed first, and whichever parts were merged before the last one came."""
    (first,) = numbers(1)
    results = [first, replace(first, value=9), replace(first, value=4)]
    for n in order:
        table.append(folder, [results[n], *numbers(20 + n)])
        if merged:
            table.compact(folder)
            assert len(table.parts(folder)) == 1
    assert values(folder) == [1, 20, 21, 22]
    assert (len(table.view(folder, Number)), len(table.usable(folder, Number))) == (4, 4)


def test_of_one_attempt_made_twice_the_better_verdict_stands(folder: Path) -> None:
    (good,) = numbers(1)
    table.append(folder, [replace(good, status="failed", reason="a worker was lost")])
    table.append(folder, [good])
    table.append(folder, [replace(good, status="failed", reason="another was lost")])
    assert table.read(folder, Number) == [good]


def test_only_ok_rows_are_usable(folder: Path) -> None:
    a, b, c = numbers(1, 2, 3)
    table.append(folder, [a, replace(b, status="rejected"), replace(c, status="failed")])
    assert table.usable(folder, Number) == [a]


@pytest.mark.parametrize("survivors", range(5))
def test_compaction_may_be_killed_at_any_instant(
    folder: Path, survivors: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(4):
        table.append(folder, numbers(n))
    removed = []
    unlink = Path.unlink

    def dying_unlink(path: Path, missing_ok: bool = False) -> None:
        if path.suffix == ".parquet":
            if len(removed) == survivors:
                raise KeyboardInterrupt
            removed.append(path)
        unlink(path, missing_ok=missing_ok)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", dying_unlink)
        if survivors < 4:
            with pytest.raises(KeyboardInterrupt):
                table.compact(folder)
        else:
            table.compact(folder)
    assert len(removed) == survivors
    assert values(folder) == [0, 1, 2, 3]
    table.compact(folder)
    assert len(table.parts(folder)) == 1
    assert values(folder) == [0, 1, 2, 3]


def test_compaction_of_one_part_changes_nothing(folder: Path) -> None:
    table.append(folder, numbers(2, 1))
    table.compact(folder)
    before = table.parts(folder)
    table.compact(folder)
    assert table.parts(folder) == before


def test_half_written_parts_are_not_read(folder: Path) -> None:
    part = table.append(folder, numbers(1))
    part.with_name("part-00.parquet.tmp-1234").write_bytes(part.read_bytes()[:50])
    assert values(folder) == [1]


def test_a_full_disk_leaves_no_part(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> int:
        with path.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        table.append(folder, numbers(1))
    monkeypatch.undo()
    assert sorted(p.name for p in folder.iterdir()) == ["_stage.json"]


def test_another_fingerprint_is_refused_and_both_are_shown(folder: Path) -> None:
    table.create(folder, stage="count", key="key", fingerprint={"c": 2, "a": {"b": 1}})
    with pytest.raises(InputError) as caught:
        table.create(folder, stage="count", key="key", fingerprint={"a": {"b": 7}, "c": 2})
    assert caught.value.value == {"fingerprint.a.b": 7}
    assert "{'fingerprint.a.b': 1}" in caught.value.accepted
    assert "fingerprint.c" not in str(caught.value)


def test_a_folder_that_is_no_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing"):
        table.read(tmp_path / "nothing", Number)


def test_a_second_writer_is_refused(folder: Path) -> None:
    with (
        table.one_writer(folder),
        pytest.raises(InputError, match="no other run"),
        table.one_writer(folder),
    ):
        pass
    with table.one_writer(folder):
        pass


def test_parts_are_ordinary_parquet(folder: Path) -> None:
    part = table.append(folder, numbers(5))
    assert pq.read_table(part).column("value").to_pylist() == [5]


def test_a_view_reads_only_the_row_groups_that_are_asked_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "_GROUP_BYTES", 1)  # a row group a row
    part = table.append(folder, numbers(*range(50)))
    assert pq.ParquetFile(part).num_row_groups == 50
    read: list[int] = []
    original = pq.ParquetFile.read_row_group

    def counted(file: pq.ParquetFile, group: int) -> object:
        read.append(group)
        return original(file, group)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    view = table.view(folder, Number)
    assert len(view) == 50
    assert view.keys.to_pylist() == [row.key for row in numbers(*range(50))]
    assert view.column("value").to_pylist() == list(range(50))
    assert read == []
    assert [row.value for row in view.rows([41, 3])] == [41, 3]
    assert sorted(read) == [3, 41]


def test_a_view_of_some_rows_keeps_their_order(folder: Path) -> None:
    a, b, c = numbers(1, 2, 3)
    table.append(folder, [a, replace(b, status="rejected"), c])
    usable = table.view(folder, Number).having("ok")
    assert [row.value for row in usable.rows()] == [1, 3]
    assert usable.column("value").to_pylist() == [1, 3]
    table.append(folder, [replace(c, status="failed", attempt=2)])
    assert [row.value for row in table.view(folder, Number).having("ok").rows()] == [1]


def test_a_view_may_begin_with_the_largest(folder: Path) -> None:
    table.append(folder, numbers(5, 1))
    table.append(folder, numbers(9, 3))
    view = table.view(folder, Number).largest_first("value", "attempt")
    assert [row.value for row in view.rows()] == [9, 5, 3, 1]
    assert view.column("value").to_pylist() == [9, 5, 3, 1]
    assert [row.value for row in view.rows([1])] == [5]


def test_large_parts_are_not_merged_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = table.append(folder, numbers(*range(300)))
    monkeypatch.setattr(table, "_PART_BYTES", large.stat().st_size)
    for n in range(300, 304):
        table.append(folder, numbers(n))
    table.compact(folder)
    assert large in table.parts(folder)
    assert len(table.parts(folder)) == 2
    assert values(folder) == list(range(304))
