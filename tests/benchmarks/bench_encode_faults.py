"""SIGKILL in the middle of `openreel encode`, then the same command again: the same files?

A dataset of small films is made once. Its encoding is killed, most often the driver and each fourth
time one of its workers, and begun again, until it has been killed often enough. Each time that it
reaches its end, the table's rows and the bytes of all files are compared with those of an
uninterrupted run, files that nobody names are counted, and it begins from nothing.
"""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from openreel.pipeline import table
from openreel.pipeline.commit import is_temporary, sha256
from openreel.pipeline.keyed import uniform
from openreel.vae.config import tiny
from openreel.vae.latent import LatentRow
from openreel.vae.train import new_autoencoder
from openreel.vae.weights import save_autoencoder
from tests.benchmarks.bench_faults import MARK, films, kill_worker, quiet, sweep
from tests.benchmarks.timing import report

TRIALS = int(os.environ.get("OPENREEL_BENCH_TRIALS", "20"))
PROGRAM = str(Path(sys.executable).with_name("openreel"))


def environment(mark: str) -> dict[str, str]:
    return {**os.environ, MARK: mark, "OMP_NUM_THREADS": "1"}


def encoded(dataset: Path, vae: Path) -> list[str]:
    return [PROGRAM, "encode", str(dataset), "--vae", str(vae), "--recipe", "demo"]


def stored(dataset: Path) -> dict[str, tuple[str, str, str]]:
    """Clip -> its row's status and digest, and the digest of the file as it is."""
    folder, found = dataset / "latents", {}
    for row in table.read(folder, LatentRow):
        path = folder / row.uri
        found[row.clip_id] = (row.status, row.sha256, sha256(path) if row.uri else "")
    return found


def extra(dataset: Path, clean: Path) -> tuple[int, int]:
    """(files under their final names that the uninterrupted run hasn't, leftovers)."""
    names = [
        {path.relative_to(d) for path in (d / "latents" / "latents").rglob("*") if path.is_file()}
        for d in (dataset, clean)
    ]
    final = {name for name in names[0] - names[1] if not is_temporary(name)}
    return len(final), len(names[0] - names[1]) - len(final)


def at_work(dataset: Path, since: float, run: "subprocess.Popen[bytes]") -> bool:
    """Wait for a run's first file; False if it was over before. Ray's start takes longest."""
    latents = dataset / "latents" / "latents"
    while run.poll() is None:
        try:
            if any(path.stat().st_mtime > since for path in latents.rglob("*") if path.is_file()):
                return True
        except FileNotFoundError:  # a temporary one has got its name
            continue
        time.sleep(0.005)
    return False


def encode_once(number: int, dataset: Path, vae: Path, mark: str, seconds: float) -> Counter[str]:
    """A run that is killed within so many seconds of its work, or left alone if there are none."""
    since = time.time()
    said = dataset.with_name("said")
    with said.open("w") as file:
        run = subprocess.Popen(
            encoded(dataset, vae),
            env=environment(mark),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    counts: Counter[str] = Counter()
    if seconds and at_work(dataset, since, run):
        time.sleep(seconds * uniform(0, "moment", number))
        if number % 4 == 3:  # which the run should bear
            counts["workers killed"] += kill_worker(run, uniform(0, "worker", number))
        elif run.poll() is None:
            run.send_signal(signal.SIGKILL)
            counts["drivers killed"] += 1
    ended = run.wait()
    sweep(mark)
    latents = dataset / "latents" / "latents"
    partial = [p for p in latents.rglob("*.safetensors") if sha256(p) != p.stem]
    counts["partial under a final name"] += len(partial)
    counts["reached the end"] += ended == 0
    if ended > 0:
        counts["gave up"] += 1
        print(said.read_text()[-500:], file=sys.stderr)
    return counts


def compared(dataset: Path, clean: Path) -> Counter[str]:
    """A dataset that was encoded to its end, against the uninterrupted one."""
    known, found = stored(clean), stored(dataset)
    final, leftovers = extra(dataset, clean)
    return Counter(
        {
            "missing": len(known.keys() - found.keys()),
            "different": sum(found.get(key) != value for key, value in known.items()),
            "files more": final,
            "leftovers": leftovers,
        }
    )


def prepared(folder: Path) -> tuple[Path, float]:
    """A curated dataset, and one that was encoded without interruption; the autoencoder, and how
    many seconds its work took."""
    films(folder / "films")
    vae, clean = folder / "vae", folder / "clean"
    vae.mkdir()
    model = new_autoencoder(tiny(), seed=0)
    save_autoencoder(vae, model.config, model.state_dict())
    curate = [PROGRAM, "curate", str(folder / "films"), "-o", str(folder / "curated")]
    assert quiet([*curate, "--duplicates.no-perceptual"], environment(str(folder))).wait() == 0
    shutil.copytree(folder / "curated", clean)
    since = time.time()
    run = quiet(encoded(clean, vae), environment(str(folder)))
    assert at_work(clean, since, run)
    begun = time.monotonic()
    assert run.wait() == 0
    return vae, time.monotonic() - begun


def main() -> None:
    total: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        vae, seconds = prepared(folder)
        clean, dataset = folder / "clean", folder / "dataset"
        clips = len(stored(clean))
        for number in itertools.count():
            left = TRIALS - total["drivers killed"] - total["workers killed"]
            if not dataset.exists():
                shutil.copytree(folder / "curated", dataset)
            found = encode_once(number, dataset, vae, name, seconds / 2 if left else 0.0)
            if found["reached the end"]:
                found += compared(dataset, clean)
                shutil.rmtree(dataset)
            elif (dataset / "latents" / "_stage.json").exists():
                found["standing after kills"] = len(table.read(dataset / "latents", LatentRow))
            total += found
            print(number, dict(found), file=sys.stderr)
            if not left:
                break
    kills = f"{total['drivers killed']} drivers and {total['workers killed']} workers killed"
    said = (
        f"{total['reached the end']} times to the end: {total['missing']} missing, "
        f"{total['different']} different, {total['files more']} files more, "
        f"{total['partial under a final name']} partial under a final name, "
        f"{total['leftovers']} temporary leftovers; {total['gave up']} runs gave up; "
        f"{total['standing after kills']} rows stood after the kills, taken together"
    )
    row = (f"latents of {clips} clips, {kills} and the command repeated", "clean run", said)
    report("encode_faults", [row])


if __name__ == "__main__":
    main()
