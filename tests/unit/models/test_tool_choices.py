"""models/tool_choices.py: what a request may say about tools, and what a row says of it."""

from typing import Any

import pytest

from tokenwire.config.terms import ToolTerms
from tokenwire.models.tool_choices import (
    NO_CHOICES,
    NOTHING_ALLOWED,
    BadTools,
    checked,
    read,
)

TERMS = ToolTerms()
EMPTY: dict[str, Any] = {"type": "object"}


def own(name: str = "pick", **changes: Any) -> dict[str, Any]:
    return {"name": name, "description": "D", "parameters": EMPTY, "runs_at": "client"} | changes


@pytest.mark.parametrize(
    "value",
    [
        {"use": []},
        {"use": ["add", "sub-2"], "choice": {"name": "add"}},
        {"choice": "required"},
        {"own": [own(), own("other", runs_at="caller")], "choice": {"name": "pick"}, "use": []},
        {"unattended": True},
    ],
)
def test_a_row_holds_what_was_checked(value: dict[str, Any]) -> None:
    """Nothing is added, nothing is lost."""
    found = checked(value, TERMS)
    assert found.stored() == value
    assert read(found.stored()) == found


def test_a_request_that_says_nothing_stores_nothing() -> None:
    """So that most rows have none."""
    assert checked({}, TERMS).stored() is None
    assert read(None) == NO_CHOICES


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"use": "add"}, ("use",)),
        ({"use": ["a b"]}, ("use", 0)),
        ({"use": ["add\n"]}, ("use", 0)),
        ({"use": ["x" * 65]}, ("use", 0)),
        ({"use": ["x"] * 257}, ("use",)),
        ({"useful": []}, ("useful",)),
        ({"own": [own(), own()]}, ("own", 1, "name")),
        ({"own": [own()], "use": ["pick"]}, ("own", 0, "name")),
        ({"own": [own(parameters={"type": "string"})]}, ("own", 0, "parameters")),
        ({"own": [own(parameters={})]}, ("own", 0, "parameters")),
        ({"own": [own(runs_at="server")]}, ("own", 0, "runs_at")),
        ({"choice": {"name": "none"}}, ("choice", "name")),
        ({"choice": {"name": "add"}, "use": ["sub"]}, ("choice", "name")),
        ({"choice": "required", "use": []}, ("choice",)),
        ({"unattended": 1}, ("unattended",)),
    ],
)
def test_what_cannot_be_used_is_refused_at_its_place(
    value: dict[str, Any], place: tuple[str | int, ...]
) -> None:
    """With the path of the mistake."""
    with pytest.raises(BadTools) as refused:
        checked(value, TERMS)
    assert refused.value.place == place
    assert refused.value.reason


def test_a_refusal_does_not_show_the_value() -> None:
    """It may be long, or secret."""
    with pytest.raises(BadTools) as refused:
        checked({"use": ["a secret"]}, TERMS)
    assert "secret" not in refused.value.reason


def test_a_request_brings_a_limited_amount_of_tools() -> None:
    """In number and in bytes."""
    terms = ToolTerms(max_request_tools=2, max_request_tools_bytes=1024)
    assert len(checked({"own": [own("a"), own("b")]}, terms).own) == 2
    for value in ([own(name) for name in "abc"], [own(description="ä" * 200)]):
        with pytest.raises(BadTools) as refused:
            checked({"own": value}, terms)
        assert refused.value.place == ("own",)


@pytest.mark.parametrize(
    "value", [{"use": "add"}, {"later": 1}, {"own": [{"name": "x"}]}, {"choice": 5}]
)
def test_a_value_that_cannot_be_read_allows_nothing(value: dict[str, Any]) -> None:
    """It may be damaged, or a later version's."""
    assert read(value) == NOTHING_ALLOWED


@pytest.mark.parametrize(
    ("choice", "wanted"),
    [(None, None), ("auto", "auto"), ("none", "none"), ({"name": "add"}, "add")],
)
def test_a_provider_gets_a_mode_or_a_name(choice: Any, wanted: str | None) -> None:
    """In one word."""
    value = {} if choice is None else {"choice": choice}
    assert checked(value, TERMS).tool_choice == wanted
