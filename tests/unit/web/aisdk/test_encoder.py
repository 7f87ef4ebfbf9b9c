"""The events of an answer as chunks: every way to join a stream shows the same message."""

import copy
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import pytest

from tests.unit.web.aisdk.client import Client
from tests.unit.web.aisdk.histories import ID, History, row
from tokenwire.protocol import events
from tokenwire.protocol.text import checksum
from tokenwire.web.aisdk import Chunk
from tokenwire.web.aisdk.encoder import AISDKEncoder, Held, Hole, held_as_of
from tokenwire.web.aisdk.values import PROFILES, Profile

SEEDS = range(25)
Events = Sequence[tuple[int, events.AnyEvent]]


def told(answer: AISDKEncoder, logged: Events) -> list[Chunk]:
    """The chunks of events."""
    return [chunk for seq, event in logged for chunk in answer.take(seq, event)]


def opened_at(history: History, seq: int) -> Any:
    held = held_as_of(ID, history.events[:seq])
    return held.open if held else None


def replay(history: History, seq: int, profile: Profile) -> tuple[AISDKEncoder, list[Chunk]]:
    """A viewer who comes when the row holds everything up to seq."""
    answer = AISDKEncoder(history.rows[seq], profile)
    return answer, answer.begin(opened_at(history, seq))


def going_on(history: History, stored: int, cut: int, profile: Profile) -> AISDKEncoder:
    """For a viewer at `cut`, with a row of `stored`."""
    held = held_as_of(ID, history.events[:cut])
    assert held is not None
    if stored >= cut:
        return AISDKEncoder.after(history.rows[stored], held, profile)
    answer, _ = replay(history, stored, profile)
    told(answer, history.events[stored:cut])
    return answer


def assert_shows(client: Client, history: History, also: AbstractSet[str] = frozenset()) -> None:
    final = history.rows[len(history.events)]
    assert client.over is not None
    assert client.over["type"] == "finish"
    assert (client.text(), client.text("reasoning")) == (final["content"], final["reasoning"])
    states = {
        call["tool_call_id"]: "output-available" if "result" in call else "input-available"
        for call in final["tool_calls"]
    }
    withdrawn = {name: state for name, state in client.tools().items() if name not in states}
    assert {name: state for name, state in client.tools().items() if name in states} == states
    assert set(withdrawn.values()) <= {"output-error"} | also
    assert client.metadata["usage"] == {"inputTokens": 1, "outputTokens": 2, "estimated": False}


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("seed", SEEDS)
def test_from_the_beginning(seed: int, profile: Profile) -> None:
    """Whoever watches all of it ends with what the row holds."""
    history = History(seed)
    answer, chunks = replay(history, 0, profile)
    assert_shows(Client().read(chunks + told(answer, history.events)), history)
    assert answer.ended


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("seed", SEEDS)
def test_joining_at_any_moment(seed: int, profile: Profile) -> None:
    """The row as of any seq and the events after it; events that the row holds may come again."""
    history = History(seed)
    for seq in range(len(history.events) + 1):
        answer, chunks = replay(history, seq, profile)
        assert_shows(
            Client().read(chunks + told(answer, history.events[max(0, seq - 3) :])), history
        )


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("seed", range(6))
def test_going_on_from_any_position(seed: int, profile: Profile) -> None:
    """A viewer who joined at one seq and lost the connection at another goes on from there, whatever the row holds by then."""
    history = History(seed, steps=25)
    end = len(history.events)
    for joined in range(0, end, 3):
        for cut in range(joined + 1, end + 1):
            answer, chunks = replay(history, joined, profile)
            client = Client().read(chunks + told(answer, history.events[joined:cut]))
            held = held_as_of(ID, history.events[:cut])
            assert held is not None
            for stored in {min(cut + 4, end), end, max(0, cut - 2)}:
                after = going_on(history, stored, cut, profile)
                again = copy.deepcopy(client)
                assert {kind for kind, _ in again._open} == ({held.open} if held.open else set())
                assert_shows(
                    again.read(told(after, history.events[cut:])), history, {"input-available"}
                )


def test_the_state_is_not_known_from_what_tells_nothing() -> None:
    """Events of other messages, sources and later attempts leave open what was open: without an earlier event nobody knows."""
    logged: Events = [
        (7, events.Source(ID, 1, "https://example.com")),
        (8, events.Chunk("other", 1, 0, "x")),
        (9, events.Start(ID, 2, "demo")),
    ]
    assert held_as_of(ID, logged) is None
    assert held_as_of(ID, [(6, events.Chunk(ID, 1, 3, "ab")), *logged]) == Held("text", 5)


