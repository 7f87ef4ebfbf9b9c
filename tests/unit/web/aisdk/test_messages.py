"""Stored rows as UI messages."""

import json
from typing import Any

import pytest

from tokenwire.protocol.events import AnyEvent, PartEvent, ToolInput
from tokenwire.protocol.fold import Answer
from tokenwire.web.aisdk.encoder import AISDKEncoder
from tokenwire.web.aisdk.messages import ui_message, usage
from tokenwire.web.aisdk.values import PROFILES, Profile


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
    """Its text, under its own id."""
    found = ui_message(row(role="user", content="Hi"), "its-own-id")
    assert found is not None
    assert (found["id"], found["role"]) == ("its-own-id", "user")
    assert [part["type"] for part in found["parts"]] == ["text"]


def test_an_empty_answer_is_no_message() -> None:
    """A failed answer without a word."""
    assert ui_message(row(status="error"), "m") is None


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(
    "text",
    [
        r'{"k": "a\ud800", "\udc00": ["\u0000"]}',
        '{"k": ' + "9" * 40 + "}",
        '{"k": NaN}',
        '{"k":' * 2000 + "1" + "}" * 2000,
        " ",
    ],
)
def test_no_input_makes_a_conversation_unreadable(text: str, profile: Profile) -> None:
    """Whatever a model writes, the history is JSON in UTF-8, with the value that was live."""
    opened = {"type": "tool_call", "id": "c", "name": "n", "state": "streaming"}
    state = {"type": "tool_call", "state": "proposed", "runs_at": "server"}
    events = [PartEvent("m", 1, 0, opened), ToolInput("m", 1, 0, text, 0)]
    events.append(PartEvent("m", 1, 0, state))
    answer = Answer("m")
    encoder = AISDKEncoder(answer, row(id="m"), profile)
    encoder.opening()
    live = [chunk for event in events for chunk in encoder.apply(*_folded(answer, event))]
    found = ui_message(row(parts=answer.layout(), status="complete"), "m", profile)
    assert found is not None
    json.dumps(found, ensure_ascii=False, allow_nan=False).encode()
    assert found["parts"][-1]["input"] == live[-1]["input"]


def _folded(answer: Answer, event: AnyEvent) -> tuple[AnyEvent, range, str]:
    return event, *answer.apply_with_text(event)
