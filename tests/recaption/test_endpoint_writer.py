"""Captions from a server: what it is shown and told, and what becomes of its answers."""

import base64
import io
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from openreel.pipeline.errors import InputError
from openreel.recaption.endpoint import EndpointConfig
from openreel.recaption.endpoint_writer import (
    EndpointWriter,
    EndpointWriterConfig,
    endpoint_identity,
)
from openreel.recaption.instructions import Instructions, question
from openreel.recaption.writer import Window
from tests.recaption.server import Asked, ChatServer, Reply, said

CONFIG = EndpointWriterConfig()


@contextmanager
def served(
    reply: Callable[[Asked, int], Reply], **config: Any
) -> Iterator[tuple[ChatServer, EndpointWriter]]:
    with ChatServer(reply) as server:
        endpoint = EndpointConfig(base_url=server.url, model="m", backoff_s=0.001, **config)
        writer = EndpointWriter(endpoint, CONFIG)
        try:
            yield server, writer
        finally:
            writer.endpoint.close()


def window(key: str, length: int = 3, hint: str = "") -> Window:
    """A colour that is the window's own, brighter from frame to frame."""
    frames = np.zeros((length, 32, 48, 3), np.uint8)
    frames[..., sum(map(ord, key)) % 3] = 100 + 40 * np.arange(length)[:, None, None]
    return Window(key=key, frames=frames, times=tuple(0.5 * t for t in range(length)), hint=hint)


def shown(request: Asked) -> list[np.ndarray]:
    """The frames of a request, as whoever receives it decodes them."""
    frames = []
    for part in request.body["messages"][-1]["content"]:
        if part["type"] == "image_url":
            head, _, data = part["image_url"]["url"].partition(",")
            assert head == "data:image/jpeg;base64"
            picture = Image.open(io.BytesIO(base64.b64decode(data)))
            assert picture.format == "JPEG"
            frames.append(np.asarray(picture))
    return frames


def test_the_server_sees_the_frames_and_their_times() -> None:
    windows = [window("a"), window("b", hint="the camera pans left."), window("c", length=1)]
    with served(lambda request, _: said("A red ball rolls.")) as (server, writer):
        written = writer.write(windows, "dense")
        assert writer.spent.requests == 3
    assert [w.text for w in written] == ["A red ball rolls."] * 3
    assert {(w.outcome, w.reason, w.tokens_in, w.tokens_out) for w in written} == {
        ("ok", "", 100, 10)
    }
    by_text = {request.text: request for request in server.asked}
    assert len(by_text) == 3
    for asked in windows:
        request = by_text[question(CONFIG.instructions.dense, asked)]
        frames = shown(request)
        assert len(frames) == len(asked.frames)
        # Red is red and blue is blue, within what JPEG does.
        assert np.abs(np.stack(frames).astype(int) - asked.frames).max() <= 4
    text = question(CONFIG.instructions.dense, windows[1])
    assert text.startswith("These 3 frames of one clip are seen at 0.00, 0.50, 1.00 seconds.")
    assert text.endswith(
        "\n\nMeasured, not seen, and more reliable than an impression: the camera pans left."
    )
    assert "still picture" in question(CONFIG.instructions.dense, windows[2])
    assert "Measured" not in question(CONFIG.instructions.dense, windows[2])


def test_a_real_clips_frames_arrive_as_they_are(media: Path) -> None:
    path = sorted((media / "video").glob("*.mp4"))[0]
    with av.open(str(path)) as file:
        frames = [
            f.to_ndarray(format="rgb24")
            for f, _ in zip(file.decode(video=0), range(2), strict=False)
        ]
    real = Window(key=path.name, frames=np.stack(frames), times=(0.0, 0.04))
    with served(lambda request, _: said("A street.")) as (server, writer):
        assert writer.write([real], "short")[0].outcome == "ok"
    errors = np.stack(shown(server.asked[0])).astype(float) - real.frames
    assert 10 * np.log10(255**2 / np.mean(errors**2)) > 30


def test_each_window_has_its_own_outcome() -> None:
    keys = ["fine", "down", "mute", "long", "no", "late"]
    replies = {
        "fine": said("A ball."),
        "down": Reply(status=500),
        "mute": said(""),
        "long": said("A ba", finish="length"),
        "no": said("", message={"content": "", "refusal": "no"}),
        "late": Reply(hang=True),
    }
    windows = [window(key, hint=key) for key in keys]
    windows.insert(2, replace(windows[0], frames=windows[0].frames[:0]))
    windows.insert(3, replace(windows[0], frames=windows[0].frames[:, :0]))
    with served(
        lambda request, _: replies[request.text.split()[-1].rstrip(".")],
        max_tries=2,
        timeout_s=1.5,
    ) as (_, writer):
        written = writer.write(windows, "short")
    assert [w.outcome for w in written] == [
        *("ok", "error", "error", "error", "error", "truncated", "blocked", "error")
    ]
    assert [w.text for w in written] == ["A ball.", "", "", "", "", "A ba", "", ""]
    assert all(w.reason and "\n" not in w.reason for w in written[1:])
    assert written[2].reason == "frames: 0 frames with 3 times"
    assert written[7].reason == "2 tries, the last: no answer within 1.5 s"


def test_seeds_are_the_windows_own() -> None:
    def seeds(order: list[str], kind: str = "dense") -> dict[str, int]:
        with served(lambda request, _: said("A ball.")) as (server, writer):
            writer.write([window(key, hint=key) for key in order], kind)
        return {a.text.split()[-1]: a.body["seed"] for a in server.asked}

    first = seeds(["a", "b", "c"])
    assert len(set(first.values())) == 3
    assert seeds(["c", "a"]) == {key: first[key] for key in ("c.", "a.")}
    assert seeds(["a"], "short") != {"a.": first["a."]}


def test_log_probability_comes_through() -> None:
    told = {"content": [{"token": "A", "logprob": -0.5}]}
    with served(lambda *_: said("A", logprobs=told), logprobs=True) as (_, writer):
        (written,) = writer.write([window("a")], "dense")
    assert (written.logprob, written.agreement) == (-0.5, None)


def test_identity_follows_what_changes_captions_and_nothing_else() -> None:
    here = EndpointConfig(base_url="http://here/v1", model="some/model")
    same = replace(here, base_url="http://there/v1", concurrency=1, max_tries=9, price_in=3)
    assert endpoint_identity(here, CONFIG) == endpoint_identity(same, CONFIG)
    others = [
        endpoint_identity(replace(here, model="other"), CONFIG),
        endpoint_identity(replace(here, temperature=1), CONFIG),
        endpoint_identity(here, replace(CONFIG, quality=50)),
        endpoint_identity(here, replace(CONFIG, seed=1)),
        endpoint_identity(here, replace(CONFIG, instructions=Instructions(dense="Say."))),
    ]
    assert len({endpoint_identity(here, CONFIG), *others}) == 6
    assert pickle.loads(pickle.dumps((here, CONFIG))) == (here, CONFIG)


@pytest.mark.parametrize(("field", "value"), [("num_frames", 0), ("max_area", 0), ("quality", 101)])
def test_wrong_settings_are_named(field: str, value: int) -> None:
    with pytest.raises(InputError, match=f"^{field}: got"):
        EndpointWriterConfig(**{field: value})


def test_nobody_is_told_to_write_an_original() -> None:
    assert Instructions().of("short") != Instructions().of("dense")
    with pytest.raises(InputError, match=r"^kind: got 'original'"):
        Instructions().of("original")
