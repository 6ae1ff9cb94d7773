"""Wall time of curation with copies against bare ffmpeg on identical spans, two at a time.

The real test media, each remuxed a few times so that its bytes differ, make at least five minutes
of encoding. Halves are taken in the order ffmpeg, openreel, openreel, ffmpeg. Ray's start is part
of openreel's time and is also told alone.
"""

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
from openreel.pipeline.clip import Clip
from openreel.pipeline.copies import CopyConfig
from openreel.pipeline.curate import CLIPS, COPIES, CurateConfig, curate
from openreel.pipeline.duplicates import DuplicateConfig
from openreel.pipeline.media import ffmpeg_program
from openreel.pipeline.runs import runs
from openreel.pipeline.transcode import TranscodeConfig
from tests.benchmarks.timing import report

MEDIA = Path(os.environ.get("OPENREEL_TEST_MEDIA", "../shared/media")) / "video"
ENCODE = TranscodeConfig()
COPIES_EACH = int(os.environ.get("OPENREEL_BENCH_REPEATS", "2"))
# What goes through MP4 without re-encoding and is no fault on purpose.
SUFFIXES = {".mp4", ".mov"}
CONFIG = CurateConfig(
    duplicates=DuplicateConfig(perceptual=False), copies=CopyConfig(enabled=True, encode=ENCODE)
)


def remuxed(folder: Path) -> list[Path]:
    """The media's good films, each several times with other bytes."""
    films = []
    for path in sorted(p for p in MEDIA.iterdir() if p.suffix in SUFFIXES):
        for turn in range(COPIES_EACH):
            film = folder / f"{path.stem}-{turn}{path.suffix}"
            argv = [ffmpeg_program(), "-y", "-nostdin", "-loglevel", "quiet", "-i", str(path)]
            argv += ["-map", "0:V:0", "-c", "copy", "-metadata", f"comment={turn}", str(film)]
            if subprocess.run(argv).returncode == 0:
                films.append(film)
            else:
                film.unlink(missing_ok=True)
    return films


def bare(clip: Clip, target: Path) -> None:
    """One clip, as a person would write the command."""
    time_base = Fraction(clip.time_base)
    start, end = float(clip.start_pts * time_base), float(clip.end_pts * time_base)
    argv = [ffmpeg_program(), "-y", "-nostdin", "-loglevel", "error", "-threads", "1"]
    argv += ["-ss", f"{start:.6f}", "-i", clip.uri, "-t", f"{end - start:.6f}", "-map", "0:V:0"]
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


def spans(films: Sequence[Path], dataset: Path) -> list[Clip]:
    """The clips that will be copied, by a curation without copies."""
    curate(films, dataset, CurateConfig(duplicates=DuplicateConfig(perceptual=False)))
    return [clip for clip in table.usable(dataset / CLIPS, Clip) if clip.kind == "video"]


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        films = remuxed(folder)
        halves = films[::2], films[1::2]
        clips = [spans(half, folder / f"spans-{i}") for i, half in enumerate(halves)]
        import ray

        ray.shutdown()
        ours, rays, theirs = 0.0, 0.0, 0.0
        for i, order in enumerate((("bare", "ours"), ("ours", "bare"))):
            for who in order:
                if who == "bare":
                    (folder / f"bare-{i}").mkdir()
                    theirs += bare_time(clips[i], folder / f"bare-{i}")
                else:
                    seconds, start = curate_time(halves[i], folder / f"ours-{i}")
                    ours, rays = ours + seconds, rays + start
            print(f"half {i}: bare {theirs:.1f} s, openreel {ours:.1f} s", file=sys.stderr)
        made = [len(table.view(folder / f"ours-{i}" / COPIES, Clip)) for i in range(2)]
        for i in range(2):
            for stage in ("sources", "videos", "clips", "copies"):
                for run in runs(folder / f"ours-{i}" / stage):
                    print(f"half {i} {stage:8} {run['seconds']:.1f} s", file=sys.stderr)
    report(
        "curate",
        [
            (
                f"wall time, {sum(made)} clips of {len(films)} files copied",
                f"bare ffmpeg, two at a time ({theirs:.0f} s)",
                f"{ours / theirs:.3f}x ({(ours - rays) / theirs:.3f}x without Ray's start, "
                f"{rays / 2:.1f} s)",
            )
        ],
    )


if __name__ == "__main__":
    main()
