"""Videos whose frames carry their own number, so that a test can read which frames it got.

The number is painted as eight black or white squares; compression cannot blur one into another.
"""

import subprocess
from pathlib import Path

import numpy as np

from openreel.pipeline.clip import Clip, digest
from openreel.pipeline.media import Frames, ffmpeg_program
from openreel.pipeline.probe import MediaInfo

SIDE = 8
WIDTH, HEIGHT = 8 * SIDE, 4 * SIDE


def painted(number: int) -> Frames:
    """One frame, uint8 (HEIGHT, WIDTH, 3), with a number below 256."""
    bits = [(number >> bit) & 1 for bit in range(8)]
    row = np.repeat(np.array(bits, np.uint8) * 255, SIDE)
    return np.repeat(np.tile(row, (HEIGHT, 1))[..., None], 3, axis=2)


def numbers(frames: Frames) -> list[int]:
    """The numbers of (T, H, W, 3) frames, which may have been scaled."""
    columns = np.linspace(0, frames.shape[2], 9)[:-1] + frames.shape[2] / 16
    levels = frames[:, frames.shape[1] // 2, columns.astype(int), 1]
    return [int(sum((level > 127) << bit for bit, level in enumerate(row))) for row in levels]


def encode(path: Path, num_frames: int, *options: str, before: tuple[str, ...] = ()) -> Path:
    """Painted frames 0, 1, ... at 25 a second, through ffmpeg with any options."""
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-video_size", f"{WIDTH}x{HEIGHT}"]
    source += ["-framerate", "25", "-i", "pipe:"]
    argv = [ffmpeg_program(), "-y", "-loglevel", "error", *before, *source, *options, str(path)]
    pixels = b"".join(painted(n % 256).tobytes() for n in range(num_frames))
    subprocess.run(argv, input=pixels, check=True)
    return path


def ffmpeg(*arguments: str | Path) -> None:
    argv = [ffmpeg_program(), "-y", "-nostdin", "-loglevel", "error", *map(str, arguments)]
    subprocess.run(argv, check=True)


def scene(seed: int, num_frames: int, size: tuple[int, int]) -> Frames:
    """A striped grey background, panning, with a coloured disc that moves across it."""
    rng = np.random.default_rng(seed)
    width, height = size
    y, x = np.mgrid[:height, :width]
    base, stripe, pan = 40 + 45 * (seed % 4), rng.uniform(0.1, 0.4), rng.uniform(-1, 1)
    colour = np.eye(3)[seed % 3] * 200 + 30
    frames = np.empty((num_frames, height, width, 3))
    for t in range(num_frames):
        grey = base + 15 * np.sin(stripe * (x + pan * t) + 0.7 * seed)
        frames[t] = grey[..., None]
        centre = width * (0.2 + 0.6 * t / num_frames)
        frames[t][(x - centre) ** 2 + (y - height / 2) ** 2 < (min(size) / 4) ** 2] = colour
    return np.clip(frames, 0, 255).astype(np.uint8)


def clip_of(path: Path, info: MediaInfo, first: int, last: int) -> Clip:
    """Frames [first, last) of a probed file as a clip."""
    ticks = (*info.pts, info.end_pts)
    return Clip(
        clip_id=digest(path, first, last),
        video_id="",
        uri=str(path),
        kind="video",
        start_frame=first,
        num_frames=last - first,
        start_pts=ticks[first],
        end_pts=ticks[last],
        time_base=info.time_base,
        fps=info.fps,
        width=info.width,
        height=info.height,
        container=info.container,
    )
