"""Frames on the wrong side of a cut: numbers are painted into the pixels and read from the clips.

Ten kinds of files (constant and variable rate, B frames, long groups, late starts, rotation, five
codecs) are cut at random places, by openreel's copies and by the ffmpeg calls of two other
pipelines, re-enacted with the same ffmpeg:

    video2dataset   the segment muxer at the clips' times, with forced key frames ("exact") or
                    stream copy ("low", its default)
    Open-Sora 1.2   -ss before the input, -t, times rounded to whole seconds as its script's
                    FrameTimecode(fps=1) does; and once more with times that are not rounded
"""

import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from openreel.pipeline.keyed import generator
from openreel.pipeline.media import ffmpeg_program
from openreel.pipeline.probe import MediaInfo, probe
from openreel.pipeline.transcode import TranscodeConfig, transcode
from tests.benchmarks.timing import report
from tests.pipeline.painted import clip_of, encode, ffmpeg, numbers

NUM_FRAMES = 250
JITTER = "setpts=PTS+mod(N\\,3)*0.011/TB"
ROUNDS = 6
KINDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "h264 mp4": ("mp4", ()),
    "B frames": ("mp4", ("-bf", "3", "-b_strategy", "0")),
    "one group": ("mp4", ("-g", "600")),
    "variable rate": ("mp4", ("-vf", JITTER, "-fps_mode", "passthrough", "-bf", "2")),
    "variable rate mkv": ("mkv", ("-vf", JITTER, "-fps_mode", "passthrough")),
    "late start": ("mp4", ("-output_ts_offset", "7.3", "-bf", "2")),
    "late start ts": (
        "ts",
        (
            "-output_ts_offset",
            "3.21",
        ),
    ),
    "hevc": ("mp4", ("-c:v", "libx265", "-x265-params", "log-level=none")),
    "vp9": ("webm", ("-c:v", "libvpx-vp9", "-crf", "20", "-b:v", "0", "-cpu-used", "8")),
    "mpeg4 avi": ("avi", ("-c:v", "mpeg4", "-qscale:v", "2", "-bf", "2")),
    "turned": ("mp4", ()),
}


@dataclass(frozen=True, kw_only=True)
class Film:
    """A file and where it is cut: clip i holds frames [edges[i], edges[i + 1])."""

    path: Path
    info: MediaInfo
    edges: Sequence[int]
    folder: Path

    def seconds(self, frame: int) -> float:
        """Of a frame, from the first one, as shot detectors tell it."""
        ticks = (*self.info.pts, self.info.end_pts)
        return round(float((ticks[frame] - ticks[0]) * Fraction(self.info.time_base)), 6)


def films(folder: Path) -> list[Film]:
    made = []
    for kind, (suffix, options) in KINDS.items():
        path = encode(folder / f"{kind.replace(' ', '-')}.{suffix}", NUM_FRAMES, *options)
        if kind == "turned":
            turned = path.with_name("really-turned.mp4")
            ffmpeg("-display_rotation", "90", "-i", path, "-c", "copy", turned)
            path = turned
        info = probe(path)
        assert info.num_frames == NUM_FRAMES, (kind, info.num_frames)
        for turn in range(ROUNDS):
            cuts = generator(0, "edges", kind, turn).integers(5, 26, NUM_FRAMES).cumsum()
            edges = [0, *(int(c) for c in cuts if c < NUM_FRAMES - 5), NUM_FRAMES]
            place = folder / f"{path.stem}-{turn}"
            place.mkdir()
            made.append(Film(path=path, info=info, edges=edges, folder=place))
    return made


# ---- the methods ------------------------------------------------------------------------------


def ours(film: Film) -> list[Path]:
    paths = []
    for a, b in zip(film.edges, film.edges[1:], strict=False):
        clip = clip_of(film.path, film.info, a, b)
        paths.append(film.folder / f"ours-{a}.mp4")
        transcode(film.path, clip, paths[-1], TranscodeConfig(preset="ultrafast"))
    return paths


