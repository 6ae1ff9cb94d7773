"""The procedural world as real files: MP4s of several shots, images, and their captions.

world/
  video-0000.mp4 ...   one to eight shots with hard cuts, one size and rate a file
  image-0000.png ...
  world.json           what the folder is rendered from; written first
  captions.jsonl       a line a shot and kind: {"file", "kind", "text", "start_s", "end_s"};
                       written last: where it is, the world is complete
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from openreel.deploy.world import FPS, SIZES, Scene, describe, draw_scene, render
from openreel.pipeline.commit import write_text
from openreel.pipeline.errors import InputError
from openreel.pipeline.keyed import generator
from openreel.pipeline.media import Frames, write_image, write_video
from openreel.pipeline.progress import progress

MAX_SHOTS = 8


@dataclass(frozen=True)
class Film:
    """One file: shots in order, one after another."""

    name: str
    shots: tuple[Scene, ...]

    def frames(self) -> Iterator[Frames]:
        for shot in self.shots:
            yield from render(shot)

    def captions(self) -> Iterator[dict[str, object]]:
        """The truth about each shot, with its seconds."""
        start = 0
        for shot in self.shots:
            end = start + shot.num_frames
            said = describe(shot)
            span = {"start_s": start / shot.fps, "end_s": end / shot.fps}
            for kind, text in (("short", said.short), ("dense", said.dense)):
                yield {"file": self.name, "kind": kind, "text": text, **span}
            start = end


def draw_film(seed: int, index: int) -> Film:
    """Video number `index`: its size and rate hold for all of its shots; shades change at cuts."""
    random = generator(seed, "film", index)
    size = SIZES[index % len(SIZES)]
    fps = float(random.choice(FPS))
    shots: list[Scene] = []
    for number in range(int(random.integers(1, MAX_SHOTS + 1))):
        before = shots[-1].shade if shots else None
        key = f"{index} {number}"
        shots.append(draw_scene(seed, key, size=size, fps=fps, other_than=before))
    return Film(f"video-{index:04d}.mp4", tuple(shots))


def draw_image(seed: int, index: int) -> Film:
    """Image number `index`."""
    scene = draw_scene(seed, f"image {index}", num_frames=1)
    return Film(f"image-{index:04d}.png", (scene,))


def write_world(folder: Path, *, num_videos: int, num_images: int, seed: int) -> None:
    """Render the world into folder. What is there already stays; a finished world is left alone.

    Raises InputError for a folder that was rendered from other numbers.
    """
    own = {"num_videos": num_videos, "num_images": num_images, "seed": seed}
    marker, captions = folder / "world.json", folder / "captions.jsonl"
    if marker.exists() and (before := json.loads(marker.read_text())) != own:
        raise InputError("world", own, f"{before}, from which {folder} was rendered")
    if marker.exists() and captions.exists():
        return
    # First, so that an interrupted world is only ever completed from the same numbers.
    write_text(marker, json.dumps(own))
    films = [draw_film(seed, i) for i in range(num_videos)]
    films += [draw_image(seed, i) for i in range(num_images)]
    with progress("world", total=len(films)) as report, ThreadPoolExecutor(2) as pool:
        for _ in pool.map(lambda film: _write(folder, film), films):
            report()
    lines = (json.dumps(caption) for film in films for caption in film.captions())
    write_text(captions, "\n".join(lines) + "\n")


def _write(folder: Path, film: Film) -> None:
    path = folder / film.name
    if path.exists():
        return
    if path.suffix == ".png":
        write_image(path, np.ascontiguousarray(render(film.shots[0])[0]))
    else:
        write_video(path, film.frames(), fps=film.shots[0].fps, crf=12)
