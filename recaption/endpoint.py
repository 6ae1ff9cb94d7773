"""A client of any server that speaks OpenAI's chat protocol: vLLM, llama.cpp, OpenAI itself.

The package `openai` carries the bytes. What is here is what a long unattended run needs: a deadline
that holds whatever the server does, pauses that honour its wishes, a limit on requests a minute,
a bound on what it may send, a count of what it cost, and a result in place of an exception.
"""

import asyncio
import os
import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import urlsplit

from openreel.pipeline.clip import digest
from openreel.pipeline.errors import InputError
from openreel.recaption.chat import Answer, Ask, Failure, answer_of, clean, failure_of

BYTES_A_TOKEN = 256
"""room in a response for one token's log-probability"""


@dataclass(frozen=True, kw_only=True)
class EndpointConfig:
    """A server, one of its models, and how it is to be treated."""

    base_url: str
    """such as http://localhost:8000/v1"""
    model: str
    """the name that the server knows it by"""
    key_variable: str = ""
    """the environment variable that holds the key; empty: the server wants none"""
    max_tokens: int = 512
    """the longest answer"""
    token_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """under which name it is sent; OpenAI's newer models know only the second"""
    temperature: float = 0.0
    logprobs: bool = False
    """ask for log-probabilities, which not every server has"""
    timeout_s: float = 60.0
    """seconds of one try"""
    deadline_s: float = 180.0
    """seconds of one ask: all tries and the pauses between them, from its first try on"""
    max_tries: int = 4
    backoff_s: float = 1.0
    """the pause before the second try, doubled for each further one; chance takes up to half"""
    max_backoff_s: float = 30.0
    requests_per_minute: float = 0.0
    """of this process, evenly spaced; 0: no limit"""
    concurrency: int = 8
    """asks under way at once"""
    max_response_bytes: int = 65536
    """a longer answer is refused unread, log-probabilities not counted"""
    price_in: float = 0.0
    price_out: float = 0.0
    """of a million tokens, in whatever currency the cost is wanted"""

    def __post_init__(self) -> None:
        self._check_address()
        if not self.model:
            raise InputError("model", self.model, "the name that the server knows it by")
        for name in ("max_tokens", "max_tries", "concurrency", "max_response_bytes"):
            if getattr(self, name) < 1:
                raise InputError(name, getattr(self, name), "1 or more")
        for name in ("timeout_s", "deadline_s"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InputError(name, getattr(self, name), "seconds above 0")
        for name in ("backoff_s", "max_backoff_s", "requests_per_minute", "price_in", "price_out"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(name, getattr(self, name), "0 or more")
        if not 0 <= self.temperature <= 2:
            raise InputError("temperature", self.temperature, "0 to 2")
        if self.token_field not in ("max_tokens", "max_completion_tokens"):
            raise InputError("token_field", self.token_field, "max_tokens, max_completion_tokens")

    def _check_address(self) -> None:
        accepted = "an address such as http://localhost:8000/v1"
        try:
            parts = urlsplit(self.base_url)
            known = parts.scheme in ("http", "https") and bool(parts.hostname)
            _ = parts.port  # a port that is no number is told when it is asked for
        except ValueError:
            raise InputError("base_url", self.base_url, accepted) from None
        if parts.username or parts.password:
            raise InputError("base_url", "an address with a password", "key_variable names the key")
        if not known:
            raise InputError("base_url", self.base_url, accepted)

    @property
    def identity(self) -> str:
        """Of what writes and how it is asked to.

        The address is no part of it, because a server may move; equal names must mean equal models.
        """
        return f"{self.model}:{digest(self.max_tokens, self.temperature)[:8]}"


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What an endpoint was asked for so far."""

    requests: int = 0
    """sent, those that failed included"""
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0
    """of answers that arrived: what a server charges for one that did not is not known here"""


def check_endpoint(config: EndpointConfig) -> str:
    """The key, empty if the server wants none; asks nobody.

    Raises InputError if the package openai or the key is missing.
    """
    try:
        import openai  # noqa: F401
    except ImportError:
        accepted = "the package openai (pip install 'openreel[endpoint]')"
        raise InputError("endpoint", config.base_url, accepted) from None
    variable = config.key_variable
    key = os.environ.get(variable, "").strip() if variable else ""
    if variable and not (key and key.isascii() and key.isprintable()):
        # Never the value itself, not even a wrong one.
        raise InputError("key_variable", variable, "an environment variable that holds the key")
    return key


class _Failed(Exception):
    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        super().__init__(failure.reason)


class Endpoint:
    """Asks a server; every ask has an answer, whatever the server does.

    Built where it is used, since it holds a thread and connections; the config travels. Raises
    InputError if the package openai or the key is missing.
    """

    def __init__(self, config: EndpointConfig) -> None:
        self.config = config
        self._key = check_endpoint(config)
        self._client = self._connection()
        # Named here, since the package loads half of itself at that, which no deadline should pay.
        self._sender = self._client.chat.completions.with_streaming_response
        self._spent = Spent()
        self._chance = random.Random()
        self._free_at = 0.0
        """the loop's time at which the next request may leave"""
        self._places = asyncio.Semaphore(config.concurrency)
        # Requests live on a loop of their own: a cancelled one is gone at once, which a thread that
        # waits for a socket is not, and the caller may have a loop himself.
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="endpoint", daemon=True).start()

    @property
    def spent(self) -> Spent:
        """Of all asks so far."""
        return self._spent

    def ask(self, asks: Sequence[Ask]) -> list[Answer]:
        """One answer an ask, in order; `concurrency` of them at once. Never raises for a server."""
        together = asyncio.run_coroutine_threadsafe(self._ask(asks), self._loop)
        try:
            return together.result()
        finally:
            together.cancel()

    def close(self) -> None:
        """Give back connections and the thread."""
        asyncio.run_coroutine_threadsafe(self._client.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _connection(self) -> Any:
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient

        # A redirect could carry prompts and frames to a host that nobody named.
        http = DefaultAsyncHttpxClient(
            follow_redirects=False, event_hooks={"response": [self._refuse]}
        )
        return AsyncOpenAI(
            base_url=self.config.base_url,
            api_key=self._key or "none",  # otherwise OPENAI_API_KEY would go to any server
            max_retries=0,
            http_client=http,
        )

    async def _ask(self, asks: Sequence[Ask]) -> list[Answer]:
        return list(await asyncio.gather(*map(self._one, asks)))

    async def _one(self, ask: Ask) -> Answer:
        async with self._places:
            await self._turn()
            answer = await self._tried(ask)
        prices = self.config.price_in, self.config.price_out
        cost = (answer.tokens_in * prices[0] + answer.tokens_out * prices[1]) / 1e6
        self._spent = Spent(
            requests=self._spent.requests + answer.tries,
            tokens_in=self._spent.tokens_in + answer.tokens_in,
            tokens_out=self._spent.tokens_out + answer.tokens_out,
            cost=self._spent.cost + cost,
        )
        reason = answer.reason.replace(self._key, "***") if self._key else answer.reason
        return replace(answer, cost=cost, reason=reason)

    async def _turn(self) -> None:
        """Wait until the server may be sent another request."""
        rate = self.config.requests_per_minute
        now = self._loop.time()
        start = max(now, self._free_at)
        self._free_at = start + (60 / rate if rate else 0.0)
        await asyncio.sleep(start - now)

    async def _tried(self, ask: Ask) -> Answer:
        """The answer after as many tries as the deadline and the config allow."""
        config = self.config
        tries, failure, late = 0, Failure(reason="no answer", retry=True), ""
        try:
            async with asyncio.timeout(config.deadline_s) as limit:
                while failure.retry and tries < config.max_tries:
                    if tries:
                        await self._pause(tries, failure, limit.when() or 0.0)
                    tries += 1
                    try:
                        return replace(answer_of(await self._send(ask)), tries=tries)
                    except _Failed as failed:
                        failure = failed.failure
        except TimeoutError:
            late = f"; no time is left of {config.deadline_s:g} s"
        many = f"{tries} tries, the last: " if tries > 1 else ""
        return Answer(
            outcome="blocked" if failure.blocked else "error",
            reason=f"{many}{failure.reason}{late}",
            tries=tries,
        )

    async def _pause(self, tries: int, failure: Failure, end: float) -> None:
        """Wait before the next try. Raises TimeoutError at once if it could only come too late."""
        config, now = self.config, self._loop.time()
        # What one ask is told to wait, all wait, but not for ever: the next one is a new question.
        self._free_at = max(self._free_at, now + min(failure.wait_s, config.deadline_s))
        pause = min(config.max_backoff_s, config.backoff_s * 2.0 ** (tries - 1))
        pause = max(failure.wait_s, pause * self._chance.uniform(0.5, 1.0))
        if now + pause >= end:
            raise TimeoutError
        await asyncio.sleep(pause)
        await self._turn()

    async def _send(self, ask: Ask) -> bytes:
        """The body of one request's response. Raises _Failed for whatever else comes of it."""
        config = self.config
        room = config.max_response_bytes
        request: dict[str, Any] = {
            "model": config.model,
            "messages": [dict(message) for message in ask.messages],
            "seed": ask.seed,
            "temperature": config.temperature,
            config.token_field: config.max_tokens,
        }
        if config.logprobs:
            request["logprobs"] = True
            room += BYTES_A_TOKEN * config.max_tokens
        try:
            async with (
                asyncio.timeout(config.timeout_s),
                self._sender.create(**request, timeout=None) as response,
            ):
                return await _bounded(response.iter_bytes(), room)
        except TimeoutError:
            raise _Failed(_lost(f"no answer within {config.timeout_s:g} s")) from None
        except Exception as error:  # the boundary: of what a server does, nothing ends the run
            cause = error.__cause__ or error
            if isinstance(cause, _Failed):
                raise cause from None
            raise _Failed(_lost(f"{type(cause).__name__}: {cause}")) from error

    async def _refuse(self, response: Any) -> None:
        """Read a response that is no success, within bounds, and raise what it means."""
        if not response.is_success:
            body = await _bounded(response.aiter_bytes(), self.config.max_response_bytes)
            raise _Failed(failure_of(response.status_code, response.headers, body))


async def _bounded(chunks: Any, room: int) -> bytes:
    """All of a body. Raises _Failed, and reads no further, if it has more than `room` bytes."""
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > room:
            raise _Failed(Failure(reason=f"an answer of more than {room} bytes", retry=False))
    return bytes(body)


def _lost(reason: str) -> Failure:
    return Failure(reason=clean(reason), retry=True)
