"""web/aisdk/encoder.py by example (test_replay.py: any history)."""

from typing import Any

import pytest

from tests.unit.protocol.histories import ID
from tests.unit.web.aisdk.client import Client
from tests.unit.web.aisdk.test_replay import ROW
from tests.unit.web.histories import fed
from tokenwire.protocol.events import (
    AnyEvent,
    Cancelled,
    Chunk,
    Complete,
    Error,
    PartEvent,
    Reasoning,
    Reset,
    Retry,
    Start,
    ToolInput,
    Usage,
)
from tokenwire.protocol.fold import Answer, Hole, Unproven
from tokenwire.protocol.text import checksum
from tokenwire.web.aisdk.encoder import AISDKEncoder
from tokenwire.web.aisdk.values import PROFILES, Profile

profiles = pytest.mark.parametrize("profile", PROFILES)


def begun(profile: Profile = "v5") -> AISDKEncoder:
    encoder = AISDKEncoder(Answer(ID), ROW, profile)
    encoder.opening()
    return encoder


def shown(profile: Profile) -> tuple[AISDKEncoder, Client]:
    """An encoder, and a client with its opening."""
    encoder = AISDKEncoder(Answer(ID), ROW, profile)
    return encoder, Client().read(encoder.opening())


def told(*logged: AnyEvent, profile: Profile = "v5") -> list[dict[str, Any]]:
    """The chunks of the last event."""
    encoder = begun(profile)
    for event in logged[:-1]:
        fed(encoder, event)
    return fed(encoder, logged[-1])


def part(number: int, kind: str, **fields: Any) -> PartEvent:
    return PartEvent(ID, 1, number, {"type": kind, **fields})


def call(number: int = 0, call_id: str = "c") -> PartEvent:
    return part(number, "tool_call", id=call_id, name="n", state="streaming")


def test_a_message_begins_with_the_known_fields() -> None:
    """Its id is the same in every replay; usage and error come with the end."""
    row = ROW | {"usage": {"input_tokens": 1}, "status": "complete"}
    [start, step] = AISDKEncoder(Answer(ID), row).opening()
    assert (start["messageId"], step) == (ID, {"type": "start-step"})
    assert start["messageMetadata"] == {
        "conversationId": "c1",
        "createdAt": "2026-08-01T12:00:00.000Z",
        "model": "demo",
        "attempt": 1,
        "status": "complete",
    }


def test_a_citation_does_not_cut_the_text_in_two() -> None:
    """The part stays open under its number; the end of the text closes it."""
    text = Chunk(ID, 1, 0, "a", 0)
    cited = part(1, "source", url="https://x", title="X", at=1)
    assert told(text) == [
        {"type": "text-start", "id": "0"},
        {"type": "text-delta", "id": "0", "delta": "a"},
    ]
    assert told(text, cited) == [
        {"type": "source-url", "sourceId": "source-1", "url": "https://x", "title": "X"}
    ]
    assert told(text, cited, Chunk(ID, 1, 1, "b", 0)) == [
        {"type": "text-delta", "id": "0", "delta": "b"}
    ]
    assert told(text, cited, Reasoning(ID, 1, 0, "r", 2))[:2] == [
        {"type": "text-end", "id": "0"},
        {"type": "reasoning-start", "id": "2"},
    ]


def test_an_input_streams() -> None:
    """With its turn proven it comes as a whole, or as an error with the model's text."""
    pieces = [call(), ToolInput(ID, 1, 0, '{"a"', 0), ToolInput(ID, 1, 4, ":1}", 0)]
    assert told(*pieces[:1]) == [{"type": "tool-input-start", "toolCallId": "c", "toolName": "n"}]
    assert told(*pieces[:2]) == [
        {"type": "tool-input-delta", "toolCallId": "c", "inputTextDelta": '{"a"'}
    ]
    assert told(*pieces, part(0, "tool_call", state="proposed")) == []
    proven = part(0, "tool_call", runs_at="server")
    [whole] = told(*pieces, part(0, "tool_call", state="proposed"), proven)
    assert (whole["type"], whole["input"]) == ("tool-input-available", {"a": 1})
    [broken] = told(*pieces[:2], part(0, "tool_call", state="invalid"))
    assert (broken["type"], broken["input"]) == ("tool-input-error", '{"a"')
    [odd] = told(call(), ToolInput(ID, 1, 0, "[1]", 0), part(0, "tool_call", state="proposed"))
    assert odd["type"] == "tool-input-error"


