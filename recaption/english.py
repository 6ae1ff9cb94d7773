"""Word lists of English, and whether a prompt is English at all."""

import re
from collections.abc import Set as AbstractSet

COLOURS = {
    *("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white"),
    *("grey", "gray", "golden", "gold", "silver", "violet", "turquoise", "cyan", "magenta"),
    *("beige", "crimson", "scarlet", "teal", "maroon", "navy", "indigo"),
}
SIZES = {"small", "large", "tiny", "big", "little", "huge", "giant"}
PEOPLE = {
    *("person", "people", "man", "men", "woman", "women", "boy", "boys", "girl", "girls"),
    *("child", "children", "crowd", "someone", "somebody", "lady", "guy", "pedestrian"),
    *("pedestrians", "human", "humans", "kid", "kids", "figure", "figures"),
}
_COUNTS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    *("nineteen", "twenty"),
)
_TENS = {"thirty": "30", "forty": "40", "fifty": "50", "hundred": "100", "dozen": "12"}
NUMBERS = {word: str(value) for value, word in enumerate(_COUNTS)} | _TENS
IRREGULAR = {
    **{"men": "man", "women": "woman", "children": "child", "feet": "foot", "mice": "mouse"},
    **{"geese": "goose", "leaves": "leaf", "wolves": "wolf", "knives": "knife", "his": "he"},
    **{"him": "he", "her": "she", "hers": "she", "gray": "grey", "ran": "run", "flew": "fly"},
    **{"swam": "swim", "fell": "fall", "sat": "sit", "stood": "stand", "drove": "drive"},
    **{"rode": "ride", "rose": "rise", "went": "go", "goes": "go", "lying": "lie", "dying": "die"},
}
"""forms that endings alone do not bring together"""

FILLERS = {
    *("a", "an", "the", "this", "that", "these", "those", "some", "any", "is", "are", "was"),
    *("were", "be", "been", "being", "am", "do", "does", "did", "has", "have", "had", "will"),
    *("would", "can", "could", "should", "there", "it", "its", "their", "they", "them", "i"),
    *("me", "my", "we", "us", "our", "you", "your", "please", "just", "very", "really", "s"),
    *("who", "which", "what", "of", "to", "in", "on", "at", "with", "for", "as", "and", "or"),
    *("but", "while", "so", "also", "too", "both", "each", "himself", "herself", "itself"),
}
"""words that carry no claim; an expansion may lose or add them"""

NEGATORS = {
    *("no", "not", "without", "never", "neither", "nor", "none", "cannot", "nobody", "nothing"),
    *("nowhere", "avoid", "avoiding", "exclude", "excluding", "except", "omit", "omitting"),
    *("devoid", "lacking", "minus"),
}
LIGHT = {
    *("a", "an", "the", "any", "some", "more", "to", "do", "does", "is", "are", "be", "being"),
    *("show", "showing", "shown", "include", "including", "have", "has", "having", "see", "add"),
    *("use", "using", "there", "visible", "seen", "of", "single", "sign", "signs"),
}
"""words between a negator and what it negates"""

_COMMON = {
    *("the", "an", "is", "are", "with", "of", "and", "on", "at", "to", "not", "from", "into"),
    *("over", "under", "through", "behind", "while", "without", "his", "her", "their", "its"),
    *("she", "they", "he", "it", "its", "has", "have", "by", "for", "as", "when", "then", "very"),
    *("this", "that", "there", "moves", "moving", "walks", "runs", "flies", "stands", "sits"),
    *("plays", "dances", "jumps", "rolls", "falls", "rises", "spins", "drives", "swims", "looks"),
    *("dog", "dogs", "cat", "cats", "horse", "horses", "bird", "birds", "fish", "car", "cars"),
    *("ball", "balls", "cube", "cubes", "tree", "trees", "house", "street", "city", "beach"),
    *("forest", "mountain", "river", "sea", "ocean", "sky", "snow", "rain", "fire", "night"),
    *("sunset", "sunrise", "water", "flower", "flowers", "boat", "train", "zebra", "fox", "bear"),
    *("kitchen", "room", "table", "camera", "close-up", "people", "woman", "girl", "boy"),
    *("children", "left", "right", "up", "down", "forward", "slow", "fast", "slowly", "quickly"),
    *("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "says", "sign"),
}
"""words that show a prompt to be English; "a" is Portuguese and "no" is Spanish too"""
_FOREIGN = {
    *("de", "la", "le", "el", "les", "los", "las", "un", "une", "una", "uno", "des", "du", "et"),
    *("der", "die", "das", "ein", "eine", "einem", "einer", "und", "den", "dem", "il", "lo"),
    *("gli", "di", "que", "os", "um", "uma", "da", "em", "na", "een", "het", "och", "ett"),
    *("som", "w", "z", "nie", "bir", "ve", "yang", "dan", "och", "og", "på", "auf", "mit", "im"),
    *("en", "il", "del", "della", "sur", "dans", "con", "por", "para", "och", "nel", "ist"),
}


def stem(word: str) -> str:
    """One form for a word's endings: dogs and dog, moves and moving; a number word as digits."""
    word = word.removesuffix("'s")
    word = NUMBERS.get(word, IRREGULAR.get(word, word))
    for ending, instead in (("ies", "y"), ("ied", "y"), ("ing", ""), ("ed", ""), ("s", "")):
        rest = word.removesuffix(ending)
        whole = len(rest) > 1 if instead else len(rest) > 2 and re.search(r"[aeiouy]", rest)
        if rest == word or not whole:
            continue
        if ending == "s" and rest[-1] in "su":
            continue
        doubled = ending in ("ing", "ed") and rest[-1] == rest[-2] and rest[-1] not in "lsz"
        word = (rest[:-1] if doubled else rest) + instead
        break
    return word.removesuffix("e") if len(word) > 3 else word


def is_english(text: str, vocabulary: AbstractSet[str] = frozenset()) -> bool:
    """Whether English may be added: Latin letters, an English word, no other language's.

    vocabulary: further words that are known to be English, such as those of English captions.
    """
    said = set(re.findall(r"\w+(?:['’-]\w+)*", text.lower()))
    latin = all(ord(c) < 0x250 for c in text if c.isalpha())
    english = _COMMON | COLOURS | SIZES | (PEOPLE - {"figure"}) | (vocabulary - {"a", "no"})
    return latin and bool(said & english) and not said & _FOREIGN
