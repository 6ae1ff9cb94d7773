"""Each row ends in the table exactly once, with a verdict, whatever happens to the work."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from openreel.pipeline import table
from openreel.pipeline.clip import Row, Verdict
from openreel.pipeline.errors import InputError, MediaError
from openreel.pipeline.runs import runs
from openreel.pipeline.stage import WORKER_LOST, Stage, run_stage

pytestmark = pytest.mark.usefixtures("ray_local")


@dataclass(frozen=True, kw_only=True)
class Number(Row):
    key: str
    value: int


@dataclass(frozen=True, kw_only=True)
class Square(Verdict):
    key: str
    value: int
    square: int
    found_by: str


def rows(count: int) -> list[Number]:
    return [Number(key=f"{n:04d}", value=n) for n in range(count)]


def build(calls: Path, bad: frozenset[int] = frozenset()) -> Callable[[Number], Square]:
    """A row function that leaves a trace of each build and each call."""
    calls.mkdir(parents=True, exist_ok=True)
    (calls / f"build-{os.getpid()}-{time.monotonic_ns()}").touch()

    def square(row: Number) -> Square:
        (calls / f"call-{row.value}-{time.monotonic_ns()}").touch()
        if row.value == 3:
            raise MediaError("three is\nno medium")
        if row.value in bad:
            raise ZeroDivisionError("bad luck")
        return Square(key=row.key, value=row.value, square=row.value**2, found_by="us")

    return square


def stage(calls: Path, **fields: object) -> Stage[Number, Square]:
    known: dict[str, object] = {
        "name": "squares",
        "key": "key",
        "record": Square,
        "fingerprint": {"power": 2},
        "build": partial(build, calls),
        "num_cpus": 1.0,
    }
    return Stage(**{**known, **fields})  # type: ignore[arg-type]


def verdicts(folder: Path) -> dict[str, Square]:
    return {row.key: row for row in table.read(folder, Square)}


def traces(calls: Path, kind: str) -> int:
    return len(list(calls.glob(f"{kind}-*")))


@pytest.fixture(autouse=True)
def by_value() -> None:
    """Workers do not find test modules by name."""
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.mark.parametrize("holds_model", [False, True], ids=["tasks", "actors"])
def test_every_row_gets_its_verdict(holds_model: bool, tmp_path: Path) -> None:
    heard: dict[str, str] = {}
    squares = stage(
        tmp_path / "calls",
        holds_model=holds_model,
        rows_per_block=3,
        commit_block=True,
        build=partial(build, tmp_path / "calls", frozenset({5})),
    )
    run_stage(squares, rows(10), tmp_path / "t", on_row=heard.__setitem__)
    out = {row.value: row for row in table.read(tmp_path / "t", Square)}
    assert sorted(out) == list(range(10))
    assert Counter(heard.values()) == {"ok": 8, "rejected": 1, "failed": 1}
    assert heard == {row.key: row.status for row in out.values()}
    assert (out[4].square, out[4].status, out[4].stage) == (16, "ok", "squares")
    # A tombstone keeps what the input knew and leaves the rest empty.
    assert out[3] == Square(
        key="0003",
        value=3,
        square=0,
        found_by="",
        status="rejected",
        stage="squares",
        reason="three is no medium",
        version=out[4].version,
    )
    assert (out[5].status, out[5].reason) == ("failed", "ZeroDivisionError: bad luck")
    assert len(table.parts(tmp_path / "t")) == 1
    builds = traces(tmp_path / "calls", "build")
    assert builds <= 2 if holds_model else builds == 4


def test_a_second_run_does_nothing_and_new_rows_are_added(tmp_path: Path) -> None:
    squares = stage(tmp_path / "calls", rows_per_block=4)
    run_stage(squares, rows(6), tmp_path / "t")
    before = table.read(tmp_path / "t", Square)
    run_stage(squares, rows(6), tmp_path / "t")
    assert traces(tmp_path / "calls", "call") == 6
    run_stage(squares, rows(8), tmp_path / "t")
    assert traces(tmp_path / "calls", "call") == 8
    after = table.read(tmp_path / "t", Square)
    assert after[:6] == before
    assert len(after) == 8


def test_work_is_handed_out_in_windows_and_each_run_leaves_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openreel.pipeline.stage._WINDOW", 4)
    squares = stage(tmp_path / "calls", rows_per_block=2)
    run_stage(squares, rows(9), tmp_path / "t")
    run_stage(squares, rows(9), tmp_path / "t")
    assert [row.value for row in table.read(tmp_path / "t", Square)] == list(range(9))
    assert traces(tmp_path / "calls", "call") == 9
    (line,) = runs(tmp_path / "t")
    assert (line["rows"], line["ok"], line["rejected"]) == (9, 8, 1)
    assert line["version"] == table.read(tmp_path / "t", Square)[0].version
    assert "ray" in line["tools"]


def test_a_table_feeds_the_next_stage(tmp_path: Path) -> None:
    run_stage(stage(tmp_path / "calls"), rows(6), tmp_path / "t")
    again = stage(tmp_path / "again", name="again")
    usable = table.view(tmp_path / "t", Square).having("ok")
    run_stage(again, usable, tmp_path / "u")
    assert [row.value for row in table.read(tmp_path / "u", Square)] == [0, 1, 2, 4, 5]


def test_failed_rows_are_tried_again_only_when_asked_and_not_for_ever(tmp_path: Path) -> None:
    unlucky = stage(tmp_path / "calls", build=partial(build, tmp_path / "calls", frozenset({1})))
    run_stage(unlucky, rows(4), tmp_path / "t")
    run_stage(unlucky, rows(4), tmp_path / "t")
    assert traces(tmp_path / "calls", "call-1") == 1
    for expected in (2, 3, 3):
        run_stage(unlucky, rows(4), tmp_path / "t", retry_failed=True, max_attempts=3)
        assert verdicts(tmp_path / "t")["0001"].attempt == expected
    assert traces(tmp_path / "calls", "call-3") == 1  # rejected is final
    run_stage(stage(tmp_path / "calls"), rows(4), tmp_path / "t", retry_failed=True, max_attempts=4)
    assert verdicts(tmp_path / "t")["0001"].status == "ok"


def test_another_fingerprint_is_refused(tmp_path: Path) -> None:
    run_stage(stage(tmp_path / "calls"), rows(1), tmp_path / "t")
    other = stage(tmp_path / "calls", fingerprint={"power": 3})
    with pytest.raises(InputError, match=r"'fingerprint.power': 3.*'fingerprint.power': 2"):
        run_stage(other, rows(1), tmp_path / "t")


def test_repeated_keys_are_refused_before_any_work(tmp_path: Path) -> None:
    twice = [Number(key="k", value=1), Number(key="k", value=2)]
    with pytest.raises(InputError, match=r"k twice"):
        run_stage(stage(tmp_path / "calls"), twice, tmp_path / "t")
    assert not (tmp_path / "calls").exists()


@pytest.mark.parametrize("holds_model", [False, True], ids=["tasks", "actors"])
def test_an_error_while_building_is_the_users_to_see(holds_model: bool, tmp_path: Path) -> None:
    def no_weights() -> Callable[[Number], Square]:
        raise InputError("captioner", "/none", "a folder with weights")

    broken = stage(tmp_path / "calls", build=no_weights, holds_model=holds_model)
    with pytest.raises(InputError, match="captioner: got '/none'; accepted: a folder with weights"):
        run_stage(broken, rows(2), tmp_path / "t")
    assert table.read(tmp_path / "t", Square) == []
    run_stage(stage(tmp_path / "calls"), rows(2), tmp_path / "t")
    assert len(table.read(tmp_path / "t", Square)) == 2


def deadly(calls: Path) -> Callable[[Number], Square]:
    square = build(calls)

    def maybe_die(row: Number) -> Square:
        out = square(row)
        if row.value == 2:
            os._exit(139)
        return out

    return maybe_die


@pytest.mark.slow
@pytest.mark.parametrize("holds_model", [False, True], ids=["tasks", "actors"])
def test_a_row_that_kills_its_worker_is_buried_and_the_others_live(
    holds_model: bool, tmp_path: Path
) -> None:
    calls = tmp_path / "calls"
    squares = stage(calls, build=partial(deadly, calls), holds_model=holds_model)
    run_stage(squares, rows(6), tmp_path / "t")
    out = {row.value: row for row in table.read(tmp_path / "t", Square)}
    assert {value: row.status for value, row in out.items() if row.status != "ok"} == {
        2: "failed",
        3: "rejected",
    }
    assert out[2].reason == WORKER_LOST
    assert 2 <= traces(calls, "call-2") <= 4  # with its block, then alone, each with one retry
    assert all(row.status == "ok" for value, row in out.items() if value not in (2, 3))


def test_a_lost_worker_costs_the_row_in_its_hands_and_no_other(tmp_path: Path) -> None:
    # Sixteen rows are two blocks for each of two workers, and the deadly one lies within one.
    calls = tmp_path / "calls"
    squares = stage(calls, build=partial(deadly, calls), rows_per_block=4)
    run_stage(squares, rows(32), tmp_path / "t")
    assert len(table.read(tmp_path / "t", Square)) == 32
    assert all(traces(calls, f"call-{n}") == 1 for n in range(32) if n != 2)
    assert traces(calls, "call-2") == 3


def test_a_row_that_was_committed_is_not_buried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The worker died after the commit of row 0 and before its news, and before row 1.
    done = Square(key="0000", value=0, square=0, found_by="us", stage="squares")
    tried = []

    def run(
        _: Stage[Number, Square], jobs: list[object], folder: Path, alone: bool
    ) -> Iterator[None]:
        table.append(folder, [done])
        tried.append((len(jobs), alone))
        yield from ()

    monkeypatch.setattr("openreel.pipeline.stage._run", run)
    run_stage(stage(tmp_path / "calls"), rows(2), tmp_path / "t")
    kept, buried = table.read(tmp_path / "t", Square)
    assert kept == done
    assert (buried.status, buried.reason) == ("failed", WORKER_LOST)
    assert tried == [(2, False), (1, True), (1, True)]


DRIVER = """
import sys, time
from dataclasses import dataclass
from pathlib import Path
from openreel.pipeline.clip import Row, Verdict
from openreel.pipeline.cluster import start_ray
from openreel.pipeline.stage import Stage, run_stage