@pytest.mark.parametrize(
    ("fields", "kind", "field"),
    [
        ({"state": "done", "result": [1]}, "tool-output-available", ("output", [1])),
        ({"state": "failed", "error": "No."}, "tool-output-error", ("errorText", "No.")),
        ({"state": "denied"}, "tool-output-denied", ("toolCallId", "c")),
        ({"state": "unknown", "error": "Lost."}, "tool-output-error", ("errorText", "Lost.")),
        ({"state": "withdrawn"}, "tool-output-error", ("errorText", "The call was withdrawn.")),
        ({"state": "awaiting_approval"}, "tool-approval-request", ("approvalId", "c")),
    ],
)
def test_outcomes_of_calls(fields: Any, kind: str, field: Any) -> None:
    """The input comes before, once; an unknown state shows nothing."""
    whole, outcome = told(
        call(), ToolInput(ID, 1, 0, "{}", 0), part(0, "tool_call", **fields), profile="v6"
    )
    assert whole["type"] == "tool-input-available"
    assert (outcome["type"], outcome[field[0]]) == (kind, field[1])
    again = told(
        call(),
        ToolInput(ID, 1, 0, "{}", 0),
        part(0, "tool_call", **fields),
        part(0, "tool_call", title="x"),
        profile="v6",
    )
    assert again == []
    assert told(call(), part(0, "tool_call", state="dreaming")) == []


def test_steps_close_what_is_open() -> None:
    """ai 5 and 6 forget open parts at the end of a step."""
    assert told(Chunk(ID, 1, 0, "a", 0), part(1, "step")) == [
        {"type": "text-end", "id": "0"},
        {"type": "finish-step"},
        {"type": "start-step"},
    ]


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        (
            {"type": "source", "file_id": "f", "media_type": "text/plain"},
            {"type": "source-document", "sourceId": "source-0", "title": "f"}
            | {"mediaType": "text/plain"},
        ),
        (
            {"type": "source", "address": "javascript:alert(1)"},
            {"type": "source-document", "sourceId": "source-0", "title": "javascript:alert(1)"}
            | {"mediaType": "application/octet-stream"},
        ),
        (
            {"type": "source", "address": "//evil", "title": "T", "media_type": "text/html"},
            {"type": "source-document", "sourceId": "source-0", "title": "T"}
            | {"mediaType": "text/html"},
        ),
        ({"type": "source"}, None),
        ({"type": "file", "address": "javascript:alert(1)", "media_type": "image/png"}, None),
        (
            {"type": "file", "url": "https://x/a"},
            {"type": "file", "url": "https://x/a", "mediaType": "application/octet-stream"},
        ),
        ({"type": "data", "name": "w", "data": None}, {"type": "data-w", "id": "part-0"}),
        ({"type": "data", "data": 1}, None),
        ({"type": "provider", "dialect": "d", "kind": "k"}, {"type": "custom", "kind": "d.k"}),
        ({"type": "hologram", "url": "x"}, None),
    ],
)
def test_other_parts(fields: dict[str, Any], wanted: dict[str, Any] | None) -> None:
    """Parts that cannot be shown give no chunk."""
    chunks = told(PartEvent(ID, 1, 0, fields), profile="v7")
    if fields["type"] == "data" and wanted:
        wanted = wanted | {"data": None}
    assert chunks == ([wanted] if wanted else [])
    if fields["type"] == "provider":
        assert told(PartEvent(ID, 1, 0, fields)) == []


