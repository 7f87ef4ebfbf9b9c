"""Pure: the scripted provider's answers. The text follows from the question alone, so that every
check can compute it.
"""

import random
import re
from dataclasses import dataclass

_WORDS = (  # noqa: SIM905 - a list of quoted quotes could not be read
    "stream answer worker lease reader token naïve façade Straße größer déjà über ещё раз 文字 列 "
    "日本語 수 العربية हिन्दी "
    "🙂 👩‍👩‍👧 🇩🇪 e\u0301 𝒳 𐍈 `code` **bold** 1,024 3.14159 — “quoted” \\n < & > \" ' / { } [ ]"
).split()
_QUESTION = re.compile(r"text (\d+) of (\d+) pieces")


@dataclass(frozen=True, slots=True)
class Script:
    """One answer: the text, and the pieces in which a provider sends it."""

    number: int
    pieces: tuple[str, ...]

    @property
    def question(self) -> str:
        """What to post to get it."""
        return f"Please write text {self.number} of {len(self.pieces)} pieces."

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(self.pieces)

    def after(self, prefix: str) -> list[str]:
        """The pieces after `prefix`; the first may be partial. Raises ValueError for a prefix of
        another text.
        """
        if not self.text.startswith(prefix):
            raise ValueError("not the beginning of this text")
        left, rest = len(prefix), []
        for piece in self.pieces:
            if left < len(piece):
                rest.append(piece[left:])
            left = max(0, left - len(piece))
        return rest


def script(number: int, count: int) -> Script:
    """The answer of this number, in so many pieces. No two places of it look alike for long."""
    dice = random.Random(f"{number}/{count}")
    pieces = []
    for index in range(count):
        word = dice.choice(_WORDS)
        if index % 7 == 0:
            word = f"{number}.{index}"
        pieces.append(word + dice.choice((" ", " ", " ", ", ", "\n\n", "")))
    # Ends in something that no trimming could touch.
    return Script(number, (*pieces[:-1], f"end of {number}."))


def asked_for(question: str) -> Script | None:
    """The answer that a question asks for, None if it is no question of ours."""
    found = _QUESTION.search(question)
    return script(int(found[1]), int(found[2])) if found else None
