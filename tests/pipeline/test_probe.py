"""What is not wholly usable is refused with a reason, and nothing else is opened on the way."""

import csv
import json
import os
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from openreel.pipeline.errors import MediaError
from openreel.pipeline.media import write_image, write_video
from openreel.pipeline.probe import probe
from openreel.pipeline.sandbox import ChildError, Limits

from .painted import HEIGHT, WIDTH, encode, ffmpeg


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 frames, H.264, index at the front."""
    folder = tmp_path_factory.mktemp("plain")
    return encode(folder / "plain.mp4", 60, "-movflags", "+faststart", "-g", "12")


def test_a_good_file_is_described(plain: Path) -> None:
    info = probe(plain)
    assert (info.kind, info.codec, info.width, info.height) == ("video", "h264", WIDTH, HEIGHT)
    assert (info.num_frames, info.fps, info.variable_rate) == (60, 25.0, False)
    assert info.duration_s == pytest.approx(2.4)
    step = Fraction(1, 25) / Fraction(info.time_base)
    assert info.pts == tuple(int(i * step) for i in range(60))
    assert info.end_pts == 60 * step


def test_a_rotated_file_is_measured_as_shown(plain: Path, tmp_path: Path) -> None:
    turned = tmp_path / "turned.mp4"
    ffmpeg("-display_rotation", "-90", "-i", plain, "-c", "copy", turned)
    info = probe(turned)
    assert (info.width, info.height, info.rotation) == (HEIGHT, WIDTH, 90)


def test_wide_pixels_are_measured_as_shown(tmp_path: Path) -> None:
    info = probe(encode(tmp_path / "wide.mp4", 5, "-vf", "setsar=2/1"))
    assert (info.width, info.height, info.sample_aspect) == (2 * WIDTH, HEIGHT, "2:1")


def damaged(kind: str, plain: Path, folder: Path) -> Path:
    path = folder / f"{kind}.mp4"
    whole = plain.read_bytes()
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "random":
        path.write_bytes(np.random.default_rng(0).bytes(50_000))
    elif kind == "text":
        path.write_text("not a video at all\n" * 100)
    elif kind == "cut":
        path.write_bytes(whole[: int(len(whole) * 0.6)])
    elif kind == "headless":
        path.write_bytes(whole[whole.index(b"mdat") - 4 :])
    elif kind == "audio":
        ffmpeg("-f", "lavfi", "-i", "sine=duration=1", path)
    elif kind == "resized":
        ffmpeg("-i", plain, "-f", "mpegts", folder / "a.ts")
        ffmpeg("-i", plain, "-vf", "scale=128:96", "-f", "mpegts", folder / "b.ts")
        path.write_bytes((folder / "a.ts").read_bytes() + (folder / "b.ts").read_bytes())
    elif kind == "codec":
        ffmpeg("-i", plain, "-c:v", "ffv1", "-f", "matroska", path)
    return path


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("empty", "an empty file"),
        ("random", "cannot be opened"),
        ("text", "cannot be opened"),
        ("cut", "frames"),
        ("headless", "cannot be opened"),
        ("audio", "no video stream, only audio"),
        ("resized", "changes from 64x32 to 128x96 at frame"),
        ("codec", "codec ffv1; accepted: av1,"),
    ],
)
def test_damaged_files_are_refused_in_one_line(
    kind: str, reason: str, plain: Path, tmp_path: Path
) -> None:
    with pytest.raises(MediaError, match=reason) as caught:
        probe(damaged(kind, plain, tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "script",
    [
        "ffconcat version 1.0\nfile decoy.mp4\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:2.4,\ndecoy.mp4\n#EXT-X-ENDLIST\n",
    ],
    ids=["concat", "hls"],
)
def test_a_script_named_as_a_video_never_opens_what_it_names(
    script: str, plain: Path, tmp_path: Path
) -> None:
    path, decoy = tmp_path / "innocent.mp4", tmp_path / "decoy.mp4"
    path.write_text(script)
    if "concat" in script:  # without the allow-list the trap works
        decoy.write_bytes(plain.read_bytes())
        with av.open(str(path)) as container:
            assert container.format.name == "concat"
            assert container.streams.video[0].codec_context.width == WIDTH
        decoy.unlink()
    # Whoever opens a pipe without a writer waits: the clock would have had to end it.
    os.mkfifo(decoy)
    begun = time.monotonic()
    with pytest.raises(MediaError, match="cannot be opened"):
        probe(path, Limits(wall_s=30))
    assert time.monotonic() - begun < 30


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(max_pixels=WIDTH * HEIGHT - 1), "64x32; accepted: at most 2047 pixels"),
        (Limits(max_frames=59), "more than 59 frames"),
        (Limits(max_duration_s=2.0), "longer than 2 s"),
    ],
)
def test_limits_are_kept(limits: Limits, reason: str, plain: Path) -> None:
    with pytest.raises(MediaError, match=reason):
        probe(plain, limits)


def test_a_probe_that_is_killed_is_no_verdict_on_the_file(plain: Path) -> None:
    with pytest.raises(ChildError) as caught:
        probe(plain, Limits(wall_s=0.02))
    assert caught.value.killed


def test_timestamps_that_go_backwards_are_refused(plain: Path, tmp_path: Path) -> None:
    ffmpeg("-i", plain, "-f", "mpegts", tmp_path / "a.ts")
    assert probe(tmp_path / "a.ts").num_frames == 60
    (tmp_path / "twice.ts").write_bytes((tmp_path / "a.ts").read_bytes() * 2)
    with pytest.raises(MediaError, match="timestamps are missing or go backwards at frame 59"):
        probe(tmp_path / "twice.ts")


# ---- images -----------------------------------------------------------------------------------


def test_an_image_is_measured_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(tmp_path / "phone.jpg", exif=exif)
    info = probe(tmp_path / "phone.jpg")
    assert (info.kind, info.width, info.height, info.rotation) == ("image", 30, 40, 90)
    assert (info.num_frames, info.fps, info.pts) == (1, 0.0, (0,))


def test_images_that_are_not_what_they_seem_are_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "good.png", np.zeros((64, 64, 3), np.uint8))
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:-40])
    Image.new("I;16", (8, 8)).save(tmp_path / "deep.png")
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moving.webp", save_all=True, append_images=frames[1:])
    (tmp_path / "video.png").write_bytes(b"RIFF")
    with pytest.raises(MediaError, match="cannot be opened"):
        probe(tmp_path / "cut.png")
    with pytest.raises(MediaError, match="accepted: 8 bits a channel"):
        probe(tmp_path / "deep.png")
    with pytest.raises(MediaError, match="an image with several frames"):
        probe(tmp_path / "moving.webp")
    with pytest.raises(MediaError, match="cannot be opened"):
        probe(tmp_path / "video.png")
    with pytest.raises(MediaError, match="64x64; accepted: at most 100 pixels"):
        probe(tmp_path / "good.png", Limits(max_pixels=100))


# ---- real files -------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_real_file_is_as_its_manifest_says(media: Path) -> None:
    refused = set()
    with (media / "MANIFEST.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        try:
            info = probe(media / row["file"])
        except MediaError:
            refused.add(Path(row["file"]).name)
            continue
        aspect = Fraction(info.sample_aspect.replace(":", "/"))
        stored = (round(int(row["width"]) * aspect), int(row["height"]))
        shown = stored[::-1] if row["rotation"] in ("90", "270") else stored
        if row["file"] == "video/tears_of_steel_battle_vp8.webm":
            assert aspect == Fraction(399, 400)
        assert (info.width, info.height) == shown, row["file"]
        assert info.num_frames == int(row["frames"]), row["file"]
        assert info.rotation == int(row["rotation"] or 0), row["file"]
        if info.kind == "video":
            assert info.fps == pytest.approx(float(row["fps"]), rel=3e-3), row["file"]
            assert info.has_audio == (row["audio"] != "none"), row["file"]
    corrupt = {"corrupt_packet_testcard.mp4", "corrupt_empty.flv", "audio_only_two_tracks.mp4"}
    assert refused == corrupt
    assert len(rows) == 68


def test_the_child_answers_in_json(plain: Path) -> None:
    # The contract between the two processes: fields by name, no pickles.
    info = probe(plain)
    assert json.loads(json.dumps(info.pts)) == list(info.pts)


def test_a_video_that_was_written_is_probed_as_written(tmp_path: Path) -> None:
    frames = np.zeros((7, 18, 34, 3), np.uint8)
    write_video(tmp_path / "v.mp4", frames, fps=12.5)
    info = probe(tmp_path / "v.mp4")
    assert (info.num_frames, info.width, info.height, info.fps) == (7, 34, 18, 12.5)
