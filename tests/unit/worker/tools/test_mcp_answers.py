"""What an MCP server's words mean."""

from typing import Any

import pytest

from tokenwire.providers.spec import McpSpec
from tokenwire.worker.tools.mcp import answers
from tokenwire.worker.tools.mcp.answers import NOT_SHOWN, chosen, refusal, result

SPEC = McpSpec(name="x", url="http://h")
SCHEMA = {"type": "object", "properties": {}}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def entry(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "inputSchema": SCHEMA, **more}


IMAGE = {"type": "image", "mimeType": "image/png", "data": "AAAA"}
SHOWN_IMAGE = {"type": "image", "mime_type": "image/png", "bytes": 3, "omitted": NOT_SHOWN}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"content": []}, None),
        ({"content": [text("a")]}, "a"),
        ({"content": [text("a"), text("b")]}, [text("a"), text("b")]),
        ({"content": [IMAGE]}, [SHOWN_IMAGE]),
        (
            {"content": [{"type": "audio", "mimeType": "audio/wav", "data": ""}]},
            [{"type": "audio", "mime_type": "audio/wav", "bytes": 0, "omitted": NOT_SHOWN}],
        ),
        (
            {"content": [{"type": "resource_link", "uri": "f:a", "name": "n", "size": 5}]},
            [{"type": "resource_link", "uri": "f:a", "name": "n"}],
        ),
        (
            {"content": [{"type": "resource", "resource": {"uri": "f:a", "text": "t"}}]},
            [{"type": "resource", "uri": "f:a", "text": "t"}],
        ),
        (
            {"content": [{"type": "resource", "resource": {"uri": "f:a", "blob": "AAAA"}}]},
            [
                {
                    "type": "resource",
                    "mime_type": None,
                    "bytes": 3,
                    "omitted": NOT_SHOWN,
                    "uri": "f:a",
                }
            ],
        ),
        (
            {"content": [{"type": "film"}]},
            [{"type": "film", "omitted": "This content is not known, and not shown."}],
        ),
        # Texts that repeat the structured value say nothing more.
        ({"content": [text('{"a": 1}')], "structuredContent": {"a": 1}}, {"a": 1}),
        ({"content": [], "structuredContent": {"a": 1}}, {"a": 1}),
        ({"content": [text("3")], "structuredContent": {"result": 3}}, {"result": 3}),
        ({"content": [text("x")], "structuredContent": {"result": "x"}}, {"result": "x"}),
        (
            {"content": [text("1"), text("2")], "structuredContent": {"result": [1, 2]}},
            {"result": [1, 2]},
        ),
        ({"content": [text("null")], "structuredContent": None}, None),
        # Others do.
        (
            {"content": [text("Sent.")], "structuredContent": {"a": 1}},
            {"structured": {"a": 1}, "content": [text("Sent.")]},
        ),
        (
            {"content": [IMAGE], "structuredContent": {"a": 1}},
            {"structured": {"a": 1}, "content": [SHOWN_IMAGE]},
        ),
    ],
)
def test_nothing_of_a_result_vanishes(answer: dict[str, Any], expected: Any) -> None:
    assert result(answer) == expected
    assert refusal(answer) is None


def test_what_a_tool_says_about_its_failure() -> None:
    assert refusal({"content": [text("a"), IMAGE, text("b")], "isError": True}) == "a\nb"
    assert refusal({"content": [], "isError": True}) == ""
    assert refusal({"content": [text("a")], "isError": False}) is None


def test_the_words_about_a_tool() -> None:
    """A description, else the title, else the name. The type of a schema may be left out."""
    [one, two, three] = chosen(
        SPEC,
        [
            entry("a", description=" Do\u0000 it. ", title="T"),
            entry("b", title="T"),
            {"name": "c", "description": None, "title": "", "inputSchema": {}},
        ],
    ).tools
    assert (one.tool, one.name, one.title, one.description) == ("a", "x_a", "T", "Do\ufffd it.")
    assert (two.title, two.description) == ("T", "T")
    assert (three.title, three.description, three.schema) == (None, "c", {"type": "object"})


def test_reasons_are_bounded() -> None:
    """However many tools there are, and whatever their names."""
    choice = chosen(SPEC, [entry("\n" * 1_000_000)] + [entry(f"{n} {n}") for n in range(1000)])
    assert (choice.tools, choice.left_out) == ([], 1001)
    assert len(choice.reasons) == answers.MAX_REASONS
    assert all(len(reason) < 400 and "\n" not in reason for reason in choice.reasons)


def test_a_large_tool_leaves_room_for_others() -> None:
    """Only what is used counts."""
    large = entry("a", description="x") | {"inputSchema": {"x": "y" * answers.MAX_LIST_BYTES}}
    choice = chosen(SPEC, [large, entry("b"), large | {"name": "not a name"}, entry("c")])
    assert [one.tool for one in choice.tools] == ["b", "c"]
    assert choice.left_out == 2


def test_tools_that_the_catalogue_misses_are_named() -> None:
    spec = McpSpec(name="x", url="http://h", tools=["a", "b"])
    choice = chosen(spec, [entry("a"), entry("c")])
    assert [one.tool for one in choice.tools] == ["a"]
    assert choice.reasons == ["'b': the server has no such tool"]
