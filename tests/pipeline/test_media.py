"""The frames of a span are exactly those frames, whatever the file's timestamps look like."""

import resource
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from openreel.pipeline.clip import Clip
from openreel.pipeline.errors import InputError, MediaError
from openreel.pipeline.media import (
    Frames,
    Span,
    read_clip,
    read_frames,
    read_image,
    stream_frames,
    write_image,
    write_video,
)
from openreel.pipeline.probe import MediaInfo, probe

from .painted import HEIGHT, WIDTH, encode, ffmpeg, numbers, painted

NUM_FRAMES = 200
OPEN_GROUPS = ("-g", "20", "-bf", "3", "-x264-params", "open-gop=1:b-adapt=0:scenecut=0")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same 200 painted frames in ways that put their timestamps, order or picture elsewhere."""
    folder = tmp_path_factory.mktemp("painted")
    made = {
        "constant": encode(folder / "constant.mp4", NUM_FRAMES, *OPEN_GROUPS),
        "variable": encode(
            folder / "variable.mp4",
            NUM_FRAMES,
            *("-vf", "setpts='PTS+trunc(N/3)*TB/2+mod(N\\,7)*TB/10'", "-fps_mode", "vfr"),
            *("-enc_time_base", "1:1000", *OPEN_GROUPS),
        ),
        "offset": encode(folder / "offset.mkv", NUM_FRAMES, *OPEN_GROUPS, "-output_ts_offset", "9"),
        "transport": encode(folder / "transport.ts", NUM_FRAMES, *OPEN_GROUPS),
        "vp9": encode(
            folder / "vp9.webm", NUM_FRAMES, "-c:v", "libvpx-vp9", "-deadline", "realtime"
        ),
    }
    made["flipped"] = folder / "flipped.mp4"
    ffmpeg("-display_rotation", "180", "-i", made["constant"], "-c", "copy", made["flipped"])
    return made


def span(info: MediaInfo, first: int, last: int) -> Span:
    ticks = (*info.pts, info.end_pts)
    whole = Span.whole(info)
    fields = {**vars(whole), "start_pts": ticks[first], "end_pts": ticks[last]}
    return Span(**{**fields, "num_frames": last - first})


KINDS = ["constant", "variable", "offset", "transport", "vp9", "flipped"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_span_holds_exactly_its_frames(kind: str, files: dict[str, Path]) -> None:
    info = probe(files[kind])
    assert info.num_frames == NUM_FRAMES
    for first, last in [(0, 1), (0, 3), (19, 41), (99, 100), (121, 160), (197, 200)]:
        frames = read_frames(files[kind], span(info, first, last))
        if kind == "flipped":
            frames = frames[:, ::-1, ::-1]
        assert frames.shape == (last - first, HEIGHT, WIDTH, 3)
        assert numbers(frames) == list(range(first, last)), (first, last)


def test_the_cases_are_what_they_claim(files: dict[str, Path]) -> None:
    infos = {kind: probe(path) for kind, path in files.items()}
    assert infos["variable"].variable_rate
    assert not infos["constant"].variable_rate
    assert infos["offset"].pts[0] >= 9000
    assert infos["transport"].pts[0] > 90_000
    assert infos["flipped"].rotation == 180
    with av.open(str(files["constant"])) as container:
        kinds = [av.video.frame.PictureType(f.pict_type) for f in container.decode(video=0)]
    assert kinds.count(av.video.frame.PictureType.B) > 100
    assert 5 <= kinds.count(av.video.frame.PictureType.I) <= 15


def test_every_nth_frame_and_a_size(files: dict[str, Path]) -> None:
    info = probe(files["variable"])
    frames = read_frames(files["variable"], span(info, 50, 75), size=(32, 16), every=7)
    assert frames.shape == (4, 16, 32, 3)
    assert numbers(frames) == [50, 57, 64, 71]


def test_a_turned_video_is_read_as_shown(files: dict[str, Path], tmp_path: Path) -> None:
    ffmpeg("-display_rotation", "-90", "-i", files["constant"], "-c", "copy", tmp_path / "t.mp4")
    frames = read_frames(tmp_path / "t.mp4", Span.whole(probe(tmp_path / "t.mp4")))
    assert frames.shape == (NUM_FRAMES, WIDTH, HEIGHT, 3)
    assert numbers(np.rot90(frames, axes=(1, 2))) == list(range(NUM_FRAMES))


def test_a_wrong_count_is_an_error(files: dict[str, Path]) -> None:
    info = probe(files["constant"])
    right = span(info, 10, 20)
    for wrong, said in [(9, "more frames in"), (11, "10 frames in")]:
        with pytest.raises(MediaError, match=said):
            read_frames(files["constant"], Span(**{**vars(right), "num_frames": wrong}))


def test_a_script_is_not_read_either(files: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "innocent.mp4"
    (tmp_path / "decoy.mp4").write_bytes(files["constant"].read_bytes())
    path.write_text("ffconcat version 1.0\nfile decoy.mp4\n")
    with pytest.raises(MediaError, match="does not decode"):
        read_frames(path, span(probe(files["constant"]), 0, 3))


def test_an_abandoned_stream_stops_its_decoder(files: dict[str, Path]) -> None:
    stream = stream_frames(files["constant"], Span.whole(probe(files["constant"])))
    assert numbers(next(stream)[None]) == [0]
    assert isinstance(stream, Iterator)
    stream.close()  # type: ignore[attr-defined]


def test_pixels_agree_with_another_decoder(media: Path) -> None:
    path = media / "video" / "bikes_six_shots.mp4"
    info = probe(path)
    frames = read_frames(path, span(info, 60, 80))
    with av.open(str(path)) as container:
        decoded = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)][60:80]
    difference = np.abs(frames.astype(int) - np.stack(decoded))
    neighbour = np.abs(frames[1:].astype(int) - np.stack(decoded[:-1])).mean()
    assert difference.mean() < 1.5 < neighbour


# ---- clips ------------------------------------------------------------------------------------


def clip_of(path: Path, info: MediaInfo, first: int, last: int) -> Clip:
    part = span(info, first, last)
    return Clip(
        clip_id="c",
        video_id="v",
        uri=str(path),
        kind=info.kind,
        start_frame=first,
        fps=info.fps,
        **vars(part),
    )


def test_a_clip_is_read_whole_or_its_beginning(files: dict[str, Path]) -> None:
    info = probe(files["offset"])
    clip = clip_of(files["offset"], info, 120, 130)
    assert numbers(read_clip(clip)) == list(range(120, 130))
    assert numbers(read_clip(clip, max_frames=4)) == [120, 121, 122, 123]
    assert numbers(read_clip(clip, every=3, max_frames=9)) == [120, 123, 126, 129]


def test_an_image_is_a_clip_of_one_frame(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 9, 3), np.uint8)
    write_image(tmp_path / "i.png", pixels)
    clip = clip_of(tmp_path / "i.png", probe(tmp_path / "i.png"), 0, 1)
    assert np.array_equal(read_clip(clip), pixels[None])
    assert read_clip(clip, size=(4, 2)).shape == (1, 2, 4, 3)


def test_an_image_is_upright_and_its_holes_are_white(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.zeros((30, 40, 3), np.uint8)
    pixels[:, :20] = 255  # the left half becomes the top one
    Image.fromarray(pixels).save(tmp_path / "phone.png", exif=exif)
    upright = read_image(tmp_path / "phone.png")
    assert upright.shape == (40, 30, 3)
    assert upright[:20].min() == 255
    assert upright[20:].max() == 0
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "hole.png")
    assert read_image(tmp_path / "hole.png").min() == 255


# ---- writing ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "height"), [(72, 40), (17, 33), (1, 1), (2, 2), (3, 8), (130, 5)]
)
def test_any_size_is_written_exactly(width: int, height: int, tmp_path: Path) -> None:
    colours = np.array([[200, 30, 40], [20, 180, 60], [128, 128, 128], [30, 60, 220]], np.uint8)
    frames = np.broadcast_to(colours[:, None, None], (4, height, width, 3)).copy()
    write_video(tmp_path / "v.mp4", frames, fps=8)
    info = probe(tmp_path / "v.mp4")
    read = read_frames(tmp_path / "v.mp4", Span.whole(info))
    assert read.shape == frames.shape
    assert np.abs(read.astype(int) - frames).max() <= 4
    assert info.pix_fmt == ("yuv420p" if width % 2 == height % 2 == 0 else "yuv444p")


def test_a_written_video_is_tagged(tmp_path: Path) -> None:
    tags = {"title": "AI-generated", "comment": '{"seed": 1}'}
    write_video(tmp_path / "v.mp4", [painted(1), painted(2)], fps=29.97, metadata=tags)
    with av.open(str(tmp_path / "v.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert {tag: container.metadata[tag] for tag in tags} == tags
        bt709 = (context.colorspace, context.color_primaries, context.color_trc)
        assert [int(value) for value in bt709] == [1, 1, 1]
        assert int(context.color_range) == 1  # 16 to 235
        assert float(container.streams.video[0].average_rate) == pytest.approx(29.97)
    head = (tmp_path / "v.mp4").read_bytes()
    assert head.index(b"moov") < head.index(b"mdat")


def test_wrong_arguments_are_said_before_anything_is_written(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    with pytest.raises(InputError, match="metadata: got 'seed'; accepted: artist, comment"):
        write_video(path, [painted(0)], fps=8, metadata={"seed": "1"})
    with pytest.raises(InputError, match="fps: got 0"):
        write_video(path, [painted(0)], fps=0)
    with pytest.raises(InputError, match="at least one frame"):
        write_video(path, [], fps=8)
    with pytest.raises(InputError, match="a name ending in"):
        write_image(tmp_path / "i.bmp", painted(0))
    with pytest.raises(ValueError, match=r"frame 1: got uint8 \(32, 63, 3\)"):
        write_video(path, [painted(0), painted(1)[:, 1:]], fps=8)
    assert list(tmp_path.iterdir()) == []


def noise(num_frames: int) -> Iterator[Frames]:
    rng = np.random.default_rng(0)
    for _ in range(num_frames):
        yield rng.integers(0, 256, (64, 64, 3), np.uint8)


def test_no_room_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    write_video(path, [painted(3)], fps=8)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(OSError, match="not written"):
            write_video(path, noise(40), fps=8)
        with pytest.raises(OSError, match="File too large"):
            write_image(tmp_path / "i.png", np.concatenate(list(noise(9))))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_in_the_frames_is_raised_as_it_is(tmp_path: Path) -> None:
    def failing() -> Iterator[Frames]:
        yield painted(0)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_video(tmp_path / "v.mp4", failing(), fps=8)
    assert list(tmp_path.iterdir()) == []