def test_a_hole_is_noticed_and_mended() -> None:
    """A piece that comes too far, or a checksum of another text: the row then counts, and only what is new of it is told."""
    answer = AISDKEncoder(row())
    client = Client().read(answer.begin() + answer.take(1, events.Chunk(ID, 1, 0, "Hello")))
    with pytest.raises(Hole):
        answer.take(3, events.Chunk(ID, 1, 11, "!"))
    client.read(answer.restate(row(content="Hello world", status="streaming", seq=9)))
    with pytest.raises(Hole):
        answer.take(10, events.Complete(ID, 1, "stop", None, 11, 1, []))
    client.read(
        answer.restate(row(content="Hello world", status="complete", finish_reason="stop", seq=10))
    )
    assert (client.text(), [part["type"] for part in client.parts]) == ("Hello world", ["text"])


def test_a_row_that_is_behind_takes_nothing_back() -> None:
    """After a new epoch the row may be shorter than what is shown; what then comes again is not shown twice."""
    answer = AISDKEncoder(row())
    client = Client().read(answer.begin() + answer.take(1, events.Chunk(ID, 1, 0, "Hello world")))
    assert answer.restate(row(content="Hello", status="streaming", seq=0)) == []
    client.read(answer.take(1, events.Chunk(ID, 2, 5, " world, again")))
    assert client.text() == "Hello world, again"


@pytest.mark.parametrize("profile", PROFILES)
def test_another_text_replaces_what_is_shown(profile: Profile) -> None:
    """A row that says something else withdraws it."""
    answer = AISDKEncoder(row(), profile)
    client = Client().read(answer.begin() + answer.take(1, events.Chunk(ID, 1, 0, "Hello")))
    client.read(answer.restate(row(content="Something else", status="streaming", seq=4)))
    assert client.text() == "Something else"


@pytest.mark.parametrize(
    ("profile", "reason", "told_as"),
    [
        ("v5", "stop", "stop"),
        ("v5", "tool_calls", "tool-calls"),
        ("v7", "content_filter", "content-filter"),
        ("v7", "refusal", "content-filter"),
        ("v5", "paused", "other"),
        ("v7", "unknown", "other"),
    ],
)
def test_finish_reasons(profile: Profile, reason: Any, told_as: str) -> None:
    """In the SDK's words."""
    answer = AISDKEncoder(row(), profile)
    answer.begin()
    [*_, last] = answer.take(1, events.Complete(ID, 1, reason, None, 0, checksum(""), []))
    assert (last["type"], last["finishReason"]) == ("finish", told_as)


def test_ends_that_are_none() -> None:
    """A failure is told to people, a cancelled answer is aborted; nothing follows either, and rows say the same."""
    failed = AISDKEncoder(row())
    failed.begin()
    chunks = failed.take(
        1,
        events.Error(
            ID, 1, "unavailable", "Try later.", retryable=True, usage=None, length=0, crc32=0
        ),
    )
    assert [chunk["type"] for chunk in chunks] == ["message-metadata", "finish-step", "error"]
    assert chunks[0]["messageMetadata"]["error"] == {"code": "unavailable", "retryable": True}
    assert chunks[-1]["errorText"] == "Try later."
    assert failed.take(2, events.Chunk(ID, 1, 0, "late")) == []
    cancelled = AISDKEncoder(row(content="Hel", status="cancelled", seq=3), "v7").begin()
    assert [chunk["type"] for chunk in cancelled[-4:]] == [
        "message-metadata",
        "text-end",
        "finish-step",
        "abort",
    ]
    stored = AISDKEncoder(
        row(status="error", error={"code": "x", "error": "No.", "retryable": False})
    ).begin()
    assert stored[-1] == {"type": "error", "errorText": "No."}


def test_tools_that_wait_or_are_refused() -> None:
    """Asked for where the profile can ask, shown as data where it cannot."""
    waiting = events.ToolCall(ID, 1, "c", "rm", {"path": "/"}, "waiting")
    newer, older = AISDKEncoder(row(), "v7"), AISDKEncoder(row(), "v5")
    newer.begin()
    older.begin()
    assert [chunk["type"] for chunk in newer.take(1, waiting)] == [
        "tool-input-available",
        "tool-approval-request",
    ]
    assert [chunk["type"] for chunk in older.take(1, waiting)] == [
        "tool-input-available",
        "data-approval",
    ]
    denied = events.ToolResult(ID, 1, "c", "rm", None, "denied")
    assert newer.take(2, denied) == [{"type": "tool-output-denied", "toolCallId": "c"}]
    assert older.take(2, denied)[0]["type"] == "tool-output-error"
