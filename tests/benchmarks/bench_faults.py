"""SIGKILL at random moments, then the same command again: what is missing, twice, or done again.

`openreel curate` with copies is killed twenty times, by turns the driver and one of its workers,
anywhere between its start and its end. Every start of ffmpeg's encoder leaves a line, so that work
that was done again is counted too. Beside it a bare Ray Data pipeline with Ray's own checkpointing:
videos fan out into clips, are encoded and written, in one plan.
"""

import os
import shutil
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
from openreel.pipeline.curate import CLIPS, COPIES, SOURCES
from openreel.pipeline.keyed import uniform
from openreel.pipeline.media import ffmpeg_program
from tests.benchmarks.timing import report

TRIALS = int(os.environ.get("OPENREEL_BENCH_TRIALS", "20"))
BARE_TRIALS = max(1, TRIALS // 10)
FILMS, SHOTS, SHOT_S = 6, 4, 2.4
MARK = "OPENREEL_BENCH_TRIAL"
"""an environment variable by which a run's processes are told"""


def films(folder: Path) -> None:
    """Films of four plain shots each, all different."""
    folder.mkdir()
    for film in range(FILMS):
        inputs: list[str] = []
        for shot in range(SHOTS):
            colour = f"0x{(film * 31 + shot * 71) % 256:02x}{(shot * 97) % 256:02x}80"
            source = (
                f"testsrc2=size=640x360:rate=25:duration={SHOT_S},hue=h={film * 40 + shot * 90}"
            )
            inputs += ["-f", "lavfi", "-i", f"{source},drawbox=color={colour}:t=fill:w=300"]
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
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", MARK: str(folder)}


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


def sweep(mark: str) -> None:
    """What a killed driver leaves behind must not slow the next run."""
    for one in psutil.process_iter():
        try:
            if one.environ().get(MARK) == mark:
                one.kill()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue


def rows(dataset: Path) -> dict[str, dict[str, tuple[str, str]]]:
    """Id -> what its row says, of the clips and of their copies."""
    clips = {c.clip_id: (c.status, c.reason) for c in table.read(dataset / CLIPS, Clip)}
    copies = {c.clip_id: (c.status, c.sha256) for c in table.read(dataset / COPIES, Copy)}
    return {CLIPS: clips, COPIES: copies}


def begun(dataset: Path) -> None:
    """Wait until a run's first table is there: before that there is nothing to lose."""
    while not (dataset / SOURCES).is_dir():
        time.sleep(0.01)


def killed(number: int, place: Path, media: Path, seconds: float) -> Counter[str]:
    """Kill a run's driver or one of its workers in the middle; whom, and how many."""
    for attempt in range(8):
        dataset = place / "dataset"
        environment = traced_ffmpeg(place / "bin", place / "log")
        run = quiet(command(media, dataset), environment)
        begun(dataset)
        time.sleep(seconds * uniform(0, "kill", number) * 0.6**attempt)
        if number % 2 and kill_worker(run, uniform(0, "worker", number)):
            run.wait()
            return Counter({"workers killed": 1})
        if number % 2 == 0 and run.poll() is None:
            run.send_signal(signal.SIGKILL)
            run.wait()
            sweep(str(place / "bin"))
            return Counter({"drivers killed": 1})
        run.wait()  # it was over before: again, and earlier
        shutil.rmtree(place)
        place.mkdir()
    raise RuntimeError("no run could be killed in its middle")


def trial(number: int, folder: Path, media: Path, seconds: float) -> Counter[str]:
    """Kill one run, repeat it, and compare with the clean one."""
    place = folder / f"trial-{number}"
    place.mkdir()
    counts = killed(number, place, media, seconds)
    dataset, log = place / "dataset", place / "log"
    counts["encoded before"] = len(log.read_text().splitlines()) if log.exists() else 0
    again = quiet(command(media, dataset), traced_ffmpeg(place / "again", log))
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
    argv = [ffmpeg_program(), "-y", "-nostdin", "-loglevel", "error", "-ss", str(row["shot"] * 2.4)]
    argv += ["-i", row["path"], "-t", "2.4", "-c:v", "libx264", "-preset", "slow", "-threads", "1"]
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
    while not (place / "log").stat().st_size:
        time.sleep(0.05)
    time.sleep(seconds * uniform(0, "kill", number))
    run.send_signal(signal.SIGKILL)
    run.wait()
    sweep(str(place / "bin"))
    again = quiet(argv, environment)
    try:
        status = again.wait(timeout=180)
    except subprocess.TimeoutExpired:
        again.kill()
        sweep(str(place / "bin"))
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
        clean = quiet(command(folder / "films", folder / "clean"), dict(os.environ))
        begun(folder / "clean")
        start = time.monotonic()
        assert clean.wait() == 0
        seconds = time.monotonic() - start
        print(f"clean run: {seconds:.1f} s of work", file=sys.stderr)
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
