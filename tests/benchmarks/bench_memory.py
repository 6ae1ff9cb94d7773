"""Peak memory of curating one file, by the file's size: all processes and the object store.

The same second of film is repeated without re-encoding, so that only the length differs; clips are
copied out. Memory is what all of the run's processes hold at once, what they share counted once
where the kernel tells it.
"""

import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import psutil

from openreel.pipeline.media import ffmpeg_program
from tests.benchmarks.timing import report

SIZES = (10 << 20, 200 << 20, 2 << 30)
_SAMPLE_S = 0.1


def second_of_film(path: Path) -> Path:
    """Noise over a test card, 720p, encoded with hardly any loss."""
    argv = [ffmpeg_program(), "-y", "-nostdin", "-loglevel", "error", "-f", "lavfi"]
    argv += ["-i", "testsrc2=size=1280x720:rate=30,noise=alls=40:allf=t", "-t", "1"]
    argv += ["-c:v", "libx264", "-preset", "ultrafast", "-qp", "8", "-pix_fmt", "yuv420p"]
    subprocess.run([*argv, str(path)], check=True)
    return path


def repeated(second: Path, path: Path, num_bytes: int) -> Path:
    times = max(1, round(num_bytes / second.stat().st_size))
    argv = [ffmpeg_program(), "-y", "-nostdin", "-loglevel", "error", "-stream_loop"]
    argv += [str(times - 1), "-i", str(second), "-c", "copy", str(path)]
    subprocess.run(argv, check=True)
    return path


def held(process: psutil.Process) -> int:
    """Bytes that a process and all below it hold."""
    total = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            memory = one.memory_full_info()
            total += getattr(memory, "pss", 0) or memory.rss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total


def peak(film: Path, dataset: Path) -> int:
    """Bytes, at most, in a whole run of `openreel curate`."""
    program = Path(sys.executable).with_name("openreel")
    argv = [str(program), "curate", str(film), "-o", str(dataset)]
    argv += ["--copies.enabled", "--copies.encode.preset", "ultrafast"]
    run = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    most, done = 0, threading.Event()

    def watch() -> None:
        nonlocal most
        process = psutil.Process(run.pid)
        while not done.wait(_SAMPLE_S):
            most = max(most, held(process))

    watcher = threading.Thread(target=watch)
    watcher.start()
    status = run.wait()
    done.set()
    watcher.join()
    assert status == 0, status
    return most


def main() -> None:
    peaks = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        second = second_of_film(folder / "second.mp4")
        for size in SIZES:
            film = repeated(second, folder / "film.mp4", size)
            peaks[film.stat().st_size] = peak(film, folder / f"dataset-{size}")
            print(film.stat().st_size >> 20, peaks[film.stat().st_size] >> 20, file=sys.stderr)
    least = peaks[min(peaks)]
    rows = [
        (
            f"peak memory for one file of {size >> 20} MiB",
            f"{min(peaks) >> 20} MiB",
            f"{held / 2**20:.0f} MiB ({held / least:.2f}x)",
        )
        for size, held in peaks.items()
    ]
    report("memory", rows)


if __name__ == "__main__":
    main()
