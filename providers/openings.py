"""Pure: whether a model that should continue has started its answer over, in other words.

"Sure! Here is a list of red fruits: apple, straw" continues as "Sure! Here are some red fruits:
...". Both begin with the same whole words, the *opening*, and then differ. Only the opening can be
judged: readers see nothing during the wait, so the verdict comes with the first different
character.

Two errors are possible, at different costs.

| error | cost |
|---|---|
| a start over is taken for a continuation | the reader reads the text twice; nothing is lost |
| a continuation is taken for a start over | the old text is lost silently: a line or pages |

So the second one has to be rare. How often a continuation begins like the answer depends little on
its length, but a lot on where it broke off. That decides how much opening is enough (`_needed`),
for a line as for a page:

| the held text ends | what else may begin so | enough |
|---|---|---|
| within a sentence | a name ("New York City") | a weight of 3 |
| with a sentence, within a line | a similar sentence | a weight of 6, if it occurs only once |
| with a line, or a list or table item follows | a refrain, an equal line | 100 characters |
| anywhere, with an exclamation as opening ("Sure! Here") | hardly anything | a weight of 3 |

An opening that also begins a later line of the held text is a refrain or a list item, and does not
count.

The weight (`_weight`) counts whole words. A name counts as one word, however long. Chinese signs
count a third, signs of other scripts without spaces a fifth: a word takes that many. Each sentence
counts at least 1, and its end counts 1 more. So "Sure!" and "The French Revolution was" are too
little; "Sure! Here", "The French Revolution was a" and a heading of two words are enough.

Missed start-overs double the text: openings that share a word or two ("Sure, here is", "Sure, here
are"), or differ in case, space or markup; and most of those behind a whole line. One kind is wrong:
a refrain of more than 100 characters at its second appearance.
"""

import re
from unicodedata import category

_MAX_READ = 1000
"""No opening is longer."""
_CERTAIN = 100
"""Characters that two lines do not share by chance."""
_ENOUGH = 3.0
_ENOUGH_BEHIND_A_SENTENCE = 6.0
_ITEM = re.compile(r"[-*+•>]\s|\|")
_SENTENCE = re.compile(r"[!?…。！？]+|(?<=\w{5})\.\s|\n")
"""The end of a sentence or heading. After a short word, a full stop may belong to it: Prof.
Smith.
"""
_EXCLAMATION = re.compile(r"[^\n.?…。？!！]{1,20}[!！]+\s*\S*\w")
_NAME = re.compile("C(?:s*C)+")
_GOES_ON = frozenset(",、，")
_SIGNS = (
    (re.compile("[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"), 3),
    (re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff]"), 5),
)
"""Scripts without spaces, and how many signs count as a word: Chinese; Thai, Lao, Burmese, Khmer,
and Japanese syllables.
"""


def begins_anew(held: str, text: str) -> bool:
    """Whether `text` begins as `held` does. Precondition: it differs from `held` further on, and
    does not overlap its end.
    """
    bare = held.strip()
    opening = _opening(bare, text.lstrip())
    if not opening.strip() or "\n" + opening.rstrip() in bare:
        return False
    return len(opening) >= _CERTAIN or _weight(opening) >= _needed(held, text, opening)


def _opening(held: str, text: str) -> str:
    """The whole words with which both begin."""
    both = min(len(held), len(text), _MAX_READ)
    length = next((at for at in range(both) if held[at] != text[at]), both)
    while length and (_within_word(held, length) or _within_word(text, length)):
        length -= 1
    return held[:length]


def _within_word(text: str, at: int) -> bool:
    if at >= len(text) or not (_is_of_word(text[at - 1]) and _is_of_word(text[at])):
        return False
    return _is_mark(text[at]) or _is_mark(text[at - 1]) or not _is_unspaced(text[at - 1])


def _is_of_word(character: str) -> bool:
    return (
        character.isalnum()
        or character == "_"
        or category(character) == "So"
        or _is_mark(character)
    )


def _is_mark(character: str) -> bool:
    """Accents, vowels, joiners, and the selectors and skin tones of emoji: they belong to the
    character before them.
    """
    return category(character) in ("Mn", "Mc", "Me", "Cf", "Sk")


def _is_unspaced(character: str) -> bool:
    return any(signs.match(character) for signs, _ in _SIGNS)


def _needed(held: str, text: str, opening: str) -> float:
    if _ITEM.match(opening):
        return float("inf")
    if _EXCLAMATION.match(opening):
        return _ENOUGH
    bare, lead = held.rstrip(), text[: len(text) - len(text.lstrip())]
    if "\n" in held[len(bare) :] + lead:
        return float("inf")
    if _is_open(bare[-1]):
        return _ENOUGH
    return float("inf") if opening.rstrip() in bare[1:] else _ENOUGH_BEHIND_A_SENTENCE


def _is_open(last: str) -> bool:
    """Whether a text that ends with this character ends within a sentence."""
    return last in _GOES_ON or category(last)[0] in "LMN" or category(last) in ("Ps", "Pi", "Pd")


def _weight(opening: str) -> float:
    weights = [weight for part in _SENTENCE.split(opening) if (weight := _words(part))]
    return sum(max(1.0, weight) for weight in weights) + bool(_SENTENCE.search(opening))


def _words(part: str) -> float:
    found = 0.0
    for signs, word in _SIGNS:
        part, count = signs.subn(" ", part)
        found += count / word
    shape = "".join(
        _shape(bare) for word in part.split() if (bare := "".join(filter(_is_of_word, word)))
    )
    return found + len(_NAME.sub("C", shape))


def _shape(word: str) -> str:
    """C: has a capital. s: short, may occur within a name ("Lord of the Rings")."""
    if word[0].isupper():
        return "C"
    return "s" if len(word) <= 3 else "w"
