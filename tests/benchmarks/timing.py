"""Fair timing: candidates take turns within one run; figures are ratios of medians."""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any


def interleaved(candidates: Mapping[str, Callable[[], Any]], repeats: int = 5) -> dict[str, float]:
    """Median seconds of each candidate; one turn each per round, the first round not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(repeats + 1):
        for name, run in candidates.items():
            start = time.perf_counter()
            run()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def report(benchmark: str, rows: list[tuple[str, str, str]]) -> None:
    """End a benchmark: one JSON line with (what, against, figure) rows and the machine's load."""
    load = [round(x, 1) for x in os.getloadavg()]
    line = {"benchmark": benchmark, "load": load, "rows": rows, "python": sys.version.split()[0]}
    print(json.dumps(line))