def segments(film: Film, name: str, *options: str) -> list[Path]:
    times = ",".join(str(film.seconds(edge)) for edge in film.edges[1:-1])
    settings = ["-map", "0", "-f", "segment", "-segment_times", times, "-reset_timestamps", "1"]
    if not options:
        settings += ["-force_key_frames", times]
    ffmpeg("-i", film.path, *settings, *options, film.folder / f"{name}-%03d.mp4")
    return sorted(film.folder.glob(f"{name}-*.mp4"))


def exact_segments(film: Film) -> list[Path]:
    return segments(film, "exact")


def copied_segments(film: Film) -> list[Path]:
    return segments(film, "low", "-c", "copy")


def seeks(film: Film, name: str, rounded: Callable[[float], float]) -> list[Path]:
    paths = []
    for a, b in zip(film.edges, film.edges[1:], strict=False):
        start, end = rounded(film.seconds(a)), rounded(film.seconds(b))
        paths.append(film.folder / f"{name}-{a}.mp4")
        length = str(round(end - start, 6))
        ffmpeg("-ss", str(start), "-i", film.path, "-t", length, "-map", "0:v", paths[-1])
    return paths


def whole_seconds(film: Film) -> list[Path]:
    return seeks(film, "rounded", lambda seconds: float(round(seconds)))


def exact_seconds(film: Film) -> list[Path]:
    return seeks(film, "seek", lambda seconds: seconds)


METHODS: dict[str, Callable[[Film], list[Path]]] = {
    "openreel": ours,
    "video2dataset, exact": exact_segments,
    "video2dataset, low": copied_segments,
    "Open-Sora, whole seconds": whole_seconds,
    "Open-Sora, exact seconds": exact_seconds,
}


# ---- what came out ----------------------------------------------------------------------------


def shown(path: Path, film: Film) -> list[int]:
    """The numbers painted into a clip's frames, decoded by a plain ffmpeg; none for a bad file."""
    if not path.exists():
        return []
    turned = film.info.rotation in (90, 270)
    width, height = film.info.width, film.info.height
    argv = [ffmpeg_program(), "-nostdin", "-loglevel", "quiet", "-i", str(path)]
    argv += ["-vf", f"scale={width}:{height}", "-fps_mode", "passthrough", "-f", "rawvideo"]
    output = subprocess.run([*argv, "-pix_fmt", "rgb24", "pipe:"], stdout=subprocess.PIPE).stdout
    frames = np.frombuffer(output, np.uint8)
    frames = frames[: frames.size // (width * height * 3) * (width * height * 3)]
    frames = frames.reshape(-1, height, width, 3)
    upright = np.rot90(frames, k=film.info.rotation // 90, axes=(1, 2)) if turned else frames
    return numbers(upright) if len(upright) else []


def counted(film: Film, paths: Sequence[Path]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for i, (a, b) in enumerate(zip(film.edges, film.edges[1:], strict=False)):
        found = shown(paths[i], film) if i < len(paths) else []
        own = range(a, b)
        outside = sum(number not in own for number in found)
        missing = len(set(own) - set(found))
        counts += Counter(clips=1, frames=len(own), outside=outside, missing=missing)
        counts["wrong"] += int(found != list(own))
    return counts


def main() -> None:
    totals: dict[str, Counter[str]] = {name: Counter() for name in METHODS}
    with tempfile.TemporaryDirectory() as folder:
        for film in films(Path(folder)):
            for name, method in METHODS.items():
                totals[name] += counted(film, method(film))
    for name, counts in totals.items():
        print(f"{name:26} {dict(counts)}", file=sys.stderr)
    report(
        "edges",
        [
            (
                f"frames outside their span, in {counts['clips']} clips",
                name,
                f"{counts['outside']} (missing {counts['missing']} of {counts['frames']}; "
                f"{counts['wrong']} clips not exact)",
            )
            for name, counts in totals.items()
        ],
    )


if __name__ == "__main__":
    main()
