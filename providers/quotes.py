"""Pure: removes quotations from a text. Some providers repeat the request in an error, and errors
are logged.

A quotation is found in any case, with any white space and JSON escapes. Work is proportional to the
length of text and sources; with more than `MAX_SOURCE_CHARS` nothing is compared, and nothing of
the text is kept.
"""

import re
from collections.abc import Collection, Iterator

SHORTEST = 12
"""Shorter quotations reveal nothing."""
MAX_SOURCE_CHARS = 250_000
"""Characters that are searched. This takes some hundredths of a second."""
ELLIPSIS = "…"
_ESCAPED = re.compile(
    r"""(?xi)
      (?P<space> (?: \s | \\+[nrtbf] | \\+u000[9aAdD] )+ )
    | \\+u(?P<high> [dD][89abAB][0-9a-fA-F]{2} ) \\+u(?P<low> [dD][c-fC-F][0-9a-fA-F]{2} )
    | \\+u(?P<code> [0-9a-fA-F]{4} )
    | \\+
    """
)
"""Any number of escapes. A text with its own backslashes loses them on both sides."""


def without_quotes(
    text: str, sources: Collection[str], *, shortest: int = SHORTEST, mark: str = ELLIPSIS
) -> str:
    """`mark` replaces each run of at least `shortest` characters that also occurs in one of
    `sources`.
    """
    if sum(map(len, sources)) > MAX_SOURCE_CHARS:
        return mark
    signs = list(_signs(text))
    plain = "".join(sign for sign, _, _ in signs)
    wanted = {plain[at : at + shortest] for at in range(len(plain) - shortest + 1)}
    found = (
        {run for source in sources for run in _runs(_plain(source), shortest) if run in wanted}
        if wanted
        else set()
    )
    kept, reached = "", 0
    for first, last in _joined(
        [at for at in range(len(plain) - shortest + 1) if plain[at : at + shortest] in found],
        shortest,
    ):
        kept += text[reached : signs[first][1]] + mark
        reached = signs[last][2]
    return kept + text[reached:]


def _signs(text: str) -> Iterator[tuple[str, int, int]]:
    """Characters in their compared form, with the index of each in the text."""
    reached = 0
    for match in (*_ESCAPED.finditer(text), None):
        for at in range(reached, match.start() if match else len(text)):
            yield from ((sign, at, at + 1) for sign in text[at].casefold())
        if match:
            yield from ((sign, match.start(), match.end()) for sign in _meant(match).casefold())
            reached = match.end()


def _plain(text: str) -> str:
    return _ESCAPED.sub(_meant, text).casefold()


def _meant(match: re.Match[str]) -> str:
    if match["space"]:
        return " "
    if match["high"]:
        return chr(
            0x10000 + ((int(match["high"], 16) - 0xD800) << 10) + int(match["low"], 16) - 0xDC00
        )
    return chr(int(match["code"], 16)) if match["code"] else ""


def _runs(text: str, length: int) -> Iterator[str]:
    return (text[at : at + length] for at in range(len(text) - length + 1))


def _joined(starts: list[int], length: int) -> list[tuple[int, int]]:
    """First and last index of each stretch that runs of this length cover."""
    stretches: list[tuple[int, int]] = []
    for start in starts:
        first = start
        if stretches and start <= stretches[-1][1] + 1:
            first, _ = stretches.pop()
        stretches.append((first, start + length - 1))
    return stretches
