"""Where URIs point, and what is listed there, against a server of the S3 protocol."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from openreel.pipeline.commit import sha256
from openreel.pipeline.errors import InputError, MediaError
from openreel.pipeline.listing import MISSING, list_sources
from openreel.pipeline.media import read_clip, stream_clip
from openreel.pipeline.probe import probe
from openreel.pipeline.remote import Place, is_uri, local_copy, local_path, remote_digest

from .painted import clip_of, encode, numbers
from .store import Store, serving

ODD = "odd names/50% of #1? 'ü'.mp4"


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with serving() as store:
        yield store


@pytest.fixture(scope="module")
def painted(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A local folder whose files are also in the bucket, below day/."""
    folder = tmp_path_factory.mktemp("painted")
    (folder / "odd names").mkdir()
    for number, name in enumerate(("a.mp4", "b.webm", ODD), start=5):
        encode(folder / name, number)
    (folder / "notes.txt").write_text("notes")
    (folder / "captions.jsonl").write_text('{"file": "a.mp4", "kind": "short", "text": "bits"}\n')
    for path in folder.rglob("*.*"):
        store.put(f"films/day/{path.relative_to(folder)}", path.read_bytes())
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENREEL_CACHE", str(tmp_path / "cache"))


# ---- places -----------------------------------------------------------------------------------


def test_a_place_is_written_in_one_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    for uri, wanted, path in [
        ("s3://films/a b%23.mp4", "s3://films/a%20b%23.mp4", "films/a b#.mp4"),
        ("S3://films/day/", "s3://films/day", "films/day"),
        ("s3://films", "s3://films/", "films"),
        ("gs://anonymous@films/ü.mp4", "gs://anonymous@films/%C3%BC.mp4", "films/ü.mp4"),
        ("s3://films/a?region=eu", "s3://films/a?region=eu", "films/a"),
        ("s3://films/a\nb%25.mp4", "s3://films/a%0Ab%25.mp4", "films/a\nb%.mp4"),
    ]:
        place = Place.of(uri)
        assert (place.uri, place.path) == (wanted, path)
        assert Place.of(place.uri) == place


def test_the_environments_endpoint_becomes_part_of_the_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://store:9000")
    monkeypatch.setenv("AWS_REGION", "eu")
    option = "endpoint_override=http%3A%2F%2Fstore%3A9000"
    assert Place.of("s3://films/a").uri == f"s3://films/a?{option}&region=eu"
    assert Place.of("s3://films/a?region=us").query == f"region=us&{option}"
    assert Place.of("s3://films/a?endpoint_override=other").query == "endpoint_override=other"
    assert Place.of("gs://films/a").query == ""


@pytest.mark.parametrize(
    "uri",
    ["s3://key:hush@films/a", "s3://key:hu/hush@films/a", "gs://hush@films/a#b", "s3://hush@f/a"],
)
def test_a_uri_with_credentials_is_refused_and_not_shown(uri: str) -> None:
    with pytest.raises(InputError, match=r"input: got '(s3|gs)://\.\.\.'") as caught:
        list_sources([uri])
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    "uri",
    ["ftp://films/a", "s3:///a", "s3://films/a#1.mp4", "s3://films/a?colour=red", "s3://films//a"],
)
def test_a_uri_that_cannot_be_opened_is_refused(store: Store, uri: str) -> None:
    more = store.query.replace("?", "&" if "?" in uri else "?") if "films" in uri else ""
    with pytest.raises(InputError, match=r"input: got '(ftp|s3)://"):
        list_sources([uri.replace("#", more + "#") if "#" in uri else uri + more])


def test_local_paths_are_told_from_uris() -> None:
    assert [is_uri(x) for x in ("s3://a/b", "a.mp4", "/s3:/a", "c:d", "://a")] == [
        True,
        *[False] * 4,
    ]
    assert local_path("file:///a%20b%23c") == "/a b#c"


def test_google_storage_is_known() -> None:
    filesystem = Place.of("gs://anonymous@films/a?endpoint_override=127.0.0.1:9&scheme=http")
    assert filesystem.filesystem().type_name == "gcs"


# ---- listing ----------------------------------------------------------------------------------


def test_a_prefix_lists_as_the_same_folder_does(store: Store, painted: Path) -> None:
    remote, local = list_sources([store.uri("films/day")]), list_sources([painted])
    assert remote.others == local.others == {".txt": 1}
    assert {Place.of(s.uri).path for s in remote.sources} == {
        f"films/day/{Path(s.uri).relative_to(painted)}" for s in local.sources
    }
    by_size = {source.num_bytes: source for source in local.sources}
    assert len(by_size) == 3
    for source in remote.sources:
        assert source.texts == by_size[source.num_bytes].texts
        assert remote_digest(source.uri) == sha256(Path(by_size[source.num_bytes].uri))
    assert sum(len(source.texts) for source in remote.sources) == 1


