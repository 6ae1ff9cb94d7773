"""What is asked of a chat endpoint and what its bytes say. Pure functions; no network here.

A server may answer anything at all, so nothing that it sends raises: what is not a usable answer is
one with an outcome and a reason.
"""

import email.utils
import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from openreel.recaption.writer import Outcome

_BLOCKED = {"content_filter", "content_policy_violation", "moderation_blocked"}
"""codes of a refusal that comes as an HTTP error"""
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_LONGEST_REASON = 200
"""characters of a server's own words that go into a reason"""


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One conversation that is to be continued by one message."""

    messages: Sequence[Mapping[str, Any]]
    """role and content of each, as OpenAI's chat completions take them"""
    seed: int = 0
    """sent along; whether it is heeded is the server's affair"""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came of an ask; text only where the server wrote some."""

    text: str = ""
    outcome: Outcome = "ok"
    """truncated: cut off at the token limit; blocked: refused; error: no usable answer"""
    reason: str = ""
    """in words, unless ok"""
    logprob: float | None = None
    """mean log-probability of a token, where the server tells"""
    tokens_in: int = 0
    tokens_out: int = 0
    """as the server counts them; 0 where it does not"""
    cost: float = 0.0
    """by the prices of the config"""
    tries: int = 0
    """requests that were sent for it"""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A try that brought no answer, and what to make of it."""

    reason: str
    retry: bool
    wait_s: float = 0.0
    """how long the server asks to be left alone"""
    blocked: bool = False


def answer_of(body: bytes) -> Answer:
    """The answer in a response with status 200."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return _unusable("empty answer" if not body.strip() else f"not JSON: {_excerpt(body)}")
    choice = _at(said, "choices", 0)
    message = _at(choice, "message")
    if not isinstance(message, dict):
        told = _at(said, "error", "message")
        return _unusable(f"{told}" if told else f"no message in it: {_excerpt(body)}")
    ending = _at(choice, "finish_reason")
    text, refusal = without_thinking(_content(message)), message.get("refusal")
    outcome, reason = _outcome(text, refusal, ending)
    return Answer(
        text=text,
        outcome=outcome,
        reason=clean(reason),
        logprob=_mean_logprob(_at(choice, "logprobs", "content")),
        tokens_in=_count(_at(said, "usage", "prompt_tokens")),
        tokens_out=_count(_at(said, "usage", "completion_tokens")),
    )


def failure_of(status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    """What a response with another status than 200 means for the ask."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    error = _at(said, "error")
    told = _at(error, "message") or _at(said, "message") or _at(said, "detail")
    words = clean(told)[:_LONGEST_REASON] if isinstance(told, str) else _excerpt(body)
    code = _at(error, "code")
    return Failure(
        reason=f"HTTP {status}: {words}" if words else f"HTTP {status}",
        # A spent quota is reported as too many requests, and waiting does not refill it.
        retry=(status in (408, 409, 429) or status >= 500) and code != "insufficient_quota",
        wait_s=_retry_after(headers.get("retry-after", "")),
        blocked=isinstance(code, str) and code in _BLOCKED,
    )


def without_thinking(text: str) -> str:
    """A message without what a model thought aloud before or in it."""
    text = re.sub(r"<think>.*?</think>", "", text, flags=re.DOTALL)
    # Some templates open the thought themselves; a thought that never ends has no answer behind it.
    text = text.rpartition("</think>")[2].partition("<think>")[0]
    return clean(text)


def clean(text: str) -> str:
    """Without control characters and halves of characters, which no table can store."""
    return _UNPRINTABLE.sub("", text).strip()


def _outcome(text: str, refusal: object, ending: object) -> tuple[Outcome, str]:
    if refusal:
        return "blocked", f"refused: {str(refusal)[:_LONGEST_REASON]}"
    if ending == "content_filter":
        return "blocked", "the server's content filter"
    if ending == "length":
        return "truncated", "cut off at the token limit"
    return ("ok", "") if text else ("error", "empty answer")


def _unusable(reason: str) -> Answer:
    return Answer(outcome="error", reason=clean(reason)[:_LONGEST_REASON])


def _at(value: object, *path: str | int) -> Any:
    """What lies at a path of keys and indices, or None."""
    for step in path:
        if isinstance(value, dict) and isinstance(step, str):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and len(value) > step:
            value = value[step]
        else:
            return None
    return value


def _content(message: Mapping[str, Any]) -> str:
    """A message's text, which some servers send in parts."""
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"text": content}]
    return "".join(t for part in parts if isinstance(t := _at(part, "text"), str))


def _mean_logprob(tokens: object) -> float | None:
    if not isinstance(tokens, list):
        return None
    numbers = [x for token in tokens if _measured(x := _at(token, "logprob"))]
    return sum(numbers) / len(numbers) if numbers and len(numbers) == len(tokens) else None


def _measured(value: object) -> bool:
    """Whether it is a number of a size that can be meant; also neither nan nor infinity."""
    return type(value) in (int, float) and -1e9 < value < 1e9  # type: ignore[operator]


def _count(value: object) -> int:
    return value if isinstance(value, int) and _measured(value) and value > 0 else 0


def _retry_after(header: str) -> float:
    """Seconds of a Retry-After header, which is a number or a date (RFC 9110, 10.2.3)."""
    try:
        seconds = float(header)
    except ValueError:
        date = email.utils.parsedate_tz(header)
        seconds = email.utils.mktime_tz(date) - time.time() if date else 0.0
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0


def _excerpt(body: bytes) -> str:
    return clean(body[:80].decode(errors="replace"))