@dataclass(frozen=True, kw_only=True)
class Number(Row):
    key: str
    value: int

@dataclass(frozen=True, kw_only=True)
class Square(Verdict):
    key: str
    value: int
    square: int = 0
    found_by: str = ""

def build():
    def square(row):
        time.sleep(0.15)
        if row.value % 7 == 3:
            raise ValueError("odd one out")
        return Square(key=row.key, value=row.value, square=row.value**2)
    return square

stage = Stage(name="squares", key="key", record=Square, fingerprint={}, build=build)
start_ray(num_cpus=2)
rows = [Number(key=f"{n:04d}", value=n) for n in range(40)]
run_stage(stage, rows, Path(sys.argv[1]), on_row=lambda key, status: print(key, flush=True))
"""


@pytest.mark.slow
def test_a_killed_driver_loses_nothing_and_repeats_little(tmp_path: Path) -> None:
    folder = tmp_path / "t"
    argv = [sys.executable, "-c", DRIVER, str(folder)]
    killed = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert killed.stdout is not None
    first = [killed.stdout.readline().strip() for _ in range(12)]
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    known = set(table.view(folder, Verdict).keys.to_pylist())
    assert set(first) <= known
    assert len(known) < 40  # it was killed in the middle
    again = subprocess.run(argv, capture_output=True, text=True, check=True)
    redone = again.stdout.split()
    assert not set(first) & set(redone)
    out = table.read(folder, Square)
    assert [row.value for row in out] == list(range(40))
    assert all((row.status == "failed") == (row.value % 7 == 3) for row in out)
    assert all(row.square == row.value**2 for row in out if row.status == "ok")
