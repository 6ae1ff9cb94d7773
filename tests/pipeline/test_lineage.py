"""From any row back to the bytes, through every table on the way."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from openreel.pipeline import table
from openreel.pipeline.clip import Clip, Source, Verdict, Video, digest
from openreel.pipeline.commit import sha256
from openreel.pipeline.curate import CLIPS, SOURCES, VIDEOS
from openreel.pipeline.errors import InputError
from openreel.pipeline.lineage import Link, fingerprint_of, lineage


@dataclass(frozen=True, kw_only=True)
class Said(Verdict):
    """A row of a later station, which nothing here knows of."""

    clip_id: str
    text: str = ""


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Two files with the same bytes, a third one, their videos, and a clip with a caption each."""
    for name, content in (("a.mp4", b"one"), ("copy.mp4", b"one"), ("b.mp4", b"two")):
        (tmp_path / name).write_bytes(content)
    paths = sorted(tmp_path.glob("*.mp4"))
    ids = {path.name: sha256(path)[:32] for path in paths}
    sources = [
        Source(
            key=digest(path.name),
            uri=str(path),
            num_bytes=3,
            video_id=ids[path.name],
            licence="CC0" if path.name == "a.mp4" else "",
            origin="a store" if path.name == "a.mp4" else "",
            version="1.2.3",
        )
        for path in paths
    ]
    dataset = tmp_path / "dataset"
    videos = [
        Video(video_id=ids[n], uri=str(tmp_path / n), fps=25.0, pts=tuple(range(100)))
        for n in ("a.mp4", "b.mp4")
    ]
    clips = [a_clip(video) for video in videos]
    said = [Said(clip_id=clip.clip_id, text=f"about {clip.video_id}") for clip in clips]
    for name, key, rows in (
        (SOURCES, "key", sources),
        (VIDEOS, "video_id", videos),
        (CLIPS, "clip_id", clips),
        ("captions/0001-vlm-00000000", "clip_id", said),
    ):
        table.create(dataset / name, stage=name, key=key, fingerprint={"of": name})
        table.append(dataset / name, rows)  # type: ignore[arg-type]
    return dataset


def a_clip(video: Video) -> Clip:
    return Clip(
        clip_id=digest(video.video_id, 25, 75),
        video_id=video.video_id,
        uri=video.uri,
        kind="video",
        start_frame=25,
        num_frames=50,
        start_pts=25,
        end_pts=75,
        time_base="1/25",
        fps=25.0,
        width=64,
        height=32,
        version="1.2.3",
    )


def first_clip(dataset: Path) -> Clip:
    return next(row for row in table.read(dataset / CLIPS, Clip) if row.uri.endswith("a.mp4"))


def by_name(links: list[Link]) -> dict[str, list[dict[str, object]]]:
    found: dict[str, list[dict[str, object]]] = {}
    for link in links:
        found.setdefault(link.table, []).append(link.facts)
    return found


def test_a_clip_leads_back_to_every_file_with_its_bytes(dataset: Path) -> None:
    clip = first_clip(dataset)
    links = lineage(dataset, clip.clip_id)
    assert [link.table for link in links] == [
        "captions/0001-vlm-00000000",
        CLIPS,
        VIDEOS,
        SOURCES,
        SOURCES,
    ]
    found = by_name(links)
    assert found["captions/0001-vlm-00000000"][0]["text"] == f"about {clip.video_id}"
    assert found[CLIPS][0]["span"] == "1.000 s to 3.000 s by the file's own clock"
    assert found[VIDEOS][0]["fps"] == 25.0
    assert found[VIDEOS][0]["pts"] == "100 numbers"
    names = {Path(str(facts["uri"])).name for facts in found[SOURCES]}
    assert names == {"a.mp4", "copy.mp4"}
    assert {facts.get("licence") for facts in found[SOURCES]} == {"CC0", None}
    for link in links:
        assert link.facts["fingerprint"] == fingerprint_of(dataset / link.table)[0]
    assert len({link.facts["fingerprint"] for link in links}) == 4
    assert found[CLIPS][0]["version"] == "1.2.3"


def test_a_video_and_a_file_have_a_way_back_too(dataset: Path) -> None:
    clip = first_clip(dataset)
    links = lineage(dataset, clip.video_id)
    assert [link.table for link in links] == [VIDEOS, SOURCES, SOURCES]
    (link,) = lineage(dataset, digest("b.mp4"))
    assert str(link.facts["uri"]).endswith("b.mp4")


def test_changed_bytes_are_found_out(dataset: Path) -> None:
    clip = first_clip(dataset)

    def states() -> dict[str, str]:
        links = lineage(dataset, clip.clip_id, verify=True)
        sources = [link.facts for link in links if link.table == SOURCES]
        return {Path(str(f["uri"])).name: str(f["bytes"]) for f in sources}

    assert states() == {"a.mp4": "unchanged", "copy.mp4": "unchanged"}
    Path(clip.uri).write_bytes(b"two")
    (Path(clip.uri).parent / "copy.mp4").unlink()
    now = states()
    assert now["a.mp4"].startswith("changed: their digest is ")
    assert now["copy.mp4"].startswith("cannot be read: ")
    assert all("bytes" not in link.facts for link in lineage(dataset, clip.clip_id))


def test_the_newest_attempt_is_the_row(dataset: Path) -> None:
    clip = first_clip(dataset)
    again = replace(clip, attempt=2, status="rejected", reason="too still")
    table.append(dataset / CLIPS, [again])
    facts = by_name(lineage(dataset, clip.clip_id))[CLIPS]
    assert [f["reason"] for f in facts] == ["too still"]


def test_an_unknown_id_is_a_mistake_in_one_line(dataset: Path) -> None:
    with pytest.raises(InputError, match=r"row: got 'nobody'; accepted: a clip_id, ") as caught:
        lineage(dataset, "nobody")
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="a folder that a station has written"):
        lineage(dataset / CLIPS, "nobody")


def test_a_fingerprint_is_of_the_settings_alone(dataset: Path) -> None:
    before, settings = fingerprint_of(dataset / CLIPS)
    assert settings == {"of": CLIPS}
    header = dataset / CLIPS / "_stage.json"
    header.write_text(json.dumps(json.loads(header.read_text()), indent=7))
    assert fingerprint_of(dataset / CLIPS)[0] == before
