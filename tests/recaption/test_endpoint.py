"""The client of chat endpoints against a real server: whatever it does, every ask has an answer."""

import json
import logging
import random
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from openreel.pipeline.errors import InputError
from openreel.recaption.chat import Answer, Ask, answer_of, failure_of
from openreel.recaption.endpoint import Endpoint, EndpointConfig, Spent
from tests.recaption.server import Asked, ChatServer, Reply, said

FAST: dict[str, Any] = {"model": "m", "timeout_s": 5, "backoff_s": 0.001, "concurrency": 4}


def ask(text: str, seed: int = 0) -> Ask:
    return Ask(messages=({"role": "user", "content": text},), seed=seed)


@contextmanager
def served(
    reply: Callable[[Asked, int], Reply], **config: Any
) -> Iterator[tuple[ChatServer, Endpoint]]:
    with ChatServer(reply) as server:
        endpoint = Endpoint(EndpointConfig(base_url=server.url, **FAST | config))
        try:
            yield server, endpoint
        finally:
            endpoint.close()


def one(reply: Reply, **config: Any) -> tuple[Answer, list[Asked]]:
    with served(lambda request, before: reply, **config) as (server, endpoint):
        (answer,) = endpoint.ask([ask("hello")])
        return answer, server.asked


def test_a_batch_is_sent_at_once_and_comes_back_in_order() -> None:
    texts = [f"number {i}" for i in range(12)]
    together = threading.Barrier(4)

    def reply(request: Asked, before: int) -> Reply:
        number = int(request.text.split()[1])
        if number < 4 and before == 0:
            together.wait(20)  # broken, and no answer at all, unless four are under way at once
        # The first ones fail once, so that they end after later ones.
        late = number < 3 and before == 0
        return Reply(status=500) if late else said(f"echo of {request.text}")

    with served(reply, price_in=3.0, price_out=50.0) as (server, endpoint):
        answers = endpoint.ask([ask(text, seed=i) for i, text in enumerate(texts)])
        spent = endpoint.spent
    assert [answer.text for answer in answers] == [f"echo of {text}" for text in texts]
    assert [answer.tries for answer in answers] == [2] * 3 + [1] * 9
    assert len(server.asked) == 15
    assert server.most_at_once == FAST["concurrency"] == 4
    assert {a.cost for a in answers} == {(100 * 3 + 10 * 50) / 1e6}
    assert spent == Spent(
        requests=15, tokens_in=1200, tokens_out=120, cost=pytest.approx(12 * 0.0008)
    )
    for request in server.asked:
        assert request.path == "/v1/chat/completions"
        sent = request.body
        assert (sent["model"], sent["temperature"], sent["max_tokens"]) == ("m", 0.0, 512)
        assert sent["seed"] == int(request.text.split()[1])
        assert "logprobs" not in sent
    assert endpoint.config.identity == EndpointConfig(base_url="http://other/v1", **FAST).identity


def test_a_server_that_recovers_is_asked_again() -> None:
    with served(lambda _, before: said("fine") if before == 2 else Reply(status=500)) as (s, e):
        (answer,) = e.ask([ask("hello")])
    assert (answer.text, answer.outcome, answer.tries, len(s.asked)) == ("fine", "ok", 3, 3)


def test_tries_end() -> None:
    answer, asked = one(Reply(status=503, body=b'{"error": {"message": "busy"}}'), max_tries=3)
    assert (answer.outcome, answer.tries, len(asked)) == ("error", 3, 3)
    assert answer.reason == "3 tries, the last: HTTP 503: busy"


def test_retry_after_is_waited_for_by_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def reply(request: Asked, before: int) -> Reply:
        return said("fine") if before else Reply(status=429, headers={"Retry-After": "0.2"})

    with served(reply) as (server, endpoint):
        paused: list[float] = []
        turn = endpoint._turn

        async def turned() -> None:
            paused.append(endpoint._free_at - endpoint._loop.time())
            await turn()

        monkeypatch.setattr(endpoint, "_turn", turned)
        (answer,) = endpoint.ask([ask("hello")])
        assert (answer.outcome, answer.tries, len(server.asked)) == ("ok", 2, 2)
    # When the second try comes, nothing is left of the wait; before it, nobody could go either.
    assert len(paused) == 2
    assert -0.1 < paused[1] <= 0.001


def test_a_wait_beyond_the_deadline_is_not_begun() -> None:
    limited = Reply(status=429, headers={"Retry-After": "3600"}, body=b'{"detail": "slow down"}')
    answer, asked = one(limited, deadline_s=20)
    assert (answer.outcome, len(asked)) == ("error", 1)
    assert answer.reason == "HTTP 429: slow down; no time is left of 20 s"


@pytest.mark.parametrize("status", [302, 400, 401, 403, 404, 413, 422])
def test_what_would_fail_again_is_not_tried_again(status: int) -> None:
    elsewhere = {"Location": "http://127.0.0.1:9/v1/chat/completions"}
    answer, asked = one(Reply(status=status, body=b"no", headers=elsewhere))
    assert (answer.outcome, answer.tries, len(asked)) == ("error", 1, 1)
    assert answer.reason == f"HTTP {status}: no"


