"""Wall time of curation with copies against bare ffmpeg on identical spans, two at a time.

The real test media, each remuxed a few times so that its bytes differ. Those of 720 lines and more
make at least five minutes of encoding; the smaller ones cost little to encode and as much to open,
and are told apart. Ray's start is part of openreel's time and is also told alone.
"""

import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

from openreel.pipeline import table
from openreel.pipeline.clip import Clip, Copy
from openreel.pipeline.copies import CopyConfig
from openreel.pipeline.curate import CLIPS, COPIES, SOURCES, VIDEOS, CurateConfig
from openreel.pipeline.duplicates import DuplicateConfig
from openreel.pipeline.errors import MediaError
from openreel.pipeline.media import ffmpeg_program
from openreel.pipeline.probe import probe
from openreel.pipeline.runs import runs
from openreel.pipeline.transcode import TranscodeConfig
from tests.benchmarks.timing import report

MEDIA = Path(os.environ.get("OPENREEL_TEST_MEDIA", "../shared/media")) / "video"
ENCODE = TranscodeConfig()
LARGE_EACH = int(os.environ.get("OPENREEL_BENCH_REPEATS", "5"))
SMALL_EACH = 2
CONFIG = CurateConfig(
    duplicates=DuplicateConfig(perceptual=False), copies=CopyConfig(enabled=True, encode=ENCODE)
)


def films(large: bool) -> list[Path]:
    """The media's good films of one size."""
    found = []
    for path in sorted(p for p in MEDIA.iterdir() if p.suffix != ".gif"):
        try:
            info = probe(path)
        except MediaError:
            continue
        if (min(info.width, info.height) >= 720) == large:
            found.append(path)
    return found


def remuxed(originals: Sequence[Path], repeats: int, folder: Path) -> list[Path]:
    """The same films several times, each with other bytes."""
    folder.mkdir()
    made = []
    for path, turn in itertools.product(originals, range(repeats)):
        film = folder / f"{path.stem}-{turn}.mkv"
        argv = [ffmpeg_program(), "-y", "-nostdin", "-loglevel", "quiet", "-i", str(path)]
        argv += ["-map", "0:V:0", "-c", "copy", "-metadata", f"comment={turn}", str(film)]
        if subprocess.run(argv).returncode == 0:
            made.append(film)
        else:
            film.unlink(missing_ok=True)
    return made


def bare(clip: Clip, target: Path) -> None:
    """One clip, as a person would write the command."""
    time_base = Fraction(clip.time_base)
    start, end = float(clip.start_pts * time_base), float(clip.end_pts * time_base)
    argv = [ffmpeg_program(), "-y", "-nostdin", "-loglevel", "quiet", "-threads", "1"]
    argv += [
        "-seek_timestamp",
        "1",
        "-ss",
        f"{start:.6f}",
        "-i",
        clip.uri,
        "-t",
        f"{end - start:.6f}",
        "-map",
        "0:V:0",
    ]
    argv += ["-c:v", "libx264", "-crf", str(ENCODE.crf), "-preset", ENCODE.preset]
    even = clip.width % 2 == 0 and clip.height % 2 == 0
    argv += ["-g", str(ENCODE.key_frames), "-threads", "1", "-filter_threads", "1"]
    argv += ["-pix_fmt", "yuv420p" if even else "yuv444p", "-fps_mode", "passthrough"]
    subprocess.run([*argv, str(target)], check=True)


def bare_time(clips: Sequence[Clip], folder: Path) -> float:
    start = time.perf_counter()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda clip: bare(clip, folder / f"{clip.clip_id}.mp4"), clips))
    return time.perf_counter() - start


def curate_time(films: Sequence[Path], dataset: Path) -> tuple[float, float]:
    """Seconds of a whole run, and of Ray's start in it."""
    code = (
        "import sys, time; from pathlib import Path\n"
        "from openreel.pipeline.cluster import start_ray\n"
        "from openreel.pipeline.curate import curate\n"
        "from tests.benchmarks.bench_curate import CONFIG\n"
        "start = time.perf_counter(); start_ray(); print(time.perf_counter() - start)\n"
        "curate([Path(p) for p in sys.argv[2:]], Path(sys.argv[1]), CONFIG)\n"
    )
    start = time.perf_counter()
    argv = [sys.executable, "-c", code, str(dataset), *map(str, films)]
    run = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start, float(run.stdout)


def compared(large: bool, folder: Path) -> tuple[str, str, str]:
    """Both on the films of one size, one after the other: a row of the report."""
    folder.mkdir()
    some = remuxed(films(large), LARGE_EACH if large else SMALL_EACH, folder / "films")
    dataset = folder / "dataset"
    ours, start = curate_time(some, dataset)
    clips = [clip for clip in table.usable(dataset / CLIPS, Clip) if clip.kind == "video"]
    made = len(table.view(dataset / COPIES, Copy).having("ok"))
    stages = {name: runs(dataset / name)[0]["seconds"] for name in (SOURCES, VIDEOS, CLIPS, COPIES)}
    (folder / "bare").mkdir()
    theirs = bare_time(clips, folder / "bare")
    seconds = sum(clip.num_frames / clip.fps for clip in clips)
    print(f"openreel {ours:.1f} s {stages}; bare {theirs:.1f} s", file=sys.stderr)
    size = "720 lines and more" if large else "fewer lines"
    return (
        f"wall time, {made} of {len(clips)} clips ({seconds:.0f} s) of {size} copied",
        f"bare ffmpeg, two at a time ({theirs:.0f} s)",
        f"{ours / theirs:.3f}x ({(ours - start) / theirs:.3f}x without Ray, {start:.1f} s)",
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        report("curate", [compared(large, Path(name) / str(large)) for large in (True, False)])


if __name__ == "__main__":
    main()
