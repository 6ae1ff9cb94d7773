"""Run benchmarks and rewrite their rows in BENCHMARKS.md: `make bench`, `make bench ONLY=edges`."""

import datetime
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
DOCUMENT = HERE.parents[1] / "BENCHMARKS.md"
BEGIN, END = "<!-- begin: written by make bench -->", "<!-- end -->"
HEAD = [
    "| benchmark | what | against | figure | load | date, commit |",
    "|---|---|---|---|---|---|",
]


def hardware() -> str:
    """This machine in a few words."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return f"{os.cpu_count()} x {model}"


def measured(name: str, stamp: str) -> list[str]:
    """The rows of one benchmark, run now."""
    print(name, file=sys.stderr, flush=True)
    module = [sys.executable, "-m", f"tests.benchmarks.bench_{name}"]
    done = subprocess.run(module, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    return [
        f"| {' | '.join(map(str, (name, what, against, figure, found['load'][0], stamp)))} |"
        for what, against, figure in found["rows"]
    ]


def main(only: list[str]) -> None:
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=HERE
    ).stdout.strip()
    stamp = f"{datetime.datetime.now(tz=datetime.UTC).date().isoformat()}, {commit}"
    names = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
    new = {name: measured(name, stamp) for name in only or names}
    # Read only now: a person may have written in it meanwhile.
    before, rest = DOCUMENT.read_text().split(BEGIN)
    known, after = rest.split(END)
    lines = []
    for name in names:
        old = [line for line in known.splitlines() if line.startswith(f"| {name} |")]
        lines += new.get(name, old)
    content = "\n".join([f"{hardware()}, `make bench`", "", *HEAD, *lines])
    DOCUMENT.write_text(f"{before}{BEGIN}\n{content}\n{END}{after}")


if __name__ == "__main__":
    main(sys.argv[1:])
