"""Objects as local files: right, fetched once, and no more of them than there is room for."""

import fcntl
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from openreel.pipeline import remote
from openreel.pipeline.commit import sha256
from openreel.pipeline.errors import InputError, MediaError
from openreel.pipeline.listing import list_sources
from openreel.pipeline.media import probe
from openreel.pipeline.remote import local_copy, remote_digest

from .painted import encode
from .store import Store, serving


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with serving() as store:
        yield store


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OPENREEL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def cached_bytes(cache: Path) -> int:
    """Of copies and what becomes one; not of the note that lies with them."""
    files = [path for path in cache.rglob("*") if path.is_file() and path.name != "lock"]
    return sum(path.stat().st_size for path in files)


def test_a_local_path_is_itself(tmp_path: Path, cache: Path) -> None:
    with local_copy(str(tmp_path / "a.mp4"), "0" * 32) as path:
        assert path == tmp_path / "a.mp4"
    assert not cache.exists()


def test_a_copy_has_the_bytes_and_the_kind_of_the_object(store: Store, tmp_path: Path) -> None:
    film = encode(tmp_path / "50% of #1? 'ü'.mp4", 7)
    uri, digest = store.put(f"films/{film.name}", film.read_bytes()), sha256(film)[:32]
    assert remote_digest(uri) == remote_digest(str(film)) == sha256(film)
    with local_copy(uri, digest) as path, local_copy(uri) as again:
        assert path.suffix == ".mp4"
        assert path.read_bytes() == again.read_bytes() == film.read_bytes()
        assert probe(path).num_frames == 7
    asked = len(store.asked)
    with local_copy(uri, digest) as path:
        assert path.is_file()
    assert len(store.asked) == asked, "a copy of known content needs no store"


def test_a_changed_object_is_noticed(store: Store, cache: Path) -> None:
    uri = store.put("films/edited.bin", b"one")
    digest = remote_digest(uri)[:32]
    store.put("films/edited.bin", b"two!")
    with pytest.raises(MediaError, match=r"edited.bin\?.* has changed"), local_copy(uri, digest):
        pass
    assert cached_bytes(cache) == 0
    with local_copy(uri) as path:
        assert path.read_bytes() == b"two!"
    store.put("films/edited.bin", b"three")
    with local_copy(uri) as path:
        assert path.read_bytes() == b"three"
    store.client.delete_object(Bucket="films", Key="edited.bin")
    for use in (remote_digest, lambda uri: local_copy(uri).__enter__()):
        with pytest.raises(MediaError, match="there is no object"):
            use(uri)
    with pytest.raises(MediaError, match="there is no object"), local_copy(uri, "0" * 32):
        pass


