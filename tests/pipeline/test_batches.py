"""Rows in batches: each gets what it would get alone, whatever becomes of its neighbours."""

import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from openreel.pipeline import table
from openreel.pipeline.batches import Batched, in_batches
from openreel.pipeline.clip import Row, Verdict
from openreel.pipeline.errors import MediaError
from openreel.pipeline.stage import WORKER_LOST, Stage, run_stage


@dataclass(frozen=True, kw_only=True)
class Word(Row):
    key: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Shout(Verdict):
    key: str
    text: str = ""


def words(*texts: str) -> list[Word]:
    return [Word(key=f"{i:03d}", text=text) for i, text in enumerate(texts)]


def read(row: Word) -> str:
    if row.text == "unreadable":
        raise MediaError("no letters")
    return row.text.upper()


def work(some: Sequence[tuple[Word, str]], calls: list[list[str]]) -> list[Shout]:
    calls.append([text for _, text in some])
    if any(text == "BAD" for _, text in some):
        raise ZeroDivisionError("bad luck")
    return [Shout(key=row.key, text=f"{text}!") for row, text in some]


def shouting(calls: list[list[str]]) -> Batched[Word, Shout]:
    return Batched(read=read, work=partial(work, calls=calls), length=lambda row: len(row.text))


def test_what_goes_wrong_with_a_row_stays_with_it() -> None:
    rows = words("a", "bad", "cc", "unreadable", "dd", "e")
    calls: list[list[str]] = []
    found = dict(one for some in in_batches(shouting(calls), rows, 3) for one in some)
    assert isinstance(found[1], ZeroDivisionError)
    assert isinstance(found[3], MediaError)
    told = {i: out.text for i, out in found.items() if isinstance(out, Shout)}
    assert told == {0: "A!", 2: "CC!", 4: "DD!", 5: "E!"}
    # The longest come first, a failed batch is done again alone, and a good one is not.
    assert calls == [["BAD", "CC"], ["BAD"], ["CC"], ["DD", "A", "E"]]


@pytest.mark.parametrize(("count", "batch", "sizes"), [(0, 4, []), (1, 4, [1]), (9, 4, [3, 3, 3])])
def test_batches_are_evenly_full(count: int, batch: int, sizes: list[int]) -> None:
    found = list(in_batches(shouting([]), words(*"abcdefghi"[:count]), batch))
    assert [len(some) for some in found] == sizes


def test_too_few_outputs_are_an_error_of_each_row() -> None:
    short: Batched[Word, Shout] = Batched(read=read, work=lambda some: [], length=lambda row: 0)
    ((first, second),) = in_batches(short, words("a", "b"), 2)
    assert "0 outputs for 1 rows" in str(first[1])
    assert "0 outputs for 1 rows" in str(second[1])


def test_the_next_batch_is_read_while_one_is_worked_on() -> None:
    rows, reading = words(*"abcdef"), [threading.Event() for _ in range(6)]
    seen: list[list[bool]] = []

    def note(row: Word) -> int:
        reading[int(row.key)].set()
        return int(row.key)

    def wait(some: Sequence[tuple[Word, int]]) -> list[Shout]:
        # Would wait for ever if nothing were read ahead.
        ahead = [i + 2 for _, i in some if i + 2 < 6]
        assert all(reading[i].wait(timeout=30) for i in ahead)
        seen.append([event.is_set() for event in reading])
        return [Shout(key=row.key) for row, _ in some]

    function: Batched[Word, Shout] = Batched(read=note, work=wait, length=lambda row: 0)
    assert sum(len(some) for some in in_batches(function, rows, 2)) == 6
    assert seen[0] == [True] * 4 + [False] * 2, "one batch ahead and no further"


def in_worker(fatal: str) -> Batched[Word, Shout]:
    import os

    def deadly(some: Sequence[tuple[Word, str]]) -> list[Shout]:
        if any(row.text == fatal for row, _ in some):
            os._exit(139)
        return work(some, [])

    return Batched(read=read, work=deadly, length=lambda row: len(row.text))


@pytest.mark.usefixtures("ray_local")
@pytest.mark.parametrize("fatal", ["", pytest.param("kkk", marks=pytest.mark.slow)])
def test_on_a_stage_every_row_ends_in_the_table_once(fatal: str, tmp_path: Path) -> None:
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    rows = words("a", "bad", "c", "unreadable", "dd", "ff", "gg", "hh", "kkk", "ll", "m", "nn")
    heard: list[str] = []
    stage = Stage(
        name="shout",
        key="key",
        record=Shout,
        fingerprint={},
        build=partial(in_worker, fatal),
        holds_model=True,
        rows_per_block=6,
        batch=3,
        max_workers=1,
    )
    run_stage(stage, rows, tmp_path / "t", on_row=lambda key, status: heard.append(key))
    assert sorted(heard) == [row.key for row in rows]
    out = {row.key: row for row in table.read(tmp_path / "t", Shout)}
    assert len(out) == len(rows)
    expected = {"001": ("failed", "ZeroDivisionError: bad luck"), "003": ("rejected", "no letters")}
    if fatal:
        expected["008"] = ("failed", WORKER_LOST)
    assert {k: (r.status, r.reason) for k, r in out.items() if r.status != "ok"} == expected
    assert all(out[r.key].text == f"{r.text.upper()}!" for r in rows if r.key not in expected)
