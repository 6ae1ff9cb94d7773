"""Whatever a backend does with whatever prompt: preserved, or the original with the reason."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from openreel.pipeline.errors import InputError
from openreel.recaption.endpoint import EndpointConfig
from openreel.recaption.endpoint_expander import EndpointModel
from openreel.recaption.expand import OfflineExpander
from openreel.recaption.expansion import (
    ExpandConfig,
    GuardedExpander,
    NoAnswer,
    Wish,
    untouched,
)
from openreel.recaption.expansion_cache import ExpansionCache
from openreel.recaption.guards import WordRange
from openreel.recaption.language import Script, caption_in, delimited
from openreel.recaption.pairs import Nearest, Pair
from tests.recaption.adversarial import SABOTAGE, cases, complaint
from tests.recaption.server import Asked, ChatServer, Reply, said

CASES = cases()
GOOD = "A red ball moves left across a plain grey floor. The light is soft, the camera is still."


@dataclass
class Scripted:
    """A backend that says what it is told to."""

    answer: Callable[[Wish], str]
    identity: str = "scripted"
    instruction: str = "told"
    translates: bool = True
    asked: list[Wish] = field(default_factory=list)

    def write(self, wish: Wish) -> str:
        self.asked.append(wish)
        return self.answer(wish)


def test_there_are_two_hundred_cases_of_many_families() -> None:
    assert len(CASES) == 200
    assert len({case.family for case in CASES}) >= 14
    assert max(len(case.prompt) for case in CASES) >= 100_000


@pytest.mark.parametrize("corpus", [(), (GOOD,)])
def test_offline_keeps_to_all_of_them(corpus: tuple[str, ...]) -> None:
    expander, statuses = OfflineExpander(corpus), []
    for case in CASES:
        expansion = expander.expand(case.prompt, seed=3)
        assert complaint(case, expansion) == "", case.prompt[:80]
        statuses.append(expansion.status)
    assert statuses.count("expanded") > 100


@pytest.mark.parametrize("sabotage", SABOTAGE)
def test_no_sabotage_passes_the_guards(sabotage: str) -> None:
    expander = GuardedExpander(Scripted(lambda wish: SABOTAGE[sabotage](wish.prompt)))
    statuses = []
    for case in CASES:
        expansion = expander.expand(case.prompt)
        assert complaint(case, expansion) == "", f"{case.prompt[:80]} -> {expansion.text[:300]}"
        statuses.append(expansion.status)
    if sabotage in ("honest", "chatter", "control"):
        assert statuses.count("fell back") < 20, "guards that refuse everything are no guards"
    if sabotage in ("half", "nothing", "path", "Chinese", "refusal", "people"):
        assert statuses.count("fell back") > 100


def test_the_judge_sees_what_sabotage_breaks() -> None:
    """Without guards the same answers are complained of."""
    for sabotage in ("swapped words", "half", "no negation", "other numbers", "no quotes", "path"):
        broken = 0
        for case in CASES:
            text = " ".join(SABOTAGE[sabotage](case.prompt).split())[:2000]
            bare = GuardedExpander(Scripted(lambda wish: "")).expand(case.prompt)
            broken += bool(complaint(case, replace(bare, status="expanded", text=text)))
        assert broken >= 10, sabotage


def test_one_attempt_to_mend_names_the_mistake() -> None:
    answers = iter([GOOD.replace("left", "right"), GOOD])
    backend = Scripted(lambda wish: next(answers))
    expansion = GuardedExpander(backend).expand("a red ball moves left")
    assert (expansion.status, expansion.text, expansion.attempts) == ("expanded", GOOD, 2)
    refused = backend.asked[1].refused
    assert refused is not None
    assert any(name.startswith("direction") for name in refused.violations)


def test_after_two_the_original_stands_with_the_reasons() -> None:
    backend = Scripted(lambda wish: GOOD)
    expansion = GuardedExpander(backend).expand("a red ball moves right")
    assert (expansion.status, expansion.text) == ("fell back", "a red ball moves right")
    assert (expansion.reason, expansion.attempts, len(backend.asked)) == ("refused twice", 2, 2)
    assert expansion.violations


def test_a_backend_that_fails_costs_nobody_a_video() -> None:
    def broken(wish: Wish) -> str:
        raise MemoryError("out of memory")

    def silent(wish: Wish) -> str:
        raise NoAnswer("the server sleeps")

    for answer, reason in ((broken, "MemoryError: out of memory"), (silent, "the server sleeps")):
        expansion = GuardedExpander(Scripted(answer)).expand("a dog")
        assert (expansion.status, expansion.text, expansion.reason) == (
            "fell back",
            "a dog",
            reason,
        )


def test_off_is_the_identity() -> None:
    for case in CASES:
        expansion = untouched(case.prompt, 5)
        assert expansion.text == expansion.original == case.prompt
        assert expansion.backend == "off"


def test_the_time_left_is_the_backends_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("openreel.recaption.expansion.time.monotonic", lambda: clock[0])

    def slow(wish: Wish) -> str:
        clock[0] += 12
        return "nonsense"

    backend = Scripted(slow)
    config = ExpandConfig(timeout_s=20)
    expansion = GuardedExpander(backend, config).expand("a dog")
    assert backend.asked[0].seconds == 20
    assert len(backend.asked) == 1
    assert expansion.reason == "no time for a second attempt"


def test_a_cache_remembers_what_everything_depends_on(tmp_path: Path) -> None:
    backend = Scripted(lambda wish: GOOD)

    def expander(**config: object) -> GuardedExpander:
        return GuardedExpander(backend, ExpandConfig(**config), cache=ExpansionCache(tmp_path))

    first = expander().expand("a red ball moves left")
    again = expander().expand("a red ball moves left")
    assert not first.cached
    assert again.cached
    assert again == first
    assert len(backend.asked) == 1
    expander().expand("a red ball moves left", seed=1)
    expander(words=WordRange(low=1, high=50)).expand("a red ball moves left")
    expander(language="en").expand("a red ball moves left")
    backend.identity = "another"
    expander().expand("a red ball moves left")
    assert len(backend.asked) == 5
    for file in tmp_path.rglob("*.json"):
        file.write_text(json.dumps({"text": 3}))
    assert not expander().expand("a red ball moves left").cached, "a broken file is no answer"
    expander().expand("a red ball moves right")
    before = len(backend.asked)
    expander().expand("a red ball moves right")
    assert len(backend.asked) > before, "a fallback may go better next time"


def test_other_languages_pass_through_or_are_translated_as_asked() -> None:
    backend = Scripted(lambda wish: f'{GOOD} A sign says "ЗООПАРК".')
    prompt = 'красный шар катится влево, надпись "ЗООПАРК"'
    kept = GuardedExpander(backend).expand(prompt)
    assert (kept.status, kept.text, kept.reason) == ("unchanged", prompt, "not English")
    asked = GuardedExpander(backend, ExpandConfig(language="en")).expand(prompt)
    assert (asked.status, backend.asked[-1].translate) == ("expanded", True)
    lost = Scripted(lambda wish: GOOD)
    assert GuardedExpander(lost, ExpandConfig(language="en")).expand(prompt).status == "fell back"
    still = Scripted(lambda wish: 'красный шар "ЗООПАРК" ' * 8)
    refused = GuardedExpander(still, ExpandConfig(language="en")).expand(prompt)
    assert "not English" in refused.violations
    offline = OfflineExpander(config=ExpandConfig(language="en")).expand(prompt)
    assert offline.text == prompt


def test_examples_are_the_nearest_pairs_and_the_prompt_stays_in_its_marks() -> None:
    pairs = [
        Pair("a cat sleeps on a sofa", "A grey cat sleeps on a sofa."),
        Pair("a dog runs", "A brown dog runs along a beach."),
        Pair("a red ball moves left", GOOD),
        Pair("a train passes", "A long train passes."),
    ]
    found = Nearest(pairs)("the dog runs after a red ball", 2)
    assert {pair.short for pair in found} == {"a dog runs", "a red ball moves left"}
    assert Nearest(list(reversed(pairs)))("the dog runs after a red ball", 2) == found
    assert Nearest([])("a dog", 3) == []
    assert delimited("a </prompt>dog<PROMPT>").count("prompt>") == 2
    assert caption_in('Caption: "A dog."') == "A dog."
    assert Script(pairs=tuple(pairs)).identity != Script().identity


@pytest.fixture(scope="module")
def server() -> Iterator[ChatServer]:
    """A server that sabotages each prompt in its own way, or fails."""
    modes = list(SABOTAGE)

    def reply(asked: Asked, before: int) -> Reply:
        user = [m["content"] for m in asked.body["messages"] if m["role"] == "user"]
        prompt = next(t for t in reversed(user) if t.startswith("<prompt>"))[8:-9]
        number = sum(map(ord, prompt)) + len(user)
        failures = {
            0: Reply(status=500, body=b"oh no"),
            1: Reply(body=b"\xff\xfe nonsense"),
            2: Reply(),
            3: said("x" * 100_000),
            4: said(None, message={"refusal": "no"}),
            5: said(prompt, finish="length"),
        }
        if number % 12 in failures:
            return failures[number % 12]
        return said(SABOTAGE[modes[number % len(modes)]](prompt))

    with ChatServer(reply) as running:
        yield running


def test_a_hostile_server_breaks_no_prompt(server: ChatServer) -> None:
    config = EndpointConfig(base_url=server.url, model="m", max_tries=1, backoff_s=0.0)
    backend = EndpointModel(config, Script(pairs=(Pair("a dog", "A dog runs."),)))
    expander, statuses, reasons = GuardedExpander(backend), [], set()
    for case in CASES[::3]:
        expansion = expander.expand(case.prompt)
        assert complaint(case, expansion) == "", case.prompt[:80]
        statuses.append(expansion.status)
        reasons.add(expansion.reason.split(":")[0])
    backend.close()
    assert {"expanded", "fell back", "unchanged"} == set(statuses)
    assert {"error", "blocked", "truncated", "refused twice"} <= reasons
    for asked in server.asked:
        roles = [message["role"] for message in asked.body["messages"]]
        assert roles[0] == "system"
        assert "<prompt>" in asked.body["messages"][0]["content"]
        assert roles.count("system") == 1


def test_a_server_that_is_not_there_is_a_reason() -> None:
    config = EndpointConfig(base_url="http://127.0.0.1:9/v1", model="m", max_tries=1)
    expansion = GuardedExpander(EndpointModel(config)).expand("a dog runs")
    assert (expansion.status, expansion.text) == ("fell back", "a dog runs")
    assert "error" in expansion.reason


def test_mistakes_are_named() -> None:
    with pytest.raises(InputError, match="words: got '9 to 3'"):
        WordRange(low=9, high=3)
    with pytest.raises(InputError, match="language: got 'fr'"):
        ExpandConfig(language="fr")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="timeout_s: got 0"):
        ExpandConfig(timeout_s=0)
