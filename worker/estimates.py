"""Pure: what a request or an answer may have cost, where the provider did not say. Who ends answers may load it, web too."""

from streams import events

CHARS_PER_TOKEN = 4


def tokens(chars: int) -> int:
    """About so many tokens, rounded up."""
    return -(-chars // CHARS_PER_TOKEN)


def estimated_usage(asked: int, answered_chars: int) -> events.Usage:
    """What a stopped answer may have cost. `asked`: tokens of the request."""
    return events.Usage(asked, tokens(answered_chars), estimated=True)
