"""The whole road in small: real files, real Ray, real DeepSpeed, and SIGKILL on the way."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import pytest

from openreel.pipeline import table
from openreel.pipeline.clip import Clip, Source, Video
from openreel.recaption.caption import ClipCaptions
from openreel.recaption.tables import caption_tables
from openreel.vae.latent import LatentRow

TABLES = {
    "videos": Video,
    "clips": Clip,
    "captions": ClipCaptions,
    "latents": LatentRow,
}


def demo(output: Path, *options: str) -> list[str]:
    command = [sys.executable, "-c", "from openreel.deploy.cli import main; main()"]
    return [*command, "demo", "--recipe", "smoke", "--output", str(output), *options]


def tables(output: Path) -> dict[str, dict[str, str]]:
    """Key -> status of every row of every table."""
    found = {}
    for name, record in TABLES.items():
        folder = output / "dataset" / name
        if record is ClipCaptions:
            (folder,) = caption_tables(output / "dataset")
        rows, key = table.read(folder, record), table.key_of(folder)
        found[name] = {str(getattr(row, key)): row.status for row in rows}
    return found


def finished(output: Path, *options: str) -> None:
    done = subprocess.run(demo(output, *options), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]


OWN = ("carphone_pristine_qcif.mp4", "newtons_cradle.gif", "keyboard_rot90.mov")
REFUSED = ("corrupt_empty.flv", "audio_only_two_tracks.mp4")


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A user's own folder, with files that cannot be used; none where there are no test media."""
    default = Path(__file__).resolve().parents[2] / "shared" / "media"
    folder = Path(os.environ.get("OPENREEL_TEST_MEDIA", default))
    if not folder.is_dir():
        return []
    own = tmp_path_factory.mktemp("own")
    for name in (*OWN, *REFUSED):
        shutil.copy(folder / "video" / name, own)
    (own / "notes.mp4").write_text("this is no video")
    (own / "empty.mp4").touch()
    return ["--videos", str(own)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, options: list[str]) -> Path:
    """A demo that nobody interrupted."""
    output = tmp_path_factory.mktemp("whole")
    finished(output, *options)
    return output


@pytest.mark.slow
def test_the_demo_ends_with_three_videos_a_sheet_and_a_page(whole: Path) -> None:
    sizes = set()
    for path in (whole / "videos").glob("*.mp4"):
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            assert sum(1 for _ in container.decode(stream)) == 13
            sizes.add((stream.width, stream.height))
        assert json.loads(path.with_suffix(".json").read_text())["width"] == stream.width
    assert sizes == {(128, 72), (96, 96), (72, 128)}
    assert (whole / "contact-sheet.png").stat().st_size > 1000
    page = (whole / "index.html").read_text()
    assert all(word in page for word in ("a red ball moves right", "128 wide", "untrained"))
    found = tables(whole)
    usable = {key for key, status in found["clips"].items() if status == "ok"}
    assert len(usable) > 10
    assert usable == set(found["captions"]) == set(found["latents"])
    assert {*found["captions"].values(), *found["latents"].values()} == {"ok"}


@pytest.mark.slow
def test_killed_five_times_it_finishes_with_the_same_tables(
    whole: Path, tmp_path: Path, options: list[str]
) -> None:
    moments, kills = random.Random(7), 0
    for _ in range(5):
        process = subprocess.Popen(
            demo(tmp_path, *options),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + moments.uniform(3, 22)
        while time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.1)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            kills += 1
        process.wait()
    assert kills >= 2
    finished(tmp_path, *options)
    assert tables(tmp_path) == tables(whole)
    assert len(list((tmp_path / "videos").glob("*.mp4"))) == 3
    assert not list(tmp_path.rglob("*.latents.safetensors"))


@pytest.mark.slow
def test_of_a_users_folder_every_file_has_its_verdict(whole: Path, options: list[str]) -> None:
    if not options:
        pytest.skip("no test media: set OPENREEL_TEST_MEDIA")
    own = Path(options[1])
    rows = table.read(whole / "dataset" / "sources", Source)
    videos = {row.uri: row for row in table.read(whole / "dataset" / "videos", Video)}
    mine = {Path(row.uri).name for row in rows if Path(row.uri).parent.name == own.name}
    assert mine == {path.name for path in own.iterdir()}
    refused = {Path(row.uri).name: row.reason for row in videos.values() if row.status != "ok"}
    assert set(refused) == {*REFUSED, "notes.mp4", "empty.mp4"}
    assert all(refused.values())
    page = (whole / "index.html").read_text()
    assert all(name in page for name in refused)
