"""protocol.states: the only list of an answer's states."""

import re
from typing import get_args

from tokenwire.config.settings import ROOT
from tokenwire.protocol.states import ENDED, UNFINISHED, AnswerStatus

PACKAGES = (
    *("broadcaster", "client", "config", "models", "protocol"),
    *("streams", "web", "worker"),
)
LISTED = re.compile(
    r"""["'](queued|streaming)["'],\s*["'](streaming|retrying)["']|"""
    r"""["'](complete|error)["'],\s*["'](error|cancelled)["']"""
)


def test_a_state_is_unfinished_or_ended() -> None:
    """There is no third kind."""
    assert (*UNFINISHED, *ENDED) == get_args(AnswerStatus)
    assert not set(UNFINISHED) & set(ENDED)


def test_no_other_module_lists_the_states() -> None:
    """Except for migrations, which never change, and a condition on two states. Providers have
    their own words.
    """
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        if "migrations" not in path.parts and path.name != "states.py"
        for match in LISTED.finditer(path.read_text())
    ]
    assert [line for line in found if not line.startswith("models/tables.py: ")] == []
    assert len(found) == 1, found


def test_the_search_finds_a_list() -> None:
    """Otherwise the test above would prove nothing."""
    assert LISTED.search('("queued", "streaming")')
    assert LISTED.search("Literal['complete', 'error']")
