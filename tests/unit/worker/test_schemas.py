"""Schemas and documents of strangers: judged within bounds, and nothing fetched."""

import asyncio
import threading
import time
from functools import partial
from typing import Any

import pytest

from tokenwire.protocol.text import MAX_JSON_DEPTH
from tokenwire.worker import schemas
from tokenwire.worker.schemas import (
    MOST_AT_A_TIME,
    MOST_SLOW_AT_A_TIME,
    BadSchema,
    TooDear,
    Unchecked,
    check,
    in_turn,
    require_usable,
)

CITY: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}
TREE = {
    "type": "object",
    "properties": {"nodes": {"type": "array", "items": {"$ref": "#"}}},
    "additionalProperties": False,
}


def nested(levels: int) -> dict[str, Any]:
    """A schema of so many objects, each in the one before."""
    found: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        found = {"type": "object", "properties": {"a": found}}
    return found


def with_itself() -> dict[str, Any]:
    """No text can say this."""
    found: dict[str, Any] = {"type": "object"}
    found["properties"] = {"a": found}
    return found


def branching(levels: int) -> dict[str, Any]:
    """A small schema that means 2^levels comparisons."""
    named: dict[str, Any] = {
        f"a{at}": {"allOf": [{"$ref": f"#/$defs/a{at + 1}"}] * 2} for at in range(levels)
    }
    named[f"a{levels}"] = {"type": "string"}
    return {"$ref": "#/$defs/a0", "$defs": named}


async def test_a_document_that_fits() -> None:
    """White space around it is none of the schema's business; a schema may recurse."""
    assert (await check(CITY, ' {"city": "Oslo"}\n', "me")).value == {"city": "Oslo"}
    assert not (await check(TREE, '{"nodes": [{"nodes": []}]}', "me")).errors
    assert (await check({}, "[1]", "me")).value == [1]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('{"city": 5}', "#/city: must be a string"),
        ("{}", "#/city: is missing"),
        ("", "#: The text is not one JSON document"),
        ('```json\n{"city": "Oslo"}\n```', "#: The text is not one JSON document"),
        ('{"city": "Oslo"} Done.', "#: The text is not one JSON document"),
        ('{"city": "\\ud800"}', "#: The text is not one JSON document"),
        ('{"city": "Oslo", "far": 1e999}', "#: The text is not one JSON document"),
        ('{"city": "Oslo", "far": NaN}', "#: The text is not one JSON document"),
        ('{"city": ' + "[" * 100_000, "#: The text is not one JSON document"),
    ],
)
async def test_a_misfit_says_what_is_wrong(text: str, error: str) -> None:
    found = await check(CITY, text, "me")
    assert found.value is None
    assert found.errors[0].startswith(error)


async def test_one_asker_has_one_check_under_way() -> None:
    """However many wait, others are checked beside them, and what is cancelled is not begun."""
    goes_on, begun = threading.Event(), list[str]()

    def held_up(text: str, _seconds: float) -> str:
        begun.append(text)
        goes_on.wait(20)
        return text

    loud = [asyncio.create_task(in_turn("loud", partial(held_up, f"{n}"))) for n in range(20)]
    try:
        async with asyncio.timeout(10):
            assert await in_turn("quiet", lambda _: "A") == "A"
            assert await in_turn(None, lambda _: "B") == "B"
        for task in loud[:19]:
            task.cancel()
        await asyncio.sleep(0.05)
        assert begun == ["0"]  # its thread goes on, and keeps the place
    finally:
        goes_on.set()
    assert await loud[19] == "19"
    assert begun == ["0", "19"]


async def test_operators_wait_for_no_stranger() -> None:
    """Also if strangers have all places."""
    goes_on = threading.Event()
    names = [f"{n}" for n in range(2 * MOST_AT_A_TIME)]
    crowd = [asyncio.create_task(in_turn(name, lambda _: goes_on.wait(20))) for name in names]
    try:
        await asyncio.sleep(0.05)
        async with asyncio.timeout(10):
            assert await in_turn(None, lambda _: "A") == "A"
    finally:
        goes_on.set()
    await asyncio.gather(*crowd)


def takes_long(goes_on: threading.Event, seconds: float) -> str:
    """A check that does not end in the first of its two times."""
    if seconds < schemas.CPU_SECONDS:
        raise TooDear("not yet")
    goes_on.wait(20)
    return "ended"


