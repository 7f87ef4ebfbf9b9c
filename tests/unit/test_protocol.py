"""PROTOCOL.md is what clients are written from: its tables of codes are those of the program."""

import re
from pathlib import Path

from tokenwire.config.settings import ROOT
from tokenwire.protocol.frames import CloseCode
from tokenwire.web.problems import CODES
from tokenwire.worker.retries import _SENTENCES, code_of

PAGE = Path(ROOT / "PROTOCOL.md").read_text()
_WITH = re.compile(r"\(with [^)]*\)")


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table whose head begins with this cell, after that heading."""
    table = PAGE.split(heading, 1)[1].split("\n\n|", 1)[1].split("\n\n", 1)[0]
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]
    ]


def names(cell: str) -> list[str]:
    return re.findall(r"`(\w+)`", cell)


def test_refusals() -> None:
    """Each code with its status, and none that is never sent."""
    listed = {
        name: int(status)
        for status, codes, _ in rows("### Refusals")
        for name in names(_WITH.sub("", codes))
    }
    assert listed == CODES


def test_codes_of_failed_answers() -> None:
    """Those of every kind of provider error, and that of our own faults."""
    listed = {name for codes, *_ in rows("### Codes of failed answers") for name in names(codes)}
    assert listed == {code_of(kind("")) for kind in _SENTENCES} | {"internal_error"}


def test_close_codes() -> None:
    """Every one that the broadcaster may send."""
    table = PAGE.split("| close code |", 1)[1].split("\n\n", 1)[0]
    assert {int(code) for code in re.findall(r"\b[14]\d{3}\b(?=[, \d]*\|)", table)} == set(
        CloseCode
    )
