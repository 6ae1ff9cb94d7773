"""Expanders: `python -m tests.benchmarks.bench_expander`.

Guards: 200 adversarial prompts through every backend; the own model, a random language model, a
server that sabotages, and each kind of sabotage alone. The judge (tests/recaption/adversarial.py)
shares no code with the guards.

Detail: short captions of held-out scenes of the procedural world are expanded; the claims of the
expansion (deploy/facts.py) are compared with the truth about the same clip. A text alone cannot
know the background, so two figures belong together: right claims, against those of the short
captions, and the share of claims that are right. "Best guess" is what nobody can beat without
seeing the clip: for each short caption the likeliest value of each attribute, counted over 8,000
other scenes, and stated where its share is at least the precision that is asked for. "First frame
known" is image to video: a true caption of the first frame is given with the prompt.
"""

import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from openreel.deploy.facts import Agreement, agreement, facts
from openreel.deploy.recipes import demo
from openreel.deploy.world import Description, Scene, describe, draw_scene
from openreel.dit.trainer import train
from openreel.recaption.endpoint import EndpointConfig
from openreel.recaption.endpoint_expander import EndpointModel
from openreel.recaption.expand import Grammar
from openreel.recaption.expander_model import Style, new_language_model, own_model
from openreel.recaption.expander_train import ExpanderTask
from openreel.recaption.expansion import Backend, Expander, GuardedExpander, Wish
from openreel.recaption.language import LocalConfig, LocalModel, Script
from openreel.recaption.pairs import Pair
from tests.benchmarks.timing import report
from tests.recaption.adversarial import SABOTAGE, cases, complaint
from tests.recaption.server import Asked, ChatServer, Reply, said
from tests.recaption.tiny_language import tiny_language

NUM_TRAIN, NUM_HELD_OUT, NUM_COUNTED = 570, 300, 8_000
"""clips as the demo has them; clips that are asked about; clips that the best guess knows"""

Row = tuple[str, str, str]


class Sabotaged:
    """A backend that does one thing with every prompt."""

    instruction, translates = "", False

    def __init__(self, name: str) -> None:
        self.identity = name

    def write(self, wish: Wish) -> str:
        return SABOTAGE[self.identity](wish.prompt)


def guards(name: str, backends: Iterable[Backend]) -> Row:
    """All cases through some backends."""
    found: Counter[str] = Counter()
    for backend in backends:
        expander = GuardedExpander(backend)
        for case in cases():
            expansion = expander.expand(case.prompt)
            found[expansion.status] += 1
            found["broken"] += bool(complaint(case, expansion))
    total = found.total() - found["broken"]
    shares = f"{found['expanded']} expanded, {found['unchanged']} unchanged, "
    kept = f"{1 - found['broken'] / total:.1%} preserved or flagged ({shares}"
    return (f"guards, {name}, {total} prompts", "", f"{kept}{found['fell back']} fell back)")


def trained(root: Path) -> tuple[Path, float]:
    """The demo's expander on the demo's number of clips, and the CPU seconds it took."""
    recipe, start = demo().expander, time.process_time()
    pairs = sorted(
        {Pair(t.short, t.dense) for t in (describe(draw_scene(0, i)) for i in range(NUM_TRAIN))}
    )
    language = new_language_model(
        [t for p in pairs for t in (p.short, p.dense)], recipe.model, seed=0
    )
    style = Style.of((p.dense for p in pairs), pairs)
    task = ExpanderTask(language, pairs, recipe.task, style=style, seed=0)
    return train(task, recipe.train, root), time.process_time() - start


