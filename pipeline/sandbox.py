"""Run another program on bytes that nobody vouches for, and survive whatever it does.

The child has a session of its own, limits on memory, processor and wall time, and no standard input
unless it is given one. Leaving the block by any way (the end, an error, Ctrl-C, an abandoned
generator) leaves no process behind.
"""

import contextlib
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO

from openreel.pipeline.errors import InputError

# The limits are set by a shell that then becomes the program: setting them in Python between fork
# and exec is unsafe in a process with threads. macOS knows no limit on memory (-v).
_LIMITED = 'ulimit -v "$1" 2>/dev/null; ulimit -t "$2" && shift 2 && exec "$@"'
_TAIL_BYTES = 4096
_ADDRESS = re.compile(r" @ 0x[0-9a-f]+")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one file may cost before it is given up."""

    wall_s: float = 1800.0
    """seconds by the clock, for one child"""
    cpu_s: int = 1800
    """seconds of processor time, for one child"""
    memory_bytes: int = 4 << 30
    """address space of one child"""
    max_pixels: int = 8192 * 4320
    """width x height of a frame"""
    max_frames: int = 1_000_000
    max_duration_s: float = 2 * 3600.0

    def __post_init__(self) -> None:
        for field, value in vars(self).items():
            if not value > 0:
                raise InputError(f"limits.{field}", value, "a number above 0")


class ChildError(RuntimeError):
    """A child that did not end well. killed: by a limit or a signal, not by its own verdict."""

    def __init__(self, reason: str, *, killed: bool) -> None:
        self.reason = reason
        self.killed = killed
        super().__init__(reason)

    def __reduce__(self) -> tuple[object, ...]:
        return (_child_error, (self.reason, self.killed))


def _child_error(reason: str, killed: bool) -> ChildError:
    return ChildError(reason, killed=killed)


@contextlib.contextmanager
def child(
    argv: Sequence[str], limits: Limits, *, stdin: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    """Run argv for the length of the block; read its .stdout, or write to its .stdin.

    When the block ends the child's end is awaited. Raises ChildError if it fails, is killed by a
    limit, or closes its input early; the reason holds a line of its stderr.
    """
    limited = ["sh", "-c", _LIMITED, "limited", str(limits.memory_bytes >> 10), str(limits.cpu_s)]
    process = subprocess.Popen(
        [*limited, *argv],
        stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    overdue = threading.Event()
    alarm = threading.Timer(limits.wall_s, _kill, (process, overdue))
    tail = bytearray()
    assert process.stderr is not None
    reader = threading.Thread(target=_keep_tail, args=(process.stderr, tail), daemon=True)
    alarm.start()
    reader.start()
    broken_pipe = False
    try:
        try:
            yield process
            if process.stdin is not None:
                process.stdin.close()
        except BrokenPipeError:
            broken_pipe = True
        process.wait()
        reader.join()
    finally:
        alarm.cancel()
        _kill(process)
        process.wait()
        reader.join()
        _close(process)
    if overdue.is_set():
        raise ChildError(f"stopped after {limits.wall_s:g} s", killed=True)
    if process.returncode != 0 or broken_pipe:
        raise ChildError(_reason(process.returncode, bytes(tail)), killed=process.returncode < 0)


def run(argv: Sequence[str], limits: Limits) -> bytes:
    """What argv writes to its standard output. Raises ChildError as child does."""
    with child(argv, limits) as process:
        assert process.stdout is not None
        output = process.stdout.read()
    return output


def _kill(process: subprocess.Popen[bytes], overdue: threading.Event | None = None) -> None:
    """Kill the whole group, unless its leader has ended."""
    if process.poll() is None:
        if overdue is not None:
            overdue.set()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _close(process: subprocess.Popen[bytes]) -> None:
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with contextlib.suppress(BrokenPipeError):  # what was never flushed to a dead child
                stream.close()


def _keep_tail(stream: IO[bytes], tail: bytearray) -> None:
    """Drain a stream, so that the child never blocks on it, and keep its end."""
    while chunk := os.read(stream.fileno(), 65536):
        tail += chunk
        del tail[:-_TAIL_BYTES]


def _reason(returncode: int, tail: bytes) -> str:
    """One line: how it ended, and its complaint. ffmpeg names the cause first, Python last."""
    text = _ADDRESS.sub("", tail.decode(errors="replace"))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = ""
    if lines:
        said = ": " + lines[-1 if lines[0].startswith("Traceback") else 0][:300]
    if returncode < 0:
        return f"killed by {signal.Signals(-returncode).name}{said}"
    return f"exit status {returncode}{said}"
