"""Pure: the title of a conversation, from a model's answer or from a message's first words.

Guarantees: at most `MOST_WORDS` words, no Markdown, no quotation marks, nothing that cannot be
stored, and a script that the conversation is written in.

Rejected: a library that tells languages apart (it needs more text than a title has).
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from itertools import accumulate

from tokenwire.protocol.text import storable

LONGEST = 60
MOST_WORDS = 6
MAX_READ = 2000
"""Characters of a text that are searched for its words.

The patterns for Markdown take quadratic time in a line's length.
"""
SHARE = 0.2
"""So much of a text is in a script that is more than a foreign word in it."""
_QUOTES = re.compile("[\"`“”„‟«»‹›「」『』＂]|(?<!\\w)['‘’‚‛]|['‘’‚‛](?!\\w)")


def tidy(text: str) -> str:
    """A model's answer as a storable title: the words of its first non-empty line.

    Empty if there are far too many words.
    """
    lines = _beginning(storable(text))
    line = next((plain for line in lines if (plain := _plain(line))), "")
    line = re.sub(r"^title:\s*", "", line, flags=re.IGNORECASE).strip(" \t.")
    return _cut(line) if len(line) <= 2 * LONGEST else ""


def first_words(text: str) -> str:
    """The beginning of a message, cut between words."""
    return _cut(" ".join(plain for line in _beginning(text) if (plain := _plain(line))))


def _beginning(text: str) -> list[str]:
    return text.lstrip()[:MAX_READ].splitlines()


def _plain(line: str) -> str:
    """The words of a line, without Markdown and quotation marks. Marks within a word stay, as in
    `snake_case` and in `don't`.
    """
    line = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", line)
    line = re.sub(r"^\s*(?:[#>]+|[-+*]|\d+[.)])\s+|^\s*(?:```|~~~)\w*", "", line)
    line = re.sub(r"(?<!\w)[*_~`]+(?=\S)|(?<=\S)[*_~`]+(?!\w)|<[/!]?[a-zA-Z][^>]*>", "", line)
    return " ".join(_QUOTES.sub("", line).split())


def _cut(line: str) -> str:
    """At most `MOST_WORDS` words and a width of `LONGEST`. An ellipsis replaces the rest."""
    words = line.split(" ")
    short = " ".join(words[:MOST_WORDS])
    if _width(short) <= LONGEST and len(words) <= MOST_WORDS:
        return short
    cut = _of_width(short, LONGEST - 1)
    if cut != short:
        cut = cut.rpartition(" ")[0] or cut
    return cut + "…"


def _of_width(text: str, width: int) -> str:
    widths = accumulate(_width(character) for character in text)
    return text[: sum(1 for reached in widths if reached <= width)]


def _width(text: str) -> int:
    """A character of Chinese, Japanese or Korean counts two: it says more, and takes more room."""
    return sum(1 + (unicodedata.east_asian_width(character) in "WF") for character in text)


def fits_languages(title: str, texts: Iterable[str]) -> bool:
    """Whether most letters of a title belong to a script that has a share in one of these texts.

    Languages of one script are not told apart: six words are too few for that.
    """
    scripts = _scripts(title)
    if not scripts:
        return True
    (most, _) = scripts.most_common(1)[0]
    found = [_scripts(text) for text in texts]
    return any(each[most] >= SHARE * each.total() for each in found if each)


def _scripts(text: str) -> Counter[str]:
    return Counter(_script(character) for character in text if character.isalpha())


def _script(letter: str) -> str:
    """The first word of its name in Unicode, such as `LATIN`. Japanese is written in three."""
    name = unicodedata.name(letter, "").partition(" ")[0]
    return "CJK" if name in ("HIRAGANA", "KATAKANA") else name