def test_data_is_replaced() -> None:
    """Under the same id."""
    first = part(0, "data", name="w", data=1)
    assert told(first, part(0, "data", data=2)) == [{"type": "data-w", "id": "part-0", "data": 2}]


def test_a_hole_is_noticed() -> None:
    """A piece that begins too late, or an end that attests another text, gives no chunk."""
    with pytest.raises(Hole):
        told(Chunk(ID, 1, 0, "a", 0), Chunk(ID, 1, 5, "b", 0))
    with pytest.raises(Unproven):
        told(Complete(ID, 1, "stop", None, 1, 7, [], 0, 0))


@profiles
def test_another_text_replaces_the_shown_one(profile: Profile) -> None:
    """v7 withdraws it; before, a part says that earlier parts do not count."""
    encoder, client = shown(profile)
    for event in (
        Chunk(ID, 1, 0, "Hello", 0),
        call(1),
        Reset(ID, 2, 2, 0, 1),
        Chunk(ID, 2, 2, "y", 0),
    ):
        client.read(fed(encoder, event))
    assert client.text() == "Hey"
    assert client.tools() == ({} if profile == "v7" else {"c": "output-error"})
    marks = [part for part in client.parts if part["type"] == "data-reset"]
    assert [mark["data"] for mark in marks] == (
        [] if profile == "v7" else [{"keep": 2, "keepReasoning": 0}]
    )


def test_a_reset_before_a_step() -> None:
    """v7 can withdraw only the open step: earlier text is marked, and written again."""
    encoder, client = shown("v7")
    events = [Chunk(ID, 1, 0, "one", 0), part(1, "step"), Chunk(ID, 1, 3, " two", 2)]
    for event in [*events, Reset(ID, 2, 3, 0, 2), Chunk(ID, 2, 3, " 2", 2)]:
        client.read(fed(encoder, event))
    assert (client.text(), "data-reset" in str(client.parts)) == ("one 2", False)
    for event in (Reset(ID, 3, 1, 0, 1), Chunk(ID, 3, 1, "K", 0), Reset(ID, 4, 1, 0, 1)):
        client.read(fed(encoder, event))
    assert (client.text(), "data-reset" in str(client.parts)) == ("o", True)


def test_attempts_and_retries() -> None:
    """Metadata is sent for new values; a retry is sent, and stored nowhere."""
    assert told(Start(ID, 1, "demo")) == []
    [changed] = told(Start(ID, 2, "demo"))
    assert changed["messageMetadata"] == {"attempt": 2, "model": "demo", "status": "streaming"}
    [again] = told(Retry(ID, 1, "unavailable", 5, 1, 3))
    assert (again["type"], again["transient"]) == ("data-retry", True)
    assert again["data"] == {"code": "unavailable", "delayMs": 5, "try": 1, "maxTries": 3}


def test_other_messages_are_not_shown() -> None:
    """A log belongs to a conversation."""
    assert told(Chunk("other", 1, 0, "x", 0)) == []


@pytest.mark.parametrize(
    ("profile", "reason", "shown"),
    [
        ("v5", "stop", "stop"),
        ("v5", "tool_calls", "tool-calls"),
        ("v7", "content_filter", "content-filter"),
        ("v7", "refusal", "content-filter"),
        ("v5", "paused", "other"),
        ("v7", "unknown", "other"),
    ],
)
def test_finish_reasons(profile: Profile, reason: Any, shown: str) -> None:
    """In the SDK's words."""
    [*_, last] = told(Complete(ID, 1, reason, None, 0, checksum(""), [], 0, 0), profile=profile)
    assert (last["type"], last["finishReason"]) == ("finish", shown)


