"""SIGKILL at random moments, then the same command again: what is missing, twice, or done again.

`openreel curate` with copies is killed twenty times, by turns the driver and one of its workers,
anywhere between its start and its end. Every start of ffmpeg's encoder leaves a line, so that work
that was done again is counted too. Beside it a bare Ray Data pipeline with Ray's own checkpointing:
videos fan out into clips, are encoded and written, in one plan.
"""

import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil
import pyarrow.parquet as pq

from openreel.pipeline import table
from openreel.pipeline.clip import Clip, Copy
from openreel.pipeline.curate import CLIPS, COPIES
from openreel.pipeline.keyed import uniform
from openreel.pipeline.media import ffmpeg_program
from tests.benchmarks.timing import report

TRIALS = int(os.environ.get("OPENREEL_BENCH_TRIALS", "20"))
BARE_TRIALS = max(1, TRIALS // 6)
FILMS, SHOTS, SHOT_S = 8, 4, 1.6


def films(folder: Path) -> None:
    """Films of four plain shots each, all different."""
    folder.mkdir()
    for film in range(FILMS):
        inputs: list[str] = []
        for shot in range(SHOTS):
            colour = f"0x{(film * 31 + shot * 71) % 256:02x}{(shot * 97) % 256:02x}80"
            source = (
                f"testsrc2=size=320x180:rate=25:duration={SHOT_S},hue=h={film * 40 + shot * 90}"
            )
            inputs += ["-f", "lavfi", "-i", f"{source},drawbox=color={colour}:t=fill:w=200"]
        joined = f"concat=n={SHOTS}:v=1:a=0"
        argv = [ffmpeg_program(), "-y", "-nostdin", "-loglevel", "error", *inputs]
        argv += ["-filter_complex", joined, "-pix_fmt", "yuv420p", str(folder / f"{film}.mp4")]
        subprocess.run(argv, check=True)


def traced_ffmpeg(folder: Path, log: Path) -> dict[str, str]:
    """An environment whose ffmpeg leaves a line for each encoding it starts."""
    folder.mkdir()
    script = folder / "ffmpeg"
    real = ffmpeg_program()
    script.write_text(
        "#!/bin/sh\n"
        f'case "$*" in *libx264*) for last; do :; done; echo "$last" >> "{log}";; esac\n'
        f'exec "{real}" "$@"\n'
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}


def command(folder: Path, dataset: Path) -> list[str]:
    program = str(Path(sys.executable).with_name("openreel"))
    options = ["--copies.enabled", "--copies.encode.preset", "slow"]
    options += ["--duplicates.no-perceptual"]
    return [program, "curate", str(folder), "-o", str(dataset), *options]


def quiet(argv: list[str], environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    null = subprocess.DEVNULL
    return subprocess.Popen(
        argv, env=environment, stdin=null, stdout=null, stderr=null, start_new_session=True
    )


def kill_worker(process: "subprocess.Popen[bytes]", draw: float) -> bool:
    """Kill one of a run's workers; False if it has none just now."""
    try:
        below = psutil.Process(process.pid).children(recursive=True)
        workers = [p for p in below if (p.cmdline() or [""])[0].startswith("ray::")]
    except psutil.NoSuchProcess:
        return False
    if not workers:
        return False
    workers[int(draw * len(workers))].kill()
    return True


def sweep(process: "subprocess.Popen[bytes]") -> None:
    """What a killed driver leaves behind must not slow the next trial."""
    for one in psutil.process_iter(["cmdline"]):
        line = " ".join(one.info["cmdline"] or [])
        if "raylet" in line or "gcs_server" in line or line.startswith("ray::"):
            one.kill()


def rows(dataset: Path) -> dict[str, dict[str, tuple[str, str]]]:
    """Id -> what its row says, of the clips and of their copies."""
    clips = {c.clip_id: (c.status, c.reason) for c in table.read(dataset / CLIPS, Clip)}
    copies = {c.clip_id: (c.status, c.sha256) for c in table.read(dataset / COPIES, Copy)}
    return {CLIPS: clips, COPIES: copies}


def trial(number: int, folder: Path, media: Path, seconds: float) -> Counter[str]:
    """Kill one run, repeat it, and compare with the clean one."""
    place = folder / f"trial-{number}"
    place.mkdir()
    log, dataset = place / "log", place / "dataset"
    log.touch()
    environment = traced_ffmpeg(place / "bin", log)
    run = quiet(command(media, dataset), environment)
    time.sleep(seconds * (0.15 + 0.85 * uniform(0, "kill", number)))
    counts: Counter[str] = Counter()
    if number % 2:
        counts["workers killed"] += kill_worker(run, uniform(0, "worker", number))
        run.wait()
    else:
        counts["drivers killed"] += run.poll() is None
        run.send_signal(signal.SIGKILL)
        run.wait()
        sweep(run)
    again = quiet(command(media, dataset), environment)
    assert again.wait() == 0
    clean, found = rows(folder / "clean"), rows(dataset)
    for name in (CLIPS, COPIES):
        counts["missing"] += len(clean[name].keys() - found[name].keys())
        counts["different"] += sum(found[name].get(k) != v for k, v in clean[name].items())
        parts = [pq.read_table(p, columns=["clip_id"]) for p in table.parts(dataset / name)]
        stored = [key for part in parts for key in part["clip_id"].to_pylist()]
        counts["twice"] += len(stored) - len(set(stored))
    counts["encoded again"] += len(log.read_text().splitlines()) - len(clean[COPIES])
    return counts


BARE = """
import subprocess, sys
from pathlib import Path
import ray, ray.data
from ray.data.checkpoint import CheckpointConfig
from openreel.pipeline.cluster import start_ray
from openreel.pipeline.media import ffmpeg_program
media, folder = Path(sys.argv[1]), Path(sys.argv[2])
start_ray(num_cpus=2)
ray.data.DataContext.get_current().checkpoint_config = CheckpointConfig(
    id_column="path", checkpoint_path=str(folder / "checkpoint"), delete_checkpoint_on_success=False
)

def cut(row):
    return [{"path": row["path"], "shot": shot} for shot in range(4)]

def encode(row):
    name = f"{Path(row['path']).stem}-{row['shot']}.mp4"
    argv = [ffmpeg_program(), "-y", "-nostdin", "-loglevel", "error", "-ss", str(row["shot"] * 1.6)]
    argv += ["-i", row["path"], "-t", "1.6", "-c:v", "libx264", "-preset", "slow", "-threads", "1"]
    subprocess.run([*argv, str(folder / name)], check=True)
    return row

(
    ray.data.read_binary_files(str(media), include_paths=True, override_num_blocks=8)
    .select_columns(["path"])
    .flat_map(cut)
    .repartition(target_num_rows_per_block=1)
    .map(encode)
    .write_parquet(str(folder / "rows"))
)
"""


def bare_trial(number: int, folder: Path, media: Path, seconds: float) -> Counter[str]:
    """The same for Ray Data's own checkpointing."""
    place = folder / f"bare-{number}"
    place.mkdir()
    (place / "log").touch()
    environment = traced_ffmpeg(place / "bin", place / "log")
    argv = [sys.executable, "-c", BARE, str(media), str(place)]
    run = quiet(argv, environment)
    time.sleep(seconds * (0.4 + 0.6 * uniform(0, "kill", number)))
    run.send_signal(signal.SIGKILL)
    run.wait()
    sweep(run)
    again = quiet(argv, environment)
    try:
        status = again.wait(timeout=180)
    except subprocess.TimeoutExpired:
        again.kill()
        sweep(again)
        return Counter(stuck=1)
    counts: Counter[str] = Counter(failed=int(status != 0))
    files = list((place / "rows").glob("*.parquet")) if (place / "rows").is_dir() else []
    stored = [
        (row["path"], row["shot"]) for path in files for row in pq.read_table(path).to_pylist()
    ]
    counts["missing"] += FILMS * SHOTS - len(set(stored))
    counts["twice"] += len(stored) - len(set(stored))
    counts["encoded again"] += len((place / "log").read_text().splitlines()) - FILMS * SHOTS
    return counts


def main() -> None:
    ours: Counter[str] = Counter()
    bare: Counter[str] = Counter()
    most = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        films(folder / "films")
        start = time.monotonic()
        assert quiet(command(folder / "films", folder / "clean"), dict(os.environ)).wait() == 0
        seconds = time.monotonic() - start
        print(f"clean run: {seconds:.1f} s", file=sys.stderr)
        for number in range(TRIALS):
            found = trial(number, folder, folder / "films", seconds)
            most = max(most, found["encoded again"])
            ours += found
            print(number, dict(found), file=sys.stderr)
        for number in range(BARE_TRIALS):
            found = bare_trial(number, folder, folder / "films", seconds)
            bare += found
            print("bare", number, dict(found), file=sys.stderr)
    kills = f"{ours['drivers killed']} drivers and {ours['workers killed']} workers killed"
    report(
        "faults",
        [
            (
                f"clips and copies after {kills} and the command repeated",
                "clean run",
                f"{ours['missing']} missing, {ours['twice']} twice, {ours['different']} different, "
                f"{ours['encoded again']} encoded again in {TRIALS} trials, at most {most} in one",
            ),
            (
                f"clips after {BARE_TRIALS} drivers killed",
                "Ray Data's checkpoint, fan-out in the plan",
                f"{bare['missing']} missing, {bare['twice']} twice, "
                f"{bare['encoded again']} encoded again, {bare['stuck']} stuck, "
                f"{bare['failed']} failed",
            ),
        ],
    )


if __name__ == "__main__":
    main()