def test_an_object_and_its_prefix_give_one_source(store: Store, painted: Path) -> None:
    prefix, one = store.uri("films/day/"), store.uri("films/day/a.mp4")
    (alone,) = list_sources([one]).sources
    assert alone.texts[0].text == "bits"
    assert alone in list_sources([one, prefix]).sources
    assert len(list_sources([one, prefix, store.uri("films")]).sources) == 3


def test_the_key_changes_with_the_object(store: Store) -> None:
    uri = store.put("films/changing/a.mp4", b"one")
    before = list_sources([uri]).sources[0]
    assert list_sources([uri]).sources[0] == before
    store.put("films/changing/a.mp4", b"three")
    assert list_sources([uri]).sources[0].key != before.key
    store.client.delete_object(Bucket="films", Key="changing/a.mp4")


def test_what_is_not_there_is_named(store: Store, painted: Path) -> None:
    for path in ("films/nothing", "nobucket/a.mp4"):
        with pytest.raises(InputError, match="accepted: a bucket, prefix, object or manifest"):
            list_sources([store.uri(path)])
    with pytest.raises(InputError, match=r"notes.txt.*; accepted: media files"):
        list_sources([store.uri("films/day/notes.txt")])


def test_names_that_cannot_be_asked_for_are_rejected_rows(store: Store) -> None:
    store.client.create_bucket(Bucket="strange")
    for key in ("a//b.mp4", "a/../c.mp4", "a/d.mp4", "a//captions.jsonl"):
        store.put(f"strange/{key}", b"x")
    sources = {s.uri.partition("?")[0]: s for s in list_sources([store.uri("strange")]).sources}
    assert {uri: s.status for uri, s in sources.items()} == {
        "s3://strange/a//b.mp4": "rejected",
        "s3://strange/a/../c.mp4": "rejected",
        "s3://strange/a/d.mp4": "ok",
    }
    assert "rename it" in sources["s3://strange/a//b.mp4"].reason
    with (
        pytest.raises(MediaError, match="there is no object"),
        local_copy(store.uri("strange/a//b.mp4")),
    ):
        pass


@pytest.mark.parametrize("there", ["local", "remote"])
def test_a_manifest_names_objects_and_files(
    store: Store, painted: Path, tmp_path: Path, there: str
) -> None:
    named = {"a": store.uri("films/day/a.mp4"), "gone": store.uri("films/day/gone.mp4")}
    named["local"] = str(painted / "b.webm")
    if there == "remote":
        named |= {"beside": "odd names/../" + ODD, "lost": "lost.mp4"}
    lines = "\n".join(json.dumps({"file": uri, "text": text}) for text, uri in named.items())
    manifest = tmp_path / "list.jsonl"
    manifest.write_text(lines)
    given = str(manifest) if there == "local" else store.put("films/day/list.jsonl", lines.encode())
    listing = list_sources([given])
    sources = {source.texts[0].text: source for source in listing.sources}
    assert set(sources) == set(named)
    assert {text for text, s in sources.items() if s.reason == MISSING} == set(named) & {
        "gone",
        "lost",
    }
    assert sources["local"].uri == named["local"]
    assert sources["a"].uri == named["a"]
    assert sources["a"].num_bytes == (painted / "a.mp4").stat().st_size
    if there == "remote":
        assert sources["beside"].uri == store.uri(f"films/day/{ODD}")
        store.put("films/day/list.jsonl", b'{"file": "../../elsewhere/a.mp4"}')
        with pytest.raises(InputError, match=r"list.jsonl\?.*, line 1: got '../../else"):
            list_sources([given])
        store.client.delete_object(Bucket="films", Key="day/list.jsonl")


def test_a_row_alone_finds_its_object_in_another_process(
    store: Store, painted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", store.endpoint)
    (source,) = list_sources(["s3://films/day/a.mp4"]).sources
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    code = "import sys; from openreel.pipeline.remote import *; print(remote_digest(sys.argv[1]))"
    argv = [sys.executable, "-c", code, source.uri]
    assert subprocess.check_output(argv, text=True).strip() == sha256(painted / "a.mp4")


def test_a_clip_of_a_store_is_read_as_its_local_file_is(
    store: Store, painted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENREEL_CACHE", str(tmp_path))
    path = painted / "a.mp4"
    here = clip_of(path, probe(path), 1, 4)
    there = replace(here, uri=store.uri("films/day/a.mp4"), video_id=sha256(path)[:32])
    assert numbers(np.stack(list(stream_clip(there)))) == [1, 2, 3]
    np.testing.assert_array_equal(read_clip(there), read_clip(here))
