"""Stored rows as UI messages."""

from typing import Any

from tokenwire.web.aisdk.messages import ui_message, usage


def row(**changes: Any) -> dict[str, Any]:
    """A row in its wire form."""
    held = {
        "id": "message",
        "conversation_id": "conversation",
        "role": "assistant",
        "content": "",
        "reasoning": "",
        "status": "queued",
        "attempt": 0,
        "model": "demo",
        "error": None,
        "usage": None,
        "attachments": [],
        "created_at": "2026-08-01T12:00:00.000Z",
    }
    return held | changes


def test_an_answer_with_everything() -> None:
    """Reasoning, calls, text; numbers in the SDK's form."""
    calls: list[dict[str, Any]] = [
        {
            "id": "1",
            "name": "look",
            "input": '{"__proto__":1}',
            "state": "done",
            "result": {"n": 1},
        },
        {
            "id": "2",
            "name": "look",
            "input": "{}",
            "state": "failed",
            "result": {"error": "It broke."},
        },
        {"id": "3", "name": "look", "input": "{}", "state": "proposed"},
        {"id": "4", "name": "rm", "input": "{}", "state": "denied"},
    ]
    texts = [{"type": "reasoning", "length": 2}, {"type": "text", "length": 2}]
    parts = [*texts, *({"type": "tool_call", **call} for call in calls)]
    counted = {"input_tokens": 1, "output_tokens": 2, "cached_tokens": None, "estimated": False}
    stored = row(content="Hi", reasoning="Hm", status="complete", parts=parts, usage=counted)
    found = ui_message(stored, "m", "v7")
    assert found is not None
    assert [(part["type"], part.get("state")) for part in found["parts"]] == [
        ("step-start", None),
        ("reasoning", "done"),
        ("text", "done"),
        ("tool-look", "output-available"),
        ("tool-look", "output-error"),
        ("tool-look", "input-available"),
        ("tool-rm", "output-denied"),
    ]
    assert found["parts"][3]["input"] == {"___proto__": 1}
    assert found["parts"][4]["errorText"] == "It broke."
    assert (
        found["metadata"]["usage"]
        == usage(counted)
        == {"inputTokens": 1, "outputTokens": 2, "estimated": False}
    )
    older = ui_message(stored, "m", "v5")
    assert older is not None
    assert older["parts"][6]["state"] == "output-error"


def test_a_users_message() -> None:
    """Text, and files before it."""
    attachments = [
        {"url": "https://example.com/a.png", "media_type": "image/png"},
        {"name": "not yet stored"},
    ]
    found = ui_message(row(role="user", content="Hi", attachments=attachments), "its-own-id")
    assert found is not None
    assert (found["id"], found["role"]) == ("its-own-id", "user")
    assert [part["type"] for part in found["parts"]] == ["file", "text"]


def test_an_empty_answer_is_no_message() -> None:
    """A failed answer without a word."""
    assert ui_message(row(status="error"), "m") is None
