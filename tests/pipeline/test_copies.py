"""A copy holds exactly its clip: the frames, their times, their size; it is written once, whole."""

import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from openreel.pipeline import table
from openreel.pipeline.clip import Clip, Copy
from openreel.pipeline.copies import CopyConfig, copied, read_from_copies
from openreel.pipeline.curate import COPIES, CurateConfig, curate, usable_clips
from openreel.pipeline.errors import InputError, MediaError
from openreel.pipeline.media import read_clip
from openreel.pipeline.probe import probe
from openreel.pipeline.sandbox import Limits
from openreel.pipeline.transcode import TranscodeConfig, transcode

from .painted import clip_of, encode, ffmpeg, numbers

FAST = TranscodeConfig(preset="ultrafast")
JITTER = "setpts=PTS+mod(N\\,3)*0.011/TB"
KINDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "b-frames": ("mp4", ("-bf", "3", "-g", "100")),
    "variable": ("mkv", ("-vf", JITTER, "-fps_mode", "passthrough")),
    "late": ("mp4", ("-output_ts_offset", "7.3", "-bf", "2")),
    "stream": ("ts", ("-output_ts_offset", "3.2")),
    "deep": ("mp4", ("-pix_fmt", "yuv420p10le")),
    "odd": ("mp4", ("-vf", "scale=95:47", "-pix_fmt", "yuv444p")),
    "wide": ("mp4", ("-vf", "setsar=2/1")),
}


def cut(path: Path, first: int, last: int) -> Clip:
    return clip_of(path, probe(path), first, last)


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_holds_its_frames_at_their_times(kind: str, tmp_path: Path) -> None:
    suffix, options = KINDS[kind]
    path = encode(tmp_path / f"v.{suffix}", 120, *options)
    source = probe(path)
    for first, last in ((0, 9), (37, 64), (111, 120)):
        clip = clip_of(path, source, first, last)
        copy = copied(clip, tmp_path / "media", FAST, Limits())
        found = probe(Path(copy.uri))
        assert (found.width, found.height, found.rotation) == (source.width, source.height, 0)
        assert found.sample_aspect == "1:1"
        (again,) = read_from_copies([clip], {clip.clip_id: copy})
        assert numbers(read_clip(again)) == list(range(first, last))
        ticks = np.array(source.pts[first:last], dtype=object) - source.pts[first]
        times = [tick * Fraction(source.time_base) for tick in ticks]
        assert [tick * Fraction(found.time_base) for tick in found.pts] == times


def test_a_turned_source_has_an_upright_copy(tmp_path: Path) -> None:
    plain = encode(tmp_path / "plain.mp4", 20)
    ffmpeg("-display_rotation", "90", "-i", plain, "-c", "copy", tmp_path / "turned.mp4")
    clip = cut(tmp_path / "turned.mp4", 5, 15)
    copy = copied(clip, tmp_path / "media", FAST, Limits())
    found = probe(Path(copy.uri))
    assert (found.width, found.height, found.rotation) == (clip.width, clip.height, 0)
    assert clip.height > clip.width
    (again,) = read_from_copies([clip], {clip.clip_id: copy})
    assert numbers(np.rot90(read_clip(again), -1, axes=(1, 2))) == list(range(5, 15))


def test_a_good_copy_is_kept_and_a_damaged_one_is_written_again(tmp_path: Path) -> None:
    clip = cut(encode(tmp_path / "v.mp4", 30), 3, 20)
    first = copied(clip, tmp_path / "media", FAST, Limits())
    before = Path(first.uri).stat().st_mtime_ns
    assert copied(clip, tmp_path / "media", FAST, Limits()) == first
    assert Path(first.uri).stat().st_mtime_ns == before
    whole = Path(first.uri).read_bytes()
    Path(first.uri).write_bytes(whole[: len(whole) // 2])
    assert copied(clip, tmp_path / "media", FAST, Limits()) == first
    assert Path(first.uri).read_bytes() == whole


def test_a_span_that_is_not_there_leaves_no_file(tmp_path: Path) -> None:
    clip = cut(encode(tmp_path / "v.mp4", 30), 3, 20)
    shorter = encode(tmp_path / "shorter.mp4", 12)
    with pytest.raises(MediaError, match=r"are \(64, 32, 9\), not \(64, 32, 17\)"):
        transcode(shorter, clip, tmp_path / "out.mp4", FAST)
    (tmp_path / "none.mp4").write_bytes(b"no film")
    with pytest.raises(MediaError, match="does not decode"):
        transcode(tmp_path / "none.mp4", clip, tmp_path / "out.mp4", FAST)
    os.mkfifo(tmp_path / "never.mp4")
    with pytest.raises(OSError, match=r"out.mp4: not written: stopped after 0.5 s"):
        transcode(tmp_path / "never.mp4", clip, tmp_path / "out.mp4", FAST, Limits(wall_s=0.5))
    left = sorted(p.name for p in tmp_path.iterdir())
    assert left == ["never.mp4", "none.mp4", "shorter.mp4", "v.mp4"]


def test_the_config_is_validated() -> None:
    with pytest.raises(InputError, match=r"copies.crf: got 52; accepted: 0 to 51"):
        TranscodeConfig(crf=52)
    with pytest.raises(InputError, match=r"copies.key_frames: got 0"):
        TranscodeConfig(key_frames=0)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_local")
def test_curated_copies_are_what_is_read(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    encode(tmp_path / "raw" / "v.mp4", 60, "-bf", "2")
    config = CurateConfig(copies=CopyConfig(enabled=True, encode=FAST))
    curate([tmp_path / "raw"], tmp_path / "d", config)
    (clip,) = usable_clips(tmp_path / "d")
    (row,) = table.usable(tmp_path / "d" / COPIES, Copy)
    assert clip.uri == row.uri
    assert Path(clip.uri).is_relative_to(tmp_path / "d" / "media")
    (tmp_path / "raw" / "v.mp4").unlink()  # the source may go
    assert numbers(read_clip(clip)) == list(range(60))
