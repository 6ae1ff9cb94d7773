"""`openreel eval vae` and `openreel encode` as a person calls them."""

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from openreel.deploy.cli import main
from openreel.pipeline import table
from openreel.pipeline.clip import Clip
from openreel.pipeline.media import Frames, write_image, write_video
from openreel.vae.codec import load_codec
from openreel.vae.config import tiny
from openreel.vae.latent import LatentRow
from openreel.vae.model import Autoencoder
from openreel.vae.run import EncodeConfig, encode_clip
from openreel.vae.weights import save_autoencoder


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny videos: a second thread costs more than it brings."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vae")
    save_autoencoder(folder, tiny(), Autoencoder(tiny()).state_dict())
    return folder


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two films and a picture, of odd sizes, without a cut."""
    folder = tmp_path_factory.mktemp("films")
    y, x = np.mgrid[:45, :67]
    for name, speed in (("a.mp4", 1), ("b.mp4", 3)):
        frames = [
            np.stack([(x * 3 + speed * t) % 256, y * 5, x + y + t], -1).astype(np.uint8)
            for t in range(6)
        ]
        write_video(folder / name, np.stack(frames)[:, :44, :66], fps=8)
    write_image(folder / "c.png", frames[0])
    return folder


def judge_networks(folder: Path) -> tuple[Path, Path]:
    """Stand-ins with the interface of LPIPS and of FVD's network: no real weights are at hand."""

    class Distance(torch.nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return (x - y).square().mean(dim=[1, 2, 3])

    class Features(torch.nn.Module):
        def forward(
            self, x: torch.Tensor, rescale: bool, resize: bool, return_features: bool
        ) -> torch.Tensor:
            return x.mean(dim=[3, 4]).mean(dim=2)

    paths = folder / "lpips.pt", folder / "fvd.pt"
    for module, path in zip((Distance(), Features()), paths, strict=True):
        torch.jit.script(module).save(str(path))
    return paths


def test_an_autoencoder_is_judged(
    vae: Path, films: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["eval", "vae", "--vae", str(vae), str(films), "-o", str(tmp_path), "--passes", "3"])
    found = json.loads((tmp_path / "eval.json").read_text())
    said = capsys.readouterr().out
    sizes = [(c["num_frames"], c["height"], c["width"]) for c in found["clips"]]
    assert sizes == [(6, 44, 66), (6, 44, 66), (1, 45, 67)]
    assert [len(wear["psnr"]) for wear in found["drift"]] == [3, 3]
    assert found["means"]["lpips"] is None
    assert found["rfvd"] is None
    assert "absent: LPIPS: no weights given" in said
    assert "absent: rFVD: no weights given" in said
    assert "plain colours" in said
    codec = load_codec(vae)
    assert codec.codec in said
    mean = math.fsum(c["psnr"] for c in found["clips"]) / 3
    assert found["means"]["psnr"] == pytest.approx(mean)
    assert (tmp_path / "sheet.png").stat().st_size > 1000


def test_networks_are_used_and_named(
    vae: Path, films: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lpips, fvd = judge_networks(tmp_path)
    options = ["--lpips", str(lpips), "--fvd", str(fvd), "--passes", "1", "--max-frames", "2"]
    main(["eval", "vae", "--vae", str(vae), str(films), "-o", str(tmp_path), *options])
    found = json.loads((tmp_path / "eval.json").read_text())
    assert found["weights"] == {"LPIPS": str(lpips), "rFVD": str(fvd)}
    assert found["absent"] == []
    assert found["rfvd"] >= 0
    for clip in found["clips"]:
        # The stand-in is the squared error in [-1, 1], of which PSNR is the logarithm.
        assert clip["lpips"] == pytest.approx(4 / 10 ** (clip["psnr"] / 10), rel=1e-3)
    assert f"LPIPS by {lpips}" in capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that a mistake ends in."""
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    assert stopped.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


def test_mistakes_are_one_line(
    vae: Path, films: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = [str(films), "-o", str(tmp_path)]
    assert "vae: got" in refused(capsys, "eval", "vae", "--vae", str(films), *common)
    line = refused(capsys, "eval", "vae", "--vae", str(vae), "nowhere", "-o", str(tmp_path))
    assert "nowhere" in line
    wrong = tmp_path / "wrong.pt"
    wrong.write_text("no network")
    line = refused(capsys, "eval", "vae", "--vae", str(vae), *common, "--lpips", str(wrong))
    assert "lpips: got" in line
    assert "limit: got 0" in refused(
        capsys, "eval", "vae", "--vae", str(vae), *common, "--limit", "0"
    )
    assert "eval: got" in refused(capsys, "eval")


CLIP = Clip(
    clip_id="c", video_id="v", uri="v.mp4", kind="video", start_frame=0, num_frames=5,
    start_pts=0, end_pts=5, time_base="1/8", fps=8, width=2000, height=1200,
)  # fmt: skip


def a_dataset(folder: Path) -> Path:
    """A dataset's clips table, of clips whose files are nowhere."""
    clips = [dataclasses.replace(CLIP, clip_id=f"c{i}", width=1000 * (i + 1)) for i in range(2)]
    table.create(folder / "clips", stage="clips", key="clip_id", fingerprint={})
    table.append(folder / "clips", clips)
    return folder


def test_encoding_is_planned_before_anything_is_done(
    vae: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = a_dataset(tmp_path)
    arguments = ["encode", str(dataset), "--vae", str(vae), "--dry-run"]
    main([*arguments, "--budget-mib", "64"])
    said = " ".join(capsys.readouterr().out.split())
    assert "2 clips of 2 sizes" in said
    assert "2000x1200:" in said
    assert "tiles a frame" in said
    line = refused(capsys, "encode", str(dataset), "--vae", str(dataset), "--dry-run")
    assert "vae: got" in line
    assert not (dataset / "latents").exists()


def test_damaged_latents_are_one_line(
    vae: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = a_dataset(tmp_path)
    folder, model = dataset / "latents", load_codec(vae)

    def stream(clip: Clip, *, size: tuple[int, int] | None) -> "list[Frames]":
        return [np.zeros((16, 24, 3), np.uint8)] * clip.num_frames

    row = encode_clip(CLIP, model=model, folder=folder, config=EncodeConfig(), stream=stream)  # type: ignore[arg-type]
    table.create(folder, stage="encode", key="clip_id", fingerprint={})
    table.append(folder, [row])
    main(["encode", str(dataset), "--vae", str(vae), "--verify"])
    assert "1 files of latents are as they were written" in capsys.readouterr().out
    path = folder / row.uri
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    line = refused(capsys, "encode", str(dataset), "--vae", str(vae), "--verify")
    assert "1 files of latents" in line
    assert "its digest is not" in line
    assert table.read(folder, LatentRow)[0].status == "failed"
