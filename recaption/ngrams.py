"""How many runs of words captions share with reference captions: BLEU-4, ROUGE-L, CIDEr-D.

To be read after scores by attribute, never instead of them. These scores are blind to the few words
that say how things move: captions with every direction and camera movement drawn at random, of
which 3 % were right, reached BLEU-4 0.71, ROUGE-L 0.86 and CIDEr 5.8.

The arithmetic is sacrebleu's (BLEU) and pycocoevalcap's (the others), the extra `metrics`. The
words are those of checks.spoken_words: small letters, no punctuation, no Java. Two traps of the
packages are closed here: pycocoevalcap takes an empty caption for one word, which an empty
reference shares; and it counts how rare a run of words is among the clips that are scored, so that
the same caption would score differently in a smaller set. Here all references count, scored or not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

from openreel.pipeline.errors import InputError
from openreel.recaption.checks import spoken_words

PACKAGES = ("sacrebleu", "pycocoevalcap")


@dataclass(frozen=True, kw_only=True)
class NgramScores:
    """Likeness of a set of captions to references."""

    clips: int
    """how many were scored"""
    bleu_4: float
    """0 to 1, of the whole set at once, without smoothing, against the closest length (Papineni et
    al. 2002)"""
    rouge_l: float
    """0 to 1, mean over clips: longest common subsequence, recall weighted 1.2 (Lin 2004)"""
    cider: float
    """0 to 10, mean over clips: CIDEr-D on plain counts, as its authors' program has it (Vedantam
    et al. 2015); 0 when all references are of one clip, where no run of words is rare"""


def installed() -> bool:
    """Whether the packages that do the arithmetic are there."""
    return all(find_spec(name) for name in PACKAGES)


def score(candidates: Mapping[str, str], references: Mapping[str, Sequence[str]]) -> NgramScores:
    """Captions against reference captions, by clip.

    references: of at least the clips that have a candidate; those of other clips tell how rare
    words are. Raises InputError if there is nothing to score, for a candidate without a reference,
    and where the packages are missing.
    """
    if not installed():
        raise InputError("metrics", "not installed", "pip install 'openreel[metrics]'")
    if not candidates:
        raise InputError("candidates", "none", "at least one caption")
    for clip in candidates:
        if not references.get(clip):
            raise InputError("references", clip, "at least one for each caption")
    spoken = {clip: _spaced(text) for clip, text in candidates.items()}
    known = {clip: [_spaced(text) for text in texts] for clip, texts in references.items() if texts}
    return NgramScores(
        clips=len(spoken),
        bleu_4=_bleu(spoken, known),
        rouge_l=float(np.mean([_rouge(text, known[clip]) for clip, text in spoken.items()])),
        cider=float(np.mean(_cider(spoken, known))),
    )


def _spaced(text: str) -> str:
    return " ".join(spoken_words(text))


def _bleu(spoken: Mapping[str, str], known: Mapping[str, Sequence[str]]) -> float:
    from sacrebleu.metrics.bleu import BLEU

    widest = max(len(known[clip]) for clip in spoken)
    # sacrebleu wants a column a reference; None where a clip has fewer of them.
    columns = [
        [known[clip][i] if i < len(known[clip]) else None for clip in spoken] for i in range(widest)
    ]
    metric = BLEU(tokenize="none", smooth_method="none", force=True)
    return float(metric.corpus_score(list(spoken.values()), columns).score) / 100  # type: ignore[arg-type]


def _rouge(text: str, references: Sequence[str]) -> float:
    from pycocoevalcap.rouge.rouge import Rouge

    return float(Rouge().calc_score([text], list(references))) if text else 0.0


def _cider(spoken: Mapping[str, str], known: Mapping[str, Sequence[str]]) -> list[float]:
    from pycocoevalcap.cider.cider_scorer import CiderScorer

    scorer = CiderScorer()
    for clip, texts in known.items():
        scorer += (spoken.get(clip, ""), list(texts))
    scorer.compute_doc_freq()
    found = zip(known, scorer.compute_cider(), strict=True)
    return [float(value) for clip, value in found if clip in spoken]