def test_ends() -> None:
    """A failure is shown as a sentence, a cancelled answer is aborted; nothing follows either."""
    encoder = begun()
    failed = Error(ID, 1, "unavailable", "Try later.", True, Usage(1, 2), 0, 0, 0, 0)
    chunks = fed(encoder, failed)
    assert [chunk["type"] for chunk in chunks] == ["message-metadata", "finish-step", "error"]
    assert chunks[0]["messageMetadata"] == {
        "attempt": 1,
        "status": "error",
        "usage": {"inputTokens": 1, "outputTokens": 2, "estimated": False},
        "error": {"code": "unavailable", "retryable": True},
    }
    assert chunks[-1]["errorText"] == "Try later."
    assert (encoder.ended, fed(encoder, Chunk(ID, 1, 0, "late", 0))) == (True, [])
    assert encoder.failure("deleted") == []
    cancelled = told(
        Chunk(ID, 1, 0, "Hel", 0),
        Cancelled(ID, 1, "u", None, 3, checksum("Hel"), 1, checksum("text\0003\0")),
        profile="v7",
    )
    assert [chunk["type"] for chunk in cancelled] == [
        "message-metadata",
        "text-end",
        "finish-step",
        "abort",
    ]


def test_a_stream_that_cannot_continue() -> None:
    """The reason is a sentence."""
    [*_, gone] = begun().failure("deleted")
    [*_, expired] = begun().failure("expired")
    assert gone == {"type": "error", "errorText": "The conversation was deleted."}
    assert expired["errorText"] == "The login has expired."
    assert begun().quiet() == []


def test_events_that_show_nothing() -> None:
    """Those of another message, and those behind the end."""
    encoder = begun()
    assert fed(encoder, Retry("other", 1, "unavailable", 10, 1, 3)) == []
    assert fed(encoder, Retry(ID, 1, "unavailable", 10, 1, 3)) != []
    encoder.failure("deleted")
    assert fed(encoder, Retry(ID, 1, "unavailable", 10, 2, 3)) == []


@pytest.mark.parametrize(
    ("fields", "executed"),
    [
        ({"state": "proposed", "runs_at": "server"}, True),
        ({"state": "awaiting_client", "runs_at": "client"}, None),
        ({"state": "done", "runs_at": "client", "result": 1}, True),
        ({"state": "failed", "runs_at": "client", "error": "No."}, True),
    ],
)
def test_who_executes_a_call(fields: Any, executed: bool | None) -> None:
    """Clients execute what is not marked, as soon as its input comes."""
    whole, *outcome = told(call(), ToolInput(ID, 1, 0, "{}", 0), part(0, "tool_call", **fields))
    assert whole["type"] == "tool-input-available"
    assert whole.get("providerExecuted") == executed
    assert all(chunk["providerExecuted"] for chunk in outcome)


def test_a_call_that_nobody_here_executes() -> None:
    """Its input comes with the end of the answer, which proves its turn."""
    asked = [call(), ToolInput(ID, 1, 0, "{}", 0), part(0, "tool_call", state="proposed")]
    answer = Answer(ID)
    for event in asked:
        answer.apply(event)
    end = Complete(ID, 1, "tool_calls", None, 0, checksum(""), [], 1, answer.proof().parts_crc32)
    kinds = [chunk["type"] for chunk in told(*asked, end)]
    assert kinds == ["tool-input-available", "finish-step", "finish"]


@pytest.mark.parametrize("profile", ["v6", "v7"])
def test_an_approved_call_shows_its_input_again(profile: Profile) -> None:
    """Otherwise a client that counts answered questions sends its answer again and again."""
    approved = {"decision": "approved", "by": "u"}
    asked = [call(), ToolInput(ID, 1, 0, "{}", 0)]
    asked += [part(0, "tool_call", state="awaiting_approval", runs_at="server", approval={})]
    allowed = part(0, "tool_call", state="proposed", approval=approved)
    [again] = told(*asked, allowed, profile=profile)
    assert (again["type"], again["providerExecuted"]) == ("tool-input-available", True)
    assert told(*asked, allowed, part(0, "tool_call", state="running"), profile=profile) == []
    assert told(*asked, allowed, profile="v5") == []
