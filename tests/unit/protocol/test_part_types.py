"""PROTOCOL.md has the one list of part types; what else names them agrees."""

import re

from tokenwire.config.settings import ROOT
from tokenwire.protocol.replay import _IDENTITY


def listed() -> set[str]:
    """The types of the table under "Parts"."""
    table = (ROOT / "PROTOCOL.md").read_text().split("### Parts\n")[1].split("\n- ")[0]
    return set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE))


def test_the_types_of_the_client_are_those_of_the_table() -> None:
    """tokenwire.d.ts tells them apart by `type`."""
    declared = (ROOT / "web/page/static/tokenwire.d.ts").read_text()
    found = set(re.findall(r'^  type: "(\w+)";$', declared, re.MULTILINE))
    assert len(listed()) >= 8
    assert found == listed()


def test_a_part_is_told_apart_by_fields_of_the_table() -> None:
    """Else one part would become another one of its type. Text and reasoning follow their text."""
    assert set(_IDENTITY) == listed() - {"text", "reasoning", "step"}
