"""A child cannot outlive, outgrow or block its caller."""

import os
import sys
import time
from pathlib import Path

import pytest

from openreel.pipeline.errors import InputError
from openreel.pipeline.sandbox import ChildError, Limits, child, run

PYTHON = sys.executable


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def gone(pid: int) -> bool:
    """Wait a little for a process that was killed to disappear."""
    for _ in range(100):
        if not alive(pid):
            return True
        time.sleep(0.02)
    return False


def test_output_comes_back_and_input_is_empty() -> None:
    assert run(["sh", "-c", "cat; echo end"], Limits()) == b"end\n"


def test_a_failing_child_says_why() -> None:
    with pytest.raises(ChildError, match="exit status 3: no such codec") as caught:
        run(["sh", "-c", "echo no such codec >&2; echo other >&2; exit 3"], Limits())
    assert not caught.value.killed


def test_the_clock_kills_the_whole_group() -> None:
    script = "sleep 600 & echo $!; wait"
    running = child(["sh", "-c", script], Limits(wall_s=0.5))
    process = running.__enter__()
    assert process.stdout is not None
    grandchild = int(process.stdout.readline())
    assert alive(grandchild)
    with pytest.raises(ChildError, match=r"stopped after 0.5 s") as caught:
        running.__exit__(None, None, None)
    assert caught.value.killed
    assert gone(grandchild)
    assert gone(process.pid)


def test_memory_is_limited() -> None:
    argv = [PYTHON, "-c", "bytearray(3 << 30)"]
    run(argv, Limits())  # possible where the limit is larger
    with pytest.raises(ChildError, match="MemoryError"):
        run(argv, Limits(memory_bytes=1 << 30))


def test_processor_time_is_limited() -> None:
    with pytest.raises(ChildError) as caught:
        run(["sh", "-c", "while :; do :; done"], Limits(cpu_s=1, wall_s=60))
    assert caught.value.killed
    assert "killed by" in caught.value.reason


def test_an_interrupt_leaves_no_process() -> None:
    with pytest.raises(KeyboardInterrupt), child(["sleep", "600"], Limits()) as process:
        raise KeyboardInterrupt
    assert gone(process.pid)


def test_a_child_that_stops_reading_is_an_error_not_a_hang() -> None:
    def feed() -> None:
        with child(["sh", "-c", "echo full >&2; exit 7"], Limits(), stdin=True) as process:
            assert process.stdin is not None
            while True:
                process.stdin.write(bytes(1 << 16))

    with pytest.raises(ChildError, match="exit status 7: full"):
        feed()


def test_a_flood_of_complaints_does_not_block_the_child() -> None:
    script = "import sys; sys.stderr.write('x' * (1 << 22)); print('done')"
    assert run([PYTHON, "-c", script], Limits()) == b"done\n"


def test_file_descriptors_are_given_back() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        run(["true"], Limits())
    assert len(os.listdir("/proc/self/fd")) <= before


def test_limits_are_validated() -> None:
    with pytest.raises(InputError, match=r"limits.cpu_s: got 0; accepted: a number above 0"):
        Limits(cpu_s=0)
