"""Entries and presets check their values on creation; errors show no value."""

import dataclasses
from typing import Any

import pytest
from pydantic import ValidationError

from tokenwire.providers import presets
from tokenwire.providers.presets import PRESETS, rung_of
from tokenwire.providers.spec import LADDER, ModelSpec, Preset, mistake


def test_the_ladder_has_its_best_rung_first() -> None:
    """`HttpProvider` compares rungs by their order."""
    assert LADDER == ("attach", "prefix", "turn", "restart", "none")


def test_a_spec_is_frozen() -> None:
    """All attempts of a process share it."""
    spec = ModelSpec("m", "demo", "m")
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.model = "n"  # type: ignore[misc]


def test_a_spec_shows_no_secret() -> None:
    """Neither its representation nor its errors."""
    secret = {
        "api_key": "s3cret",
        "headers": {"authorization": "s3cret"},
        "options": {"x": "s3cret"},
    }
    assert "s3cret" not in repr(ModelSpec("m", "demo", "m", **secret))
    with pytest.raises(ValidationError) as raised:
        ModelSpec(
            "m", "demo", "m", base_url="s3cret", headers={"x": ["s3cret"]}, api_key=["s3cret"]
        )  # type: ignore[dict-item, arg-type]
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"base_url": "gpu:9"}, "base_url: must be an address such as http://127.0.0.1:8080/v1"),
        (
            {"base_url": "http://h:0"},
            "base_url: must be an address such as http://127.0.0.1:8080/v1",
        ),
        ({"stall_seconds": float("inf")}, "stall_seconds: must be a finite number"),
        ({"stall_seconds": "5"}, "stall_seconds: must be a number"),
        ({"headers": {"a\nb": 0.5, "c\nd": None}}, "headers: c d: must be text"),
        ({"modle": "x", "model": 5}, "modle: is not a known key (known: a, b)"),
    ],
)
def test_a_mistake_is_one_line(wrong: dict[str, Any], line: str) -> None:
    """An unknown key comes first: a missing key may be the same one, misspelt."""
    with pytest.raises(ValidationError) as raised:
        ModelSpec(**{"name": "m", "provider": "demo", "model": "m", **wrong})
    assert mistake(raised.value, ("a", "b")) == line


def test_a_preset_is_checked_as_well() -> None:
    """A plugin's preset is checked like ours."""
    with pytest.raises(ValidationError, match="auth"):
        Preset("acme", "openai.chat", None, auth="basic")  # type: ignore[arg-type]


def test_preset_names_are_unique() -> None:
    """The table would hold only one of two."""
    assert len(presets._ALL) == len(PRESETS)


@pytest.mark.parametrize(
    ("spec", "rung"),
    [
        (ModelSpec("m", "deepseek", "m"), "prefix"),
        (ModelSpec("m", "deepseek", "m", continuation="none"), "none"),
        (ModelSpec("m", "acme", "m"), "turn"),
    ],
)
def test_the_rung_of_an_entry(spec: ModelSpec, rung: str) -> None:
    """Its own, else the preset's, else an extra turn."""
    assert rung_of(spec) == rung
