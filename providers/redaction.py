"""Pure: what others say, without our secrets. Some providers repeat the key that they refuse, and
the text is logged. The service of a tool may repeat what it was given, and people read it.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from tokenwire.protocol.text import MAX_JSON_DEPTH
from tokenwire.providers.quotes import without_quotes

HIDDEN = "[redacted]"
_SHORTEST = 6
"""A shorter beginning of a secret reveals nothing."""
_SHORTEST_PART = 8
"""The same for other parts of it: a key may be repeated without its prefix."""
_NAMED = re.compile(
    r"""(?ix)
    (?P<name> \b(?:(?:proxy-)?authorization|x-api-key|x-goog-api-key
        |api[-_ ]?key(?:[ ]provided)?|access[-_]?token|client[-_]?secret
        |password)\b
        ["']? \s* [:=] \s* ["']? (?:bearer|basic|token)? \s*
      | \b(?:bearer|basic) \s+
      | [?&](?:key|api[-_]?key|token|access_token|sig|signature)= )
    (?P<secret> (?=\S*[0-9]|\S{12}) [A-Za-z0-9._~+/*=\-]{6,} )
    """
)
"""The word after the name of a credential; short words without a digit are plain words."""
_SHAPED = re.compile(
    r"""(?x)
      \b (?:sk|pk|rk|gsk|hf|xai|pplx|fw|r8|nvapi|csk|tgp|ghp|gho|ghs|github_pat|glpat|xoxb|xoxp)
        [-_][A-Za-z0-9_\-]{8,}
    | \bAIza[A-Za-z0-9_\-]{20,}
    | \bya29\.[A-Za-z0-9_.\-]{10,}
    | \b(?:AKIA|ASIA)[A-Z0-9]{12,}
    | \beyJ[A-Za-z0-9_\-]{8,}(?:\.[A-Za-z0-9_\-]+){1,2}
    | (?<=://)[^\s/@:]+:[^\s/@]+(?=@)
    """
)
"""The forms of known keys: they are hidden anywhere."""


def redacted(text: str, secrets: Iterable[str] = ()) -> str:
    """The text without `secrets`, long parts of them (also at a cut), and anything in the form or
    under the name of one.
    """
    known = [secret for secret in secrets if len(secret) >= _SHORTEST]
    for secret in known:
        text = _without_beginning(text.replace(secret, HIDDEN), secret)
    if known:
        text = without_quotes(text, known, shortest=_SHORTEST_PART, mark=HIDDEN)
    text = _NAMED.sub(lambda match: match["name"] + HIDDEN, text)
    return _SHAPED.sub(HIDDEN, text)


def without_secrets(value: Any, secrets: Iterable[str]) -> Any:
    """A JSON value whose texts and names do not hold these secrets. Nothing else changes: it is a
    result, and not a text for the log. Levels beyond MAX_JSON_DEPTH are left as they are, because
    nobody is shown such a value.
    """
    known = sorted((each for each in secrets if len(each) >= _SHORTEST), key=len, reverse=True)
    return _hiding(value, known, MAX_JSON_DEPTH + 1) if known else value


def _hiding(value: Any, secrets: Sequence[str], levels: int) -> Any:
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, HIDDEN)
        return value
    if not levels or not isinstance(value, dict | list):
        return value
    if isinstance(value, list):
        return [_hiding(each, secrets, levels - 1) for each in value]
    return {
        _hiding(key, secrets, 0): _hiding(each, secrets, levels - 1) for key, each in value.items()
    }


def _without_beginning(text: str, secret: str) -> str:
    for length in range(min(len(secret), len(text)), _SHORTEST - 1, -1):
        if text.endswith(secret[:length]):
            return text[:-length] + HIDDEN
    return text