def test_a_spent_quota_is_not_waited_for() -> None:
    spent = b'{"error": {"code": "insufficient_quota", "message": "pay"}}'
    answer, asked = one(Reply(status=429, body=spent))
    assert (answer.outcome, answer.reason, len(asked)) == ("error", "HTTP 429: pay", 1)


@pytest.mark.parametrize("silence", [Reply(hang=True), Reply(drip=True)])
def test_silence_ends_a_try_and_the_deadline_ends_all(silence: Reply) -> None:
    answer, asked = one(silence, timeout_s=0.5, max_tries=2)
    assert (answer.outcome, len(asked)) == ("error", 2)
    assert answer.reason == "2 tries, the last: no answer within 0.5 s"
    answer, asked = one(silence, deadline_s=0.5, timeout_s=30, max_tries=9)
    assert (answer.outcome, len(asked)) == ("error", 1)
    assert answer.reason == "no answer; no time is left of 0.5 s"


def test_one_silent_request_costs_the_others_nothing() -> None:
    with served(
        lambda request, _: Reply(hang=True) if request.text == "mute" else said("fine"),
        deadline_s=2.0,
    ) as (_, endpoint):
        answers = endpoint.ask([ask("a"), ask("mute"), ask("b")])
        assert [answer.outcome for answer in answers] == ["ok", "error", "ok"]
        # The connection is free again for later asks.
        assert endpoint.ask([ask("c")])[0].text == "fine"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "empty answer"),
        (b"\n \n", "empty answer"),
        (b"\xff\xfe\x00garbage\x9f", "not JSON"),
        (b"<html>502</html>", "not JSON: <html>"),
        (b"[" * 5000, "not JSON"),
        (b"3", "no message"),
        (b"{}", "no message"),
        (b'{"choices": []}', "no message"),
        (b'{"choices": [{"message": "hi"}]}', "no message"),
        (b'{"choices": {"0": {"message": {"content": "hi"}}}}', "no message"),
        (b'{"error": {"message": "overloaded"}}', "overloaded"),
        (said(None).body, "empty answer"),
        (said({"a": 1}).body, "empty answer"),
        (said(" \u0000\n").body, "empty answer"),
        (said("<think>so much to think about").body, "empty answer"),
        (said("x" * 100_000).body, "an answer of more than 65536 bytes"),
        (b"\x00" * 100_000, "an answer of more than 65536 bytes"),
    ],
)
def test_nonsense_is_an_answer_with_a_reason(body: bytes, reason: str) -> None:
    answer, asked = one(Reply(body=body))
    assert (answer.outcome, answer.text, len(asked)) == ("error", "", 1)
    assert answer.reason.startswith(reason)
    assert len(answer.reason) < 250


def test_a_huge_error_is_not_read() -> None:
    answer, _ = one(Reply(status=500, body=b"x" * 100_000), max_tries=2)
    assert answer.reason == "an answer of more than 65536 bytes"


def test_a_refusal_is_blocked_and_a_cut_is_truncated() -> None:
    refused = said("", message={"role": "assistant", "content": None, "refusal": "I will not"})
    filtered = said("half a", finish="content_filter")
    policy = {"error": {"code": "content_policy_violation", "message": "picture not allowed"}}
    for reply, outcome, reason in (
        (refused, "blocked", "refused: I will not"),
        (filtered, "blocked", "the server's content filter"),
        (
            Reply(status=400, body=json.dumps(policy).encode()),
            "blocked",
            "HTTP 400: picture not allowed",
        ),
        (said("A red ball mov", finish="length"), "truncated", "cut off at the token limit"),
        (said("<think>hm", finish="length"), "truncated", "cut off at the token limit"),
    ):
        answer, asked = one(reply)
        assert (answer.outcome, answer.reason, len(asked)) == (outcome, reason, 1)
    assert one(said("A red ball mov", finish="length"))[0].text == "A red ball mov"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("<think>Red?\nYes.</think>\n\nA red ball.", "A red ball."),
        ("Red? Yes.</think> A red ball.", "A red ball."),
        ("<think>a</think>A red <think>b</think>ball.", "A red ball."),
        ([{"type": "text", "text": "A red"}, {"type": "text", "text": " ball."}], "A red ball."),
        ("A red\x00 ball.\ud800", "A red ball."),
        ("A sign says “出口”.\nIt is lit.", "A sign says “出口”.\nIt is lit."),
    ],
)
def test_the_text_is_what_was_meant_for_the_reader(content: object, text: str) -> None:
    assert one(said(content))[0].text == text
    text.encode()


def test_log_probabilities_are_asked_for_and_averaged() -> None:
    told = {"content": [{"token": "a", "logprob": -1.0}, {"token": "b", "logprob": -0.5}]}
    answer, (request,) = one(said("ab", logprobs=told), logprobs=True)
    assert request.body["logprobs"] is True
    assert answer.logprob == -0.75
    for broken in (None, {"content": None}, {"content": [{"token": "a"}]}, {"content": "abc"}):
        assert one(said("ab", logprobs=broken))[0].logprob is None


