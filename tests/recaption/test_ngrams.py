"""The scores are what the papers' formulas and other packages give, also where there is little."""

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache

import pytest

from openreel.pipeline.errors import InputError
from openreel.recaption import ngrams
from openreel.recaption.ngrams import score

Candidates = Mapping[str, str]
References = Mapping[str, Sequence[str]]

REAL = {
    "a": (
        "A large red ball moves left across a dark striped background. The camera is still.",
        [
            "A large red ball moves right across a dark striped background. The camera is still.",
            "a red ball rolls over stripes",
        ],
    ),
    "b": (
        "Two people walk along the beach at sunset, holding hands.",
        ["A couple is walking on a sandy beach at sunset while waves roll in."] * 2,
    ),
    "c": ("It's a dog; a dog, a dog!", ["A dog is running.", "It's a brown dog.", ""]),
    "d": ("A man rides a horse.", ["A man rides a horse."]),
}


WORDS = ["a", "red", "ball", "dog", "moves", "left", "the"]


def some_captions(seed: int) -> tuple[dict[str, str], dict[str, list[str]]]:
    draw = random.Random(seed)

    def text(longest: int) -> str:
        return " ".join(draw.choice(WORDS) for _ in range(longest))

    clips = [f"clip-{i}" for i in range(draw.randint(1, 12))]
    references = {c: [text(draw.randint(0, 14)) for _ in range(draw.randint(1, 4))] for c in clips}
    for texts in references.values():
        texts += texts[: draw.randint(0, 1)]  # a repeated one
    return {c: text(draw.randint(0, 14)) for c in clips}, references


CASES: list[tuple[Candidates, References]] = [
    ({c: text for c, (text, _) in REAL.items()}, {c: texts for c, (_, texts) in REAL.items()}),
    ({"d": REAL["d"][0]}, {"d": REAL["d"][1]}),
    ({"a": "", "b": "a dog"}, {"a": ["", "a cat"], "b": [""]}),
    ({"a": ""}, {"a": [""]}),
    ({"a": REAL["a"][0]}, {c: texts for c, (_, texts) in REAL.items()}),
    *(some_captions(seed) for seed in range(40)),
]


def words_of(text: str) -> list[str]:
    """Letters and digits in small letters; nothing in these texts asks for more."""
    return "".join(c if c.isalnum() else " " for c in text.lower()).split()