def test_many_chunks_arrive_in_order(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openreel.pipeline.remote._CHUNK_BYTES", 1000)
    content = bytes(range(256)) * 20 + b"end"
    uri = store.put("films/chunks.bin", content)
    before = store.gets("films/chunks.bin")
    with local_copy(uri, remote_digest(uri)) as path:
        assert path.read_bytes() == content
    assert store.gets("films/chunks.bin") - before == 2 * 6


@pytest.mark.slow
def test_a_store_that_does_not_answer_is_no_fault_of_the_object(cache: Path, store: Store) -> None:
    uri = "s3://films/a.mp4?endpoint_override=http%3A%2F%2F127.0.0.1%3A9"
    with pytest.raises(OSError, match="NETWORK_CONNECTION"), local_copy(uri, "0" * 32):
        pass
    with pytest.raises(InputError, match="a store that answers"):
        list_sources([uri])
    assert cached_bytes(cache) == 0


# ---- the cache --------------------------------------------------------------------------------


def test_the_least_recently_used_copy_that_nobody_uses_goes(
    store: Store, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENREEL_CACHE_BYTES", "350")
    uris = {name: store.put(f"films/{name}.bin", name.encode() * 100) for name in "abcde"}
    digests = {name: remote_digest(uri)[:32] for name, uri in uris.items()}

    def here(name: str) -> bool:
        return any(cache.rglob(f"{digests[name]}.bin"))

    with local_copy(uris["a"], digests["a"]) as used:
        for name in ("b", "c", "b", "d"):  # b is used again, so that c is the oldest
            with local_copy(uris[name], digests[name]):
                pass
        assert [name for name in "abcde" if here(name)] == ["a", "b", "d"]
        with local_copy(uris["c"], digests["c"]), local_copy(uris["e"], digests["e"]):
            assert [name for name in "abcde" if here(name)] == ["a", "c", "e"]
        assert used.read_bytes() == b"a" * 100
        assert cached_bytes(cache) == 300
    with local_copy(store.put("films/large.bin", b"l" * 1000)) as large:
        assert large.stat().st_size == cached_bytes(cache) == 1000, "more than the limit, yet alone"
    monkeypatch.setenv("OPENREEL_CACHE_BYTES", "much")
    with pytest.raises(InputError, match="OPENREEL_CACHE_BYTES: got 'much'"), local_copy(uris["a"]):
        pass


def test_the_cache_is_looked_through_only_when_it_may_be_full(
    store: Store, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENREEL_CACHE_BYTES", "1000")
    looks: list[int] = []
    make_room = remote._make_room

    def counted(folder: Path, num_bytes: int) -> int:
        looks.append(num_bytes)
        return make_room(folder, num_bytes)

    monkeypatch.setattr(remote, "_make_room", counted)
    for number in range(40):
        with local_copy(store.put(f"films/{number}.bin", b"%02d" % number * 25)):
            assert cached_bytes(cache) <= 1000
    assert 2 < len(looks) < 20, "at first, and then once for several"
    (cache / "media" / "lock").write_text("torn")
    with local_copy(store.uri("films/0.bin")):
        assert cached_bytes(cache) <= 1000


def test_only_the_caches_own_files_are_removed(
    store: Store, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENREEL_CACHE_BYTES", "1")
    cache.mkdir()
    (cache / "mine.bin").write_bytes(b"mine")
    with local_copy(store.put("films/one.bin", b"1" * 50)) as one:
        pass
    with local_copy(store.put("films/two.bin", b"2" * 50)):
        assert not one.exists()
    assert (cache / "mine.bin").read_bytes() == b"mine"


CHILD = """
import json, sys, time
from openreel.pipeline import remote
from openreel.pipeline.commit import sha256
slow, fetched = remote._chunks, []
def chunks(file):
    fetched.append(True)
    print("fetching", flush=True)
    for chunk in slow(file):
        time.sleep(float(sys.argv[3]))
        yield chunk
remote._chunks, remote._CHUNK_BYTES = chunks, 1000
input()
start = time.monotonic()
with remote.local_copy(sys.argv[1], sys.argv[2]) as path:
    print(json.dumps([start, time.monotonic(), bool(fetched), sha256(path)]))
"""


def start(uri: str, digest: str, pause_s: float) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", CHILD, uri, digest, str(pause_s)]
    child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin is not None
    return child


def test_processes_at_once_fetch_an_object_once(store: Store, cache: Path) -> None:
    content = os.urandom(3500)
    uri = store.put("films/shared.bin", content)
    digest = remote_digest(uri)
    before = store.gets("films/shared.bin")
    children = [start(uri, digest[:32], 0.3) for _ in range(3)]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    ended = [json.loads(child.communicate()[0].splitlines()[-1]) for child in children]
    starts, ends, fetched, found = zip(*ended, strict=True)
    assert max(starts) < ends[fetched.index(True)], "all began before the one fetch ended"
    assert set(found) == {digest}
    assert sorted(fetched) == [False, False, True]
    assert store.gets("films/shared.bin") - before == 4, "four chunks, once"
    assert cached_bytes(cache) == len(content)


def test_a_killed_fetch_leaves_nothing_that_stays(
    store: Store, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = os.urandom(3500)
    uri = store.put("films/killed.bin", content)
    digest = remote_digest(uri)[:32]
    child = start(uri, digest, 60.0)
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write("\n")
    child.stdin.flush()
    assert child.stdout.readline() == "fetching\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    (scratch,) = cache.rglob("*.tmp-*")
    monkeypatch.setenv("OPENREEL_CACHE_BYTES", "4000")
    with local_copy(uri, digest) as path:
        assert path.read_bytes() == content
    assert not scratch.exists()
    assert cached_bytes(cache) == len(content)


def test_a_fetch_in_progress_is_in_use(
    store: Store, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread stops in the middle of its fetch while others need its room."""
    monkeypatch.setenv("OPENREEL_CACHE_BYTES", "100")
    uri = store.put("films/waiting.bin", b"w" * 90)
    other = store.put("films/other.bin", b"o" * 90)
    digest, reached, go_on = remote_digest(uri)[:32], threading.Event(), threading.Event()
    plain: Callable[[Any], Iterator[bytes]] = remote._chunks

    def chunks(file: Any) -> Iterator[bytes]:
        for chunk in plain(file):
            if chunk.startswith(b"w"):
                reached.set()
                assert go_on.wait(60)
            yield chunk

    monkeypatch.setattr(remote, "_chunks", chunks)
    found: list[bytes] = []

    def fetch() -> None:
        with local_copy(uri, digest) as path:
            found.append(path.read_bytes())

    thread = threading.Thread(target=fetch)
    thread.start()
    assert reached.wait(60)
    with local_copy(other) as path:
        assert path.read_bytes() == b"o" * 90
        (scratch,) = cache.rglob("*.tmp-*")
        with scratch.open() as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    go_on.set()
    thread.join()
    assert found == [b"w" * 90]


def _digest_into(queue: Any, uri: str) -> None:
    queue.put(remote_digest(uri))


def test_a_forked_process_has_a_client_of_its_own(store: Store) -> None:
    uri = store.put("films/forked.bin", b"forked")
    wanted = remote_digest(uri)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_digest_into, args=(queue, uri))
    child.start()
    try:
        assert queue.get(timeout=60) == wanted
    finally:
        child.kill()
        child.join()
