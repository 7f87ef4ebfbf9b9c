"""How many examples a property is tried with."""

import os

SHARE = 3
"""`make test` tries one example of three; a single file, and `make test-all`, all."""


def many(number: int) -> int:
    """All of these, or the share of `make test`, which sets QUICK."""
    return number // SHARE if os.environ.get("QUICK") == "yes" else number
