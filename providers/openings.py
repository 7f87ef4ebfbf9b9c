"""Pure: whether a model that was asked to go on has begun its answer anew, in other words.

"Sure! Here is a list of red fruits: apple, straw" goes on as "Sure! Here are some red fruits: ...". Both begin with the same whole words,
the *opening*, and then differ. Only the opening can be judged: readers see nothing while we wait, so the verdict falls with the first
character that differs.

Two errors are possible, and they do not cost the same.

| error | costs |
|---|---|
| a start over is taken for a continuation | the reader reads the text twice; nothing is lost |
| a continuation is taken for a start over | what was said is lost, without a sign of it: a line early on, pages later |

So the second one has to be rare. How often a continuation begins like the answer depends little on how much has been said, but a lot on
where it broke off. That decides how much opening is enough (`_needed`), for a line as for a page:

| the held text ends | what else may begin so | enough |
|---|---|---|
| in the midst of a sentence | a name ("New York City", "The Lord of the Rings") | a weight of 3 |
| with a sentence, in a line | a sentence that begins like the first one | a weight of 6, if it stands in the text only once |
| with a line, or the new text begins with an item of a list or table | the next item, a refrain, an equal line of code | 100 characters |
| anywhere, but the opening is an exclamation and what follows it ("Sure! Here") | hardly anything | a weight of 3 |

Whatever begins a later line of the held text, too, is a refrain or an item of a list, and no opening.

The weight (`_weight`) counts whole words. A name counts as one word, however long. Chinese signs count a third, signs of other scripts
without spaces a fifth: they need that many for a word. Each sentence counts at least 1, and the end of one counts 1 more. So "Sure!" and
"The French Revolution was" are too little; "Sure! Here", "The French Revolution was a" and a heading of two words are enough.

What this misses is doubled: openings that share a word or two ("Sure, here is", "Sure, here are"), or differ in case, space or markup; and
most of those behind a whole line. What it gets wrong: a refrain of more than 100 characters at its second appearance.
"""

import re
from unicodedata import category

_MAX_READ = 1000
"""No opening is longer."""
_CERTAIN = 100
"""Characters that no two lines share by chance."""
_ENOUGH = 3.0
_ENOUGH_BEHIND_A_SENTENCE = 6.0
_ITEM = re.compile(r"[-*+•>]\s|\|")
_SENTENCE = re.compile(r"[!?…。！？]+|(?<=\w{5})\.\s|\n")
"""What ends a sentence, or a heading. Behind a short word, a full stop may belong to it: Prof. Smith."""
_EXCLAMATION = re.compile(r"[^\n.?…。？!！]{1,20}[!！]+\s*\S*\w")
_NAME = re.compile("C(?:s*C)+")
_GOES_ON = frozenset(",、，")
_SIGNS = (
    (re.compile("[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"), 3),
    (re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff]"), 5),
)
"""Scripts without spaces, and how many of their signs are taken for a word: Chinese; Thai, Lao, Burmese, Khmer, and Japanese syllables."""


def begins_anew(held: str, text: str) -> bool:
    """Whether `text` begins as `held` does. It is asked about text that differs from `held` further on, and does not overlap its end."""
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
    """Accents and vowels, joiners, the selectors and skin tones of emoji: they belong to what stands before them."""
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
    """Whether a text that ends with this character ends in the midst of a sentence."""
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
    """C: has a capital. s: short, may stand within a name ("Lord of the Rings")."""
    if word[0].isupper():
        return "C"
    return "s" if len(word) <= 3 else "w"
