"""launcher.procfile: how lines are parsed."""

import pytest

from tokenwire.config.settings import ROOT
from tokenwire.launcher.procfile import Command, commands


def test_each_line_is_a_process() -> None:
    """Comments and empty lines are skipped; words are split as a shell splits them."""
    text = "# all of it\nweb: python -m tokenwire.web\n\nworker: dramatiq 'a b'\n"
    assert commands(text, {}, {}) == [
        Command("web", "web", ("python", "-m", "tokenwire.web")),
        Command("worker", "worker", ("dramatiq", "a b")),
    ]


def test_copies_are_numbered() -> None:
    """The copies of a kind are named kind.1 to kind.n, even if n is 1."""
    text = "web: a\nworker: b\n"
    assert [command.name for command in commands(text, {}, {"worker": 2})] == [
        "web",
        "worker.1",
        "worker.2",
    ]
    assert [command.name for command in commands(text, {}, {"worker": 1})] == ["web", "worker.1"]


@pytest.mark.parametrize(
    ("word", "expanded"),
    [
        ("$THREADS", "8"),
        ("${THREADS}", "8"),
        ("${THREADS:-64}", "8"),
        ("${OTHER:-64}", "64"),
        ("$OTHER", ""),
        ("--n=${THREADS}x$THREADS", "--n=8x8"),
        ("$SPACED", "a b"),
    ],
)
def test_variables_are_expanded_in_words(word: str, expanded: str) -> None:
    """As in a shell; a value with a space stays one word."""
    assert commands(f"web: run {word}", {"THREADS": "8", "SPACED": "a b"}, {})[0].argv == (
        "run",
        expanded,
    )


def test_the_procfile_has_the_three_processes() -> None:
    """Production runs web, broadcaster and worker; development adds redis."""
    text = (ROOT / "Procfile").read_text() + (ROOT / "Procfile.dev").read_text()
    assert {command.kind for command in commands(text, {}, {})} == {
        "web",
        "broadcaster",
        "worker",
        "redis",
    }