def runs(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def slow_bleu(candidates: Candidates, references: References) -> float:
    """Papineni et al. 2002, section 2.3."""
    logs, length, closest = [], 0, 0
    for n in range(1, 5):
        matched = total = 0
        for clip, text in candidates.items():
            own = runs(words_of(text), n)
            most: Counter[tuple[str, ...]] = Counter()
            for reference in references[clip]:
                most |= runs(words_of(reference), n)
            matched += (own & most).total()
            total += own.total()
        if not matched:
            return 0.0
        logs.append(math.log(matched / total))
    for clip, text in candidates.items():
        own_length = len(words_of(text))
        lengths = [len(words_of(reference)) for reference in references[clip]]
        length += own_length
        closest += min(lengths, key=lambda r: (abs(r - own_length), r))
    return math.exp(min(0.0, 1 - closest / length) + sum(logs) / 4)


def common(a: tuple[str, ...], b: tuple[str, ...]) -> int:
    """Length of the longest common subsequence, by its definition."""

    @cache
    def best(i: int, j: int) -> int:
        if i == len(a) or j == len(b):
            return 0
        if a[i] == b[j]:
            return 1 + best(i + 1, j + 1)
        return max(best(i + 1, j), best(i, j + 1))

    return best(0, 0)


def slow_rouge(candidates: Candidates, references: References) -> float:
    """Lin 2004, section 3.1, with the best precision and the best recall of several references."""
    beta, found = 1.2, []
    for clip, text in candidates.items():
        own = tuple(words_of(text))
        others = [tuple(words_of(reference)) for reference in references[clip]]
        shared = [common(own, other) for other in others]
        precision = max(s / len(own) if own else 0 for s in shared)
        recall = max(s / len(o) if o else 0 for s, o in zip(shared, others, strict=True))
        top = (1 + beta**2) * precision * recall
        found.append(top / (recall + beta**2 * precision) if top else 0.0)
    return sum(found) / len(found)


def slow_cider(candidates: Candidates, references: References) -> float:
    """Vedantam et al. 2015, equations 1, 2 and 4 (CIDEr-D), on plain counts."""

    having: Counter[tuple[str, ...]] = Counter()
    for texts in references.values():
        having.update(
            {run for text in texts for n in range(1, 5) for run in runs(words_of(text), n)}
        )

    def rarity(run: tuple[str, ...]) -> float:
        return math.log(len(references) / max(1, having[run]))

    def weights(text: str, n: int) -> dict[tuple[str, ...], float]:
        return {run: count * rarity(run) for run, count in runs(words_of(text), n).items()}

    def size(vector: Mapping[tuple[str, ...], float]) -> float:
        return math.sqrt(sum(x * x for x in vector.values()))

    found = []
    for clip, text in candidates.items():
        total = 0.0
        for n in range(1, 5):
            own = weights(text, n)
            for reference in references[clip]:
                other = weights(reference, n)
                shared = sum(
                    min(x, other.get(run, 0)) * other.get(run, 0) for run, x in own.items()
                )
                apart = len(words_of(text)) - len(words_of(reference))
                if norm := size(own) * size(other):
                    total += math.exp(-(apart**2) / (2 * 6.0**2)) * shared / norm
        found.append(10 * total / 4 / len(references[clip]))
    return sum(found) / len(found)


@pytest.mark.parametrize(("candidates", "references"), CASES)
def test_scores_are_those_of_the_formulas(candidates: Candidates, references: References) -> None:
    found = score(candidates, references)
    assert found.clips == len(candidates)
    assert found.bleu_4 == pytest.approx(slow_bleu(candidates, references), abs=1e-6)
    assert found.rouge_l == pytest.approx(slow_rouge(candidates, references), abs=1e-6)
    assert found.cider == pytest.approx(slow_cider(candidates, references), abs=1e-6)


@pytest.mark.parametrize(("candidates", "references"), CASES)
def test_scores_are_those_of_the_packages_own_programs(
    candidates: Candidates, references: References
) -> None:
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge
    from rouge_score.rouge_scorer import RougeScorer

    found = score(candidates, references)
    own = {clip: [" ".join(words_of(text))] for clip, text in candidates.items()}
    known = {c: [" ".join(words_of(text)) for text in references[c]] for c in candidates}
    bleu = Bleu(4).compute_score(known, own, verbose=0)[0][3]
    if bleu > 1e-3:  # below it pycocoevalcap's guard against division by zero shows
        assert found.bleu_4 == pytest.approx(bleu, abs=1e-6)
    if all(text for (text,) in own.values()):
        assert found.rouge_l == pytest.approx(Rouge().compute_score(known, own)[0], abs=1e-6)
    if set(references) == set(candidates) and any(
        text for texts in known.values() for text in texts
    ):
        assert found.cider == pytest.approx(Cider().compute_score(known, own)[0], abs=1e-6)
    for clip, (text,) in own.items():
        reference = known[clip][0]
        other = RougeScorer(["rougeL"]).score(reference, text)["rougeL"]
        top = 2.44 * other.precision * other.recall
        expected = top / (other.recall + 1.44 * other.precision) if top else 0.0
        alone = score({clip: text}, {clip: [reference]})
        assert alone.rouge_l == pytest.approx(expected, abs=1e-6)


def test_the_cases_are_not_trivial() -> None:
    found = [score(*case) for case in CASES]
    for name in ("bleu_4", "rouge_l", "cider"):
        values = [getattr(f, name) for f in found]
        assert sum(0.01 < v < 0.99 for v in values) >= 5
        assert 0 in values
    assert any(len(candidates) == 1 for candidates, _ in CASES)
    assert any("" in candidates.values() for candidates, _ in CASES)
    assert any(len(set(t)) < len(t) for _, references in CASES for t in references.values())


def test_a_clips_score_does_not_depend_on_which_others_are_scored() -> None:
    candidates, references = CASES[0]
    alone = [score({clip: text}, references) for clip, text in candidates.items()]
    together = score(candidates, references)
    assert sum(f.cider for f in alone) / len(alone) == pytest.approx(together.cider)
    assert together.cider > 0
    only = {"a": references["a"]}
    assert score({"a": candidates["a"]}, only).cider == 0, "of one clip nothing is rare"


def test_they_are_blind_to_the_words_that_matter() -> None:
    """Why scores by attribute come first: a wrong direction costs next to nothing."""
    right = {c: texts for c, (_, texts) in REAL.items()}
    right = {**right, "a": right["a"][:1]}
    wrong = score({"a": REAL["a"][0]}, right)
    assert "left" in REAL["a"][0]
    assert "right" in right["a"][0]
    assert wrong.bleu_4 > 0.7
    assert wrong.rouge_l > 0.9


def test_mistakes_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="candidates: got 'none'"):
        score({}, {"a": ["x"]})
    with pytest.raises(InputError, match="references: got 'b'"):
        score({"b": "x"}, {"a": ["x"], "b": []})
    monkeypatch.setattr(ngrams, "PACKAGES", ("no_such_package",))
    with pytest.raises(InputError, match="metrics: got 'not installed'"):
        score({"a": "x"}, {"a": ["x"]})