def test_the_key_goes_to_the_server_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("THE_KEY", "sk-secret-1\n")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another-server")

    def reply(request: Asked, before: int) -> Reply:
        told = {"error": {"message": f"wrong key: {request.headers['authorization']}"}}
        return Reply(status=401, body=json.dumps(told).encode())

    with served(reply, key_variable="THE_KEY") as (server, endpoint):
        (answer,) = endpoint.ask([ask("hello")])
        assert server.asked[0].headers["authorization"] == "Bearer sk-secret-1"
        assert answer.reason == "HTTP 401: wrong key: Bearer ***"
        assert "sk-secret-1" not in repr((answer, endpoint, endpoint.config)) + caplog.text
    assert "sk-" not in one(said("fine"))[1][0].headers["authorization"]


def test_a_server_that_is_not_there_is_a_reason() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    endpoint = Endpoint(EndpointConfig(base_url=url, **FAST | {"max_tries": 2}))
    (answer,) = endpoint.ask([ask("hello")])
    assert (answer.outcome, answer.tries) == ("error", 2)
    assert answer.reason.startswith("2 tries, the last: ")
    endpoint.close()


def test_requests_are_spaced_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with served(lambda request, _: said("fine"), requests_per_minute=3000) as (_, endpoint):
        leaving: list[float] = []
        turn = endpoint._turn

        async def turned() -> None:
            await turn()
            leaving.append(endpoint._loop.time())

        monkeypatch.setattr(endpoint, "_turn", turned)
        endpoint.ask([ask(str(i)) for i in range(5)])
    # The loop's own clock, which also wakes it: no request leaves before its turn.
    assert len(leaving) == 5
    assert leaving[-1] - leaving[0] >= 4 * 60 / 3000 - 1e-3


def test_no_shape_of_json_raises() -> None:
    draw = random.Random(0)
    keys = ["choices", "message", "content", "finish_reason", "usage", "prompt_tokens", "error"]
    keys += ["logprobs", "logprob", "text", "code", "refusal"]
    leaves = [None, True, -1, 10**400, 1e308, "length", "", "a", float("nan"), "\ud800"]

    def value(depth: int) -> Any:
        if depth == 0 or draw.random() < 0.2:
            return draw.choice(leaves)
        if draw.random() < 0.5:
            return [value(depth - 1) for _ in range(draw.randrange(3))]
        return {draw.choice(keys): value(depth - 1) for _ in range(draw.randrange(4))}

    outcomes = set()
    for _ in range(3000):
        message = {"content": value(1), "refusal": value(1)} if draw.random() < 0.5 else value(3)
        choice = {"message": message, "finish_reason": value(0), "logprobs": value(3)}
        shape = {"choices": [choice, value(2)], "usage": {"prompt_tokens": value(0)}}
        body = json.dumps(shape if draw.random() < 0.7 else value(6)).encode()
        answer = answer_of(body)
        outcomes.add(answer.outcome)
        answer.text.encode()
        assert 0 <= answer.tokens_in < 1e10
        failure_of(draw.choice([302, 400, 429, 500]), {"retry-after": draw.choice("1a-")}, body)
    assert outcomes == {"ok", "truncated", "blocked", "error"}


@pytest.mark.parametrize(
    ("header", "low", "high"),
    [
        *(("7", 7, 7), ("-3", 0, 0), ("nan", 0, 0), ("soon", 0, 0), ("", 0, 0), ("1e999", 0, 0)),
        ("Wed, 21 Oct 2099 07:28:00 GMT", 1e9, 1e11),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str, low: float, high: float) -> None:
    assert low <= failure_of(429, {"retry-after": header}, b"").wait_s <= high


@pytest.mark.parametrize(
    ("field", "value"),
    [("base_url", v) for v in ("", "localhost:8000", "file:///etc", "http://", "http://a:b/v1")]
    + [("base_url", "http://user:word@host/v1"), ("model", ""), ("max_tries", 0)]
    + [("timeout_s", 0), ("deadline_s", float("inf")), ("price_in", -1), ("temperature", 3)]
    + [("token_field", "tokens"), ("concurrency", 0), ("requests_per_minute", -1)],
)
def test_mistakes_are_named(field: str, value: object) -> None:
    with pytest.raises(InputError, match=f"^{field}: got") as told:
        EndpointConfig(**{"base_url": "http://host/v1", "model": "m"} | {field: value})
    assert "word" not in str(told.value).replace("password", "")


def test_a_missing_key_or_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    config = EndpointConfig(base_url="http://host/v1", model="m", key_variable="NOT_SET")
    with pytest.raises(InputError, match=r"^key_variable: got 'NOT_SET'"):
        Endpoint(config)
    monkeypatch.setenv("NOT_SET", "secret\nkey")
    with pytest.raises(InputError) as told:
        Endpoint(config)
    assert "secret" not in str(told.value)
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(InputError, match=r"pip install 'openreel\[endpoint\]'"):
        Endpoint(EndpointConfig(base_url="http://host/v1", model="m"))