async def test_a_crowd_of_dear_checks_waits_for_itself() -> None:
    """However many ask: another user's check passes them."""
    goes_on = threading.Event()
    dear = partial(takes_long, goes_on)
    crowd = [asyncio.create_task(in_turn(f"{n}", dear)) for n in range(4 * MOST_AT_A_TIME)]
    try:
        await asyncio.sleep(0.1)
        async with asyncio.timeout(10):
            assert await in_turn("quiet", lambda _: "A") == "A"
            assert (await check(CITY, '{"city": "Oslo"}', "quiet")).value
        crowd[0].cancel()
        again = asyncio.create_task(in_turn("0", lambda _: "B"))
        await asyncio.sleep(0.05)
        assert not again.done()  # the thread of the first one keeps the turn
    finally:
        goes_on.set()
    assert await asyncio.gather(*crowd[1:]) == ["ended"] * (len(crowd) - 1)
    assert await again == "B"


async def test_a_dear_check_waits_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind others like it. Then the machine was too busy for it."""
    monkeypatch.setattr(schemas, "LONGEST_SECONDS", 0.2)
    goes_on = threading.Event()
    dear = partial(takes_long, goes_on)
    names = [f"{n}" for n in range(MOST_SLOW_AT_A_TIME + 1)]
    try:
        found = await asyncio.gather(*(in_turn(n, dear) for n in names), return_exceptions=True)
        assert [type(one) for one in found] == [Unchecked] * len(names)
    finally:
        goes_on.set()


async def test_a_check_in_its_first_time_is_ended_soon() -> None:
    """So that the next one begins."""
    began = time.monotonic()
    with pytest.raises(TooDear):
        await asyncio.to_thread(schemas.mistakes, branching(40), '"x"', schemas.QUICK_SECONDS)
    assert time.monotonic() - began < schemas.CPU_SECONDS


async def test_a_document_of_many_levels() -> None:
    """No view could show a much deeper one: it does not fit, and a repair may."""
    deepest = "[" * MAX_JSON_DEPTH + "]" * MAX_JSON_DEPTH
    assert not (await check({}, deepest, "me")).errors
    found = await check({}, f"[{deepest}]", "me")
    assert found.value is None
    assert found.errors == ("#: the text is nested more than 64 levels deep",)


async def test_errors_are_few_and_short() -> None:
    text = '{"city": 1, "x": "' + "x" * 5000 + '"}'
    strict = {**CITY, "maxProperties": 1, "patternProperties": {"x": {"enum": ["y" * 999]}}}
    found = await check(strict, text, "me")
    assert len(found.errors) == 3
    assert max(map(len, found.errors)) == 300 + len("#/x: ")


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": 5}, "#/type: is not valid"),
        ({"properties": {"a": {"$ref": "https://example.com/s"}}}, "#: "),
        ({"$ref": "#/$defs/none"}, "#: "),
        ({"$ref": "#"}, "#: the reference leads back to itself"),
        (
            {"properties": {"a": {"anyOf": [{"type": "null"}, {"$ref": "#/properties/a"}]}}},
            "#/properties/a: the reference leads back to itself",
        ),
        ({"type": "string", "pattern": "("}, "#/pattern: is not a"),
        ({"type": "string", "pattern": "(a{1,1000}){1,1000}"}, "#/pattern: is not a"),
        ({"patternProperties": {"(": {}}}, "#/patternProperties/(: is not a"),
        ({"$ref": "#a", "$anchor": "a"}, "#: the reference leads back to itself"),
        (
            {"$defs": {n: {"$ref": f"#/$defs/{m}"} for n, m in ("ab", "ba")}, "$ref": "#/$defs/a"},
            "#: the reference leads back to itself",
        ),
        (
            {"$ref": "#/$defs/%61", "$defs": {"a": {"$ref": "#/$defs/%61"}}},
            "#: the reference leads back to itself",
        ),
        ({"allOf": [{"$ref": "#/allOf/0"}]}, "#: the reference leads back to itself"),
        (
            {"$ref": "#a", "$defs": {"x": {"$dynamicAnchor": "a", "allOf": [{"$ref": "#a"}]}}},
            "#: the reference leads back to itself",
        ),
        ({"$schema": "https://example.com/none"}, "#: Unknown meta-schema"),
        ({"enum": [f"x{number}" for number in range(9000)]}, "#: it has"),
        (nested(2500), "#: it is no JSON (RecursionError)"),
        (with_itself(), "#: it is no JSON (ValueError)"),
        ({"description": "x" * 70_000}, "#: it has 70019 bytes, and 65536 are allowed"),
    ],
)
async def test_a_bad_schema_is_named(schema: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadSchema) as refused:
        await require_usable(schema, asker="me")
    assert str(refused.value).startswith(reason)


@pytest.mark.parametrize(
    ("schema", "misfit"),
    [
        ({"$ref": "#x", "$defs": {"q": {"$anchor": "x", "type": "object"}}}, "[]"),
        ({"allOf": [{"$ref": "#x"}], "$defs": {"q": {"$anchor": "x", "type": "array"}}}, "{}"),
        ({"$ref": "#x", "$defs": {"q": {"$dynamicAnchor": "x", "type": "array"}}}, "{}"),
        (
            {
                "$schema": "http://json-schema.org/draft-07/schema#",
                "$ref": "#foo",
                "definitions": {"q": {"$id": "#foo", "type": "object"}},
            },
            "[]",
        ),
        (
            {
                "$schema": "http://json-schema.org/draft-04/schema#",
                "$ref": "#foo",
                "definitions": {"q": {"id": "#foo", "type": "object"}},
            },
            "[]",
        ),
        ({"$ref": "#/$defs/a%20b", "$defs": {"a b": {"type": "array"}}}, "{}"),
        ({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "array"}}}, "{}"),
        ({"allOf": [{"$ref": "#/prefixItems/0"}], "prefixItems": [{"type": "object"}]}, "[]"),
        (
            {
                "$ref": "http://a.example/n",
                "$defs": {
                    "n": {
                        "$id": "http://a.example/n",
                        "allOf": [{"$ref": "#/$defs/n"}],
                        "$defs": {"n": {"type": "array"}},
                    }
                },
            },
            "{}",
        ),
    ],
)
async def test_references_into_the_schema_count(schema: dict[str, Any], misfit: str) -> None:
    """Pointers, names and identifiers that lead to another place demand what stands there."""
    await require_usable(schema, asker="me")
    assert len((await check(schema, misfit, "me")).errors) == 1


async def test_what_may_be_a_schema() -> None:
    """Recursion through a value ends with the value."""
    for schema in ({}, CITY, TREE, {"$schema": "http://json-schema.org/draft-07/schema#"}):
        await require_usable(schema, asker="me")


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"pattern": "^(a+)+$"}, f'"{"a" * 40}!"'),
        ({"pattern": "^(?=(a+)+$)(a+)+$"}, f'"{"a" * 40}!"'),
        ({"pattern": "(a*)*\\1b$"}, f'"{"a" * 40}"'),
        ({"enum": [f"x{number}" for number in range(6000)]}, '"y"'),
        ({"properties": {"a": {"enum": [nested(20)]}}}, '{"a": {}}'),
    ],
)
async def test_what_is_dear_elsewhere_is_refused_soon(schema: dict[str, Any], text: str) -> None:
    """Patterns that backtrack, and thousands of values: a misfit, long before the limit."""
    await require_usable(schema, asker="me")
    began = time.monotonic()
    assert len((await check(schema, text, "me")).errors) == 1
    assert time.monotonic() - began < schemas.LONGEST_SECONDS


@pytest.mark.parametrize(
    "schema",
    [
        {"$id": "http://a.example/s", "$ref": "http://a.example/s"},
        {"$dynamicRef": "#"},
        {"$schema": "https://json-schema.org/draft/2019-09/schema", "$recursiveRef": "#"},
        {"$ref": "a", "$defs": {n: {"$id": n, "$ref": m} for n, m in ("ab", "ba")}},
        {"dependentSchemas": {"a": {"$ref": "#"}}},
        {"unevaluatedProperties": {"$ref": "#"}},
    ],
)
async def test_loops_that_no_pointer_shows_end(schema: dict[str, Any]) -> None:
    """They demand nothing, and nothing runs without end."""
    await require_usable(schema, asker="me")
    assert (await check(schema, '{"a": {"a": 1}}', "me")).errors == ()


async def test_no_schema_computes_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is ended, and counts as a misfit."""
    monkeypatch.setattr(schemas, "CPU_SECONDS", 1)
    began = time.monotonic()
    found = await check(branching(40), '"x"', "me")
    assert found.errors == ("It could not be checked in the time allowed.",)
    assert time.monotonic() - began < 10


async def test_a_busy_machine_is_no_fault_of_a_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check is given up, and may be asked for again."""
    monkeypatch.setattr(schemas, "LONGEST_SECONDS", 0.001)
    with pytest.raises(Unchecked):
        await require_usable(CITY, asker="me")
    monkeypatch.undo()
    await require_usable(CITY, asker="me")


async def test_a_loud_user_delays_nobody_s_schemas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Schemas of requests are checked in turn, too."""
    goes_on = threading.Event()
    monkeypatch.setattr(schemas, "require_usable_now", lambda *_, **_l: goes_on.wait(20))
    loud = [asyncio.create_task(require_usable(CITY, asker="loud")) for _ in range(20)]
    await asyncio.sleep(0.05)
    monkeypatch.undo()
    try:
        async with asyncio.timeout(10):
            await require_usable(CITY, asker="quiet")
    finally:
        goes_on.set()
    await asyncio.gather(*loud)