@contextmanager
def hostile_server() -> Iterator[EndpointModel]:
    """A server that does something else with each prompt, and often fails."""
    modes = list(SABOTAGE)
    failures = [
        *(Reply(status=500), Reply(status=401), Reply(body=b"\xffnonsense"), Reply()),
        *(said("x" * 100_000), said("half", finish="length"), said(None)),
    ]

    def reply(asked: Asked, before: int) -> Reply:
        number = sum(map(ord, asked.text)) + before
        if number % 3 == 0:
            return failures[number // 3 % len(failures)]
        prompt = asked.text.removeprefix("<prompt>").removesuffix("</prompt>")
        return said(SABOTAGE[modes[number % len(modes)]](prompt))

    with ChatServer(reply) as server:
        model = EndpointModel(EndpointConfig(base_url=server.url, model="m", max_tries=1))
        yield model
        model.close()


def all_guards(own: Path, scratch: Path) -> list[Row]:
    """One row a backend."""
    drawn = LocalConfig(max_new_tokens=24, temperature=1.0)
    brief = Script(instruction="{low} to {high} words of {language}.", mend="No: {violations}.")
    rows = [
        guards("offline", [Grammar(), Grammar(Style.read(own).dense)]),
        guards("own model", [own_model(own)]),
        guards("random language model", [LocalModel(tiny_language(scratch), brief, drawn)]),
        guards(f"{len(SABOTAGE)} kinds of sabotage", map(Sabotaged, SABOTAGE)),
    ]
    with hostile_server() as server:
        return [*rows, guards("hostile server", [server])]


def claims_of(clips: list[Description], texts: Iterable[str]) -> Agreement:
    pairs = zip(texts, clips, strict=True)
    return agreement((facts(text), facts(clip.dense)) for text, clip in pairs)


def detail(name: str, clips: list[Description], texts: Iterable[str]) -> Row:
    """Right claims against those of the short captions, with the precision."""
    short, found = claims_of(clips, (clip.short for clip in clips)), claims_of(clips, texts)
    ratio = f"{found.right / short.right:.2f}x right claims, precision {found.precision:.3f}"
    against = f"short captions: 1.00x, {short.precision:.3f}"
    return (f"detail, {name}", against, f"{ratio}, recall {found.recall:.3f}")


def situation(clip: Description) -> str:
    """What of a short caption tells of anything else in this world: how many things, moving how."""
    telling = {"a", "and", "moves", "stays", "left", "right", "up", "down", "still"}
    return " ".join(word for word in clip.short.split() if word in telling)


def attributes(text: str) -> dict[str, tuple[object, ...]]:
    """What a dense caption states beside its short one, by kind."""
    said = facts(text)
    ground = {kind: (getattr(said, kind),) for kind in ("shade", "texture", "camera", "collide")}
    return ground | {"size": tuple(thing.size for thing in said.things)}


def best_guesses(clips: list[Description], share: float) -> Row:
    """The bound: what the statistics of other clips make certain enough is stated, nothing else."""
    seen: dict[str, dict[str, Counter[tuple[object, ...]]]] = defaultdict(
        lambda: defaultdict(Counter)
    )
    for i in range(NUM_COUNTED):
        other = describe(draw_scene(7, i))
        for kind, values in attributes(other.dense).items():
            seen[situation(other)][kind][values] += 1
    base = sum(len(facts(clip.short).claims()) for clip in clips)
    right = claimed = 0
    for clip in clips:
        truth = attributes(clip.dense)
        for kind, counts in seen[situation(clip)].items():
            values, count = counts.most_common(1)[0]
            if all(values) and count >= share * counts.total():
                claimed += len(values)
                right += sum(a == b for a, b in zip(values, truth[kind], strict=True))
    figure = f"{(base + right) / base:.2f}x right claims, precision"
    name = f"detail, best guess where {share:.0%} certain"
    return (name, "a bound", f"{figure} {(base + right) / (base + claimed):.3f}")


def still(scene: Scene) -> str:
    """A true caption of a scene's first frame."""
    return describe(replace(scene, num_frames=1, collide=False, pillar=None)).dense


def all_details(own: Path) -> list[Row]:
    """Text alone, its bound, and with the first frame."""
    scenes = [draw_scene(1000, i) for i in range(NUM_HELD_OUT)]
    clips, style = [describe(scene) for scene in scenes], Style.read(own)
    expanders: dict[str, Expander] = {
        "offline": GuardedExpander(Grammar(style.dense), corpus=style.dense),
        "own model": GuardedExpander(own_model(own), corpus=style.dense),
    }
    rows = [best_guesses(clips, share) for share in (1.0, 0.8, 0.0)]
    for name, expander in expanders.items():
        texts = [expander.expand(clip.short).text for clip in clips]
        rows.append(detail(f"{name}, text alone", clips, texts))
    for name, expander in expanders.items():
        pairs = zip(clips, scenes, strict=True)
        texts = [expander.expand(clip.short, seen=still(scene)).text for clip, scene in pairs]
        rows.append(detail(f"{name}, first frame known", clips, texts))
    return rows


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "random").mkdir()
        own, seconds = trained(root / "run")
        rows = [("training the demo's own expander", "at most 60", f"{seconds:.0f} CPU s")]
        report("expander", rows + all_details(own) + all_guards(own, root / "random"))


if __name__ == "__main__":
    main()
