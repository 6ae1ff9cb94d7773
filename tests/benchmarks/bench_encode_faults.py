"""SIGKILL at random moments of `openreel encode`, then the same command again: the same files?

A dataset of plain films is made once. Its encoding is killed, by turns the driver and one of its
workers, and repeated until it has been killed often enough; each time the table's rows and the
bytes of all files are compared with those of an uninterrupted run, and files that nobody names are
counted.
"""

import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from openreel.pipeline import table
from openreel.pipeline.commit import is_temporary, sha256
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


def written(dataset: Path) -> int:
    """Files of latents, complete or not."""
    return sum(path.is_file() for path in (dataset / "latents" / "latents").rglob("*"))


def trial(number: int, folder: Path, vae: Path, clips: int) -> Counter[str]:
    """Kill one run in its middle, finish it, and compare."""
    draw = random.Random(number)
    dataset, mark = folder / f"trial-{number}", f"{folder}-{number}"
    shutil.copytree(folder / "curated", dataset)
    run = quiet(encoded(dataset, vae), environment(mark))
    # Some files in: before the first one there is nothing to lose, and Ray's start takes longest.
    enough = draw.randrange(1, clips - 2)
    while written(dataset) < enough and run.poll() is None:
        time.sleep(0.005)
    time.sleep(0.3 * draw.random())
    counts: Counter[str] = Counter()
    if number % 2 and kill_worker(run, draw.random()):
        counts["workers killed"] += 1
        run.wait()
    elif run.poll() is None:
        run.send_signal(signal.SIGKILL)
        counts["drivers killed"] += 1
        run.wait()
        sweep(mark)
    else:
        counts["over before"] += 1
    latents = dataset / "latents" / "latents"
    partial = [p for p in latents.rglob("*.safetensors") if sha256(p) != p.stem]
    counts["partial under a final name"] += len(partial)
    if (dataset / "latents" / "_stage.json").exists():
        counts["done before"] += len(table.read(dataset / "latents", LatentRow))
    again = quiet(encoded(dataset, vae), environment(mark))
    assert again.wait() == 0
    clean, found = stored(folder / "clean"), stored(dataset)
    counts["missing"] += len(clean.keys() - found.keys())
    counts["different"] += sum(found.get(key) != value for key, value in clean.items())
    final, leftovers = extra(dataset, folder / "clean")
    counts["files more"] += final
    counts["leftovers"] += leftovers
    shutil.rmtree(dataset)
    return counts


def main() -> None:
    total: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        films(folder / "films")
        vae = folder / "vae"
        vae.mkdir()
        model = new_autoencoder(tiny(), seed=0)
        save_autoencoder(vae, model.config, model.state_dict())
        curate = [PROGRAM, "curate", str(folder / "films"), "-o", str(folder / "curated")]
        assert quiet([*curate, "--duplicates.no-perceptual"], environment(name)).wait() == 0
        shutil.copytree(folder / "curated", folder / "clean")
        assert quiet(encoded(folder / "clean", vae), environment(name)).wait() == 0
        clips = len(stored(folder / "clean"))
        for number in range(TRIALS):
            found = trial(number, folder, vae, clips)
            total += found
            print(number, dict(found), file=sys.stderr)
    kills = f"{total['drivers killed']} drivers and {total['workers killed']} workers killed"
    said = (
        f"{total['missing']} missing, {total['different']} different, "
        f"{total['files more']} files more, {total['partial under a final name']} partial under a "
        f"final name, {total['leftovers']} temporary leftovers; {total['done before']} of "
        f"{TRIALS * clips} clips were done before the kills"
    )
    row = (f"latents of {clips} clips after {kills} and the command repeated", "clean run", said)
    report("encode_faults", [row])


if __name__ == "__main__":
    main()
