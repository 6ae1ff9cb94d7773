"""Run every benchmark and rewrite the table in BENCHMARKS.md: `make bench`."""

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


def hardware() -> str:
    """This machine in a few words."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return f"{os.cpu_count()} x {model}"


def main() -> None:
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=HERE
    ).stdout.strip()
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    lines = [
        f"{today}, commit {commit}, {hardware()}, `make bench`",
        "",
        "| benchmark | what | against | figure | load |",
        "|---|---|---|---|---|",
    ]
    for path in sorted(HERE.glob("bench_*.py")):
        module = f"tests.benchmarks.{path.stem}"
        print(module, file=sys.stderr, flush=True)
        done = subprocess.run(
            [sys.executable, "-m", module], stdout=subprocess.PIPE, text=True, check=True
        )
        found = json.loads(done.stdout.splitlines()[-1])
        for what, against, figure in found["rows"]:
            cells = (found["benchmark"], what, against, figure, found["load"][0])
            lines.append(f"| {' | '.join(map(str, cells))} |")
    text = DOCUMENT.read_text()
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    DOCUMENT.write_text(f"{before}{BEGIN}\n{chr(10).join(lines)}\n{END}{after}")


if __name__ == "__main__":
    main()
