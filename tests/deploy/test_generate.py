"""Generation gives exactly the size asked for, loses nothing, and stays inside its folder."""

import json
import shutil
from pathlib import Path

import av
import numpy as np
import pytest

from openreel.deploy import generate as generation
from openreel.deploy.bundle import Bundle, load_bundle
from openreel.deploy.cli import main
from openreel.deploy.generate import Order, decode, free_name, generate, read_latents, tidy
from openreel.deploy.sizes import Size
from openreel.dit.sample import SampleConfig
from openreel.pipeline.errors import InputError

QUICK = SampleConfig(steps=2, guidance=2.0)


def order(bundle: Bundle, size: str, prompt: str = "a red ball", frames: int = 6) -> Order:
    plan = bundle.costs.plan(Size.parse(size), frames, 10.0)
    return Order(prompt=prompt, plan=plan, seed=3)


def probed(path: Path) -> tuple[int, int, int, float]:
    """Width, height, frames and rate, by PyAV."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = sum(1 for _ in container.decode(stream))
        assert stream.average_rate is not None
        return stream.width, stream.height, frames, float(stream.average_rate)


def test_every_size_comes_out_exactly_and_all_in_one_pack(bundle: Bundle, tmp_path: Path) -> None:
    sizes = ["64x36", "36x64", "48x48", "97x51", "51x97", "16x16", "160x16", "17x131"]
    orders = [order(bundle, size, frames=n) for n, size in enumerate(sizes, start=1)]
    made = generate(bundle, orders, tmp_path, QUICK)
    for frames, (size, video) in enumerate(zip(sizes, made, strict=True), start=1):
        width, height = map(int, size.split("x"))
        assert probed(video.video) == (width, height, frames, 10.0)
        assert json.loads(video.sidecar.read_text())["size_in_words"] == Size.parse(size).words
    assert not list(tmp_path.glob("*.latents.*")), "latents go once the video is verified"


def test_company_and_repetition_change_nothing(bundle: Bundle, tmp_path: Path) -> None:
    wanted = order(bundle, "40x24")
    alone = generate(bundle, [wanted], tmp_path / "alone", QUICK)[0]
    again = generate(bundle, [wanted], tmp_path / "alone", QUICK)[0]
    assert again.video != alone.video, "nothing is overwritten"
    assert again.video.read_bytes() == alone.video.read_bytes()
    company = generate(bundle, [order(bundle, "24x72"), wanted], tmp_path / "company", QUICK)[1]
    with av.open(str(alone.video)) as a, av.open(str(company.video)) as b:
        for x, y in zip(a.decode(video=0), b.decode(video=0), strict=True):
            apart = np.abs(x.to_ndarray().astype(int) - y.to_ndarray().astype(int))
            assert apart.max() <= 8  # one rounding step, through H.264


def test_when_encoding_fails_the_latents_stay_and_decode_finishes(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(generation, "write_video", full_disk)
        with pytest.raises(OSError, match="No space left"):
            generate(bundle, [order(bundle, "33x49")], tmp_path, QUICK)
    (left,) = tmp_path.iterdir()
    latents, sidecar = read_latents(left)
    assert latents.shape == (16, *sidecar_size(bundle, sidecar))
    made = decode(bundle, left)
    assert probed(made.video)[:2] == (33, 49)
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".json", ".mp4"]


def sidecar_size(bundle: Bundle, sidecar: dict[str, int]) -> tuple[int, int, int]:
    size = Size(width=sidecar["width"], height=sidecar["height"])
    return bundle.costs.plan(size, sidecar["num_frames"], sidecar["fps"]).latent_size


@pytest.mark.parametrize(
    "prompt",
    [
        "../../etc/passwd",
        "*",
        "a" * 100_000,
        "line\nbreak\x00\x1b[31m",
        "'\"`$(rm)",
        "🎈",
        "赤いボール",
        ".",
    ],
)
def test_hostile_prompts_make_tidy_names(bundle: Bundle, tmp_path: Path, prompt: str) -> None:
    name = tidy(prompt)
    assert name
    assert len(name.encode()) <= 120
    assert not set(name) & set("/\\.*\n\0'\"`$ ")
    path = tmp_path / free_name(tmp_path, order(bundle, "16x16", prompt))
    assert path.resolve().parent == tmp_path.resolve()


def test_the_command_makes_the_video(
    bundle_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["generate", "a red ball moves right", "--model", str(bundle_folder)]
    asked = [*common, "--size", "50x34", "--seconds", "0.5", "--fps", "8", "-o", str(tmp_path)]
    main([*asked, "--steps", "2", "--dry-run"])
    assert "50 wide × 34 tall, landscape, 4 frames" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    main([*asked, "--steps", "2"])
    (video,) = tmp_path.glob("*.mp4")
    assert probed(video) == (50, 34, 4, 8.0)
    sidecar = json.loads(video.with_suffix(".json").read_text())
    assert sidecar["expansion"]["text"] != sidecar["prompt"]
    main(["inspect", str(video)])
    assert "a red ball moves right" in capsys.readouterr().out
    with av.open(str(video)) as container:
        assert container.metadata["title"] == "AI-generated video"
        assert json.loads(container.metadata["comment"])["seed"] == 0


def test_a_size_beyond_memory_is_refused_before_weights_load(
    bundle_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["generate", "a", "--model", str(bundle_folder), "--size", "100000x100000"])
    assert stop.value.code == 2
    errors = capsys.readouterr().err
    assert "size: got '100000x100000'; accepted: at most" in errors
    assert errors.count("\n") == 1


def test_parts_that_do_not_belong_together_are_refused(bundle_folder: Path, tmp_path: Path) -> None:
    mixed = tmp_path / "mixed"
    shutil.copytree(bundle_folder, mixed)
    card = mixed / "denoiser" / "card.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), "codec": "another"}))
    with pytest.raises(InputError, match=r"codec: got .*accepted: another"):
        load_bundle(mixed)
    with pytest.raises(InputError, match="latents: got"):
        read_latents(card)
