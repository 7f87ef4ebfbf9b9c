"""web/aisdk/encoder.py over any history: a client ends with the same message from the log and from
a row.
"""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.unit.protocol.histories import ID, Op
from tests.unit.web.aisdk.client import Client
from tests.unit.web.histories import (
    LOGS,
    PLACES,
    fed,
    folded,
    from_row,
    view,
    without_resets,
    written,
)
from tokenwire.models.tables import CallRow
from tokenwire.protocol.events import AnyEvent
from tokenwire.protocol.fold import Answer
from tokenwire.protocol.replay import catch_up
from tokenwire.web.aisdk.continued import ClientMessage, Continued, ToolPart, known_calls
from tokenwire.web.aisdk.encoder import AISDKEncoder
from tokenwire.web.aisdk.messages import assistant_parts
from tokenwire.web.aisdk.values import PROFILES, Profile, clean

ROW = view(Answer(ID))
AnyHistory = tuple[list[Op], str | None]
profiles = pytest.mark.parametrize("profile", PROFILES)


def read(told: list[AnyEvent], profile: Profile) -> Client:
    """A client after these events."""
    encoder, client = AISDKEncoder(Answer(ID), ROW, profile), Client()
    client.read(encoder.opening())
    for event in told:
        client.read(fed(encoder, event))
    assert encoder.ended == (client.over is not None)
    return client


def shown(client: Client) -> list[dict[str, Any]]:
    """The valid part of the message, without empty steps."""
    return [part for part in client.counted() if part["type"] != "step-start"]


def meant(answer: Answer, profile: Profile) -> list[tuple[str, Any]]:
    """The parts of the answer as a client should show them."""
    found: list[tuple[str, Any]] = []
    for part in answer.parts:
        if part.type in ("text", "reasoning"):
            found += [(part.type, part.text)] if part.units else []
        elif part.type == "tool_call":
            found.append(("tool", part.fields["id"]))
        elif part.type == "source":
            found.append(("source-url" if "url" in part.fields else "source-document", None))
        elif part.type == "file":
            found.append(("file", None))
        elif part.type == "data":
            found.append(("data-weather", clean(part.fields.get("data"))))
        elif part.type == "provider" and profile == "v7":
            found.append(("custom", None))
    return found


def seen(client: Client) -> list[tuple[str, Any]]:
    """The parts that a client shows."""
    names = {"text": "text", "reasoning": "text", "tool": "id", "data-weather": "data"}
    return [
        (part["type"], part.get(names.get(part["type"], "")))
        for part in shown(client)
        if part["type"] not in ("text", "reasoning") or part["text"]
    ]


@profiles
@example(
    ([("call", 0), ("other", "step", None), ("text", ["a"]), ("reset", 2), ("reset", 0)], None)
)
@example(([("call", 0), ("other", "step", None), ("reset", 1), ("reset", 0)], None))
@example(
    ([("call", 0), ("other", "step", None), ("text", ["a"]), ("reset", 2), ("input", 0, "b")], None)
)
@given(LOGS)
def test_the_message_equals_the_answer(profile: Profile, history: AnyHistory) -> None:
    """Parts in order with their texts; calls that cannot be withdrawn come first, as failed."""
    log = written(history).events
    answer, client = folded(log), read(log, profile)
    mine = {part.fields["id"] for part in answer.parts if part.type == "tool_call"}
    found = [item for item in seen(client) if item[0] != "tool" or item[1] in mine]
    if without_resets(log):
        assert found == meant(answer, profile)
    else:
        stays = ("tool", "data-weather")  # a client changes these in place
        texts = [item for item in found if item[0] not in stays]
        assert texts == [item for item in meant(answer, profile) if item[0] not in stays]
    gone = {name: state for name, state in client.tools().items() if name not in mine}
    # No client removes a call. One with an outcome keeps it; others fail.
    assert set(gone.values()) <= {"output-error", "output-available", "output-denied"}
    assert client.text() == answer.content


@profiles
@given(LOGS, PLACES)
def test_a_row_and_its_events_give_the_same_message(
    profile: Profile, history: AnyHistory, place: int
) -> None:
    """At each checkpoint, and from the row of the ended answer."""
    log = written(history).events
    whole = read(log, profile)
    for saved in (place % (len(log) + 1), len(log)):
        other = read(from_row(log, saved), profile)
        assert (other.over or {}).get("type") == (whole.over or {}).get("type")
        assert other.metadata == whole.metadata
        assert other.text() == whole.text()
        mine = {part["id"]: part for part in other.counted() if part["type"] == "tool"}
        theirs = {part["id"]: part for part in whole.counted() if part["type"] == "tool"}
        assert mine == {name: theirs[name] for name in mine}
        if profile == "v7" or without_resets(log):
            stays = ["tool"] if without_resets(log) else ["tool", "data-weather"]
            assert [part for part in shown(other) if part["type"] not in stays] == [
                part for part in shown(whole) if part["type"] not in stays
            ]


@profiles
@given(LOGS, PLACES)
def test_each_part_has_the_same_sequence(profile: Profile, history: AnyHistory, place: int) -> None:
    """If nothing is withdrawn. Parts begin in the same order."""
    log = written(history, resets=False).events
    whole, other = read(log, profile), read(from_row(log, place % (len(log) + 1)), profile)
    both = [
        {name: steps for name, steps in client.steps.items() if not name.startswith("data-retry")}
        for client in (whole, other)
    ]
    for steps in both:
        steps.pop("message-metadata", None)
    assert both[0] == both[1]
    assert [name for name in both[0] if name != "finish-step"] == [
        name for name in both[1] if name != "finish-step"
    ]
    assert whole.parts == other.parts


@profiles
@given(LOGS, PLACES, PLACES)
def test_a_tail_continues_where_its_reader_stopped(
    profile: Profile, history: AnyHistory, began: int, left: int
) -> None:
    """It began with any row and left after any event; another encoder gets the earlier events."""
    log = written(history).events
    saved = began % (len(log) + 1)
    cut = saved + left % (len(log) + 1 - saved)
    reader, client = AISDKEncoder(Answer(ID), ROW, profile), Client()
    client.read(reader.opening())
    first = from_row(log, saved)
    known = first[: len(first) - len(log) + cut]
    for event in known:
        client.read(fed(reader, event))
    other = AISDKEncoder(Answer(ID), ROW, profile)
    other.opening()
    for event in from_row(log[:cut], saved) if without_resets(log[:cut]) else known:
        fed(other, event)
    for event in log[cut:]:
        client.read(fed(other, event))
    assert client.over is not None
    assert client.text() == folded(log).content


@profiles
@example(([("text", ["a"]), ("think_inside", ""), ("text", ["b"])], "complete"))
@given(LOGS)
def test_a_stored_message_has_the_parts_of_the_stream(
    profile: Profile, history: AnyHistory
) -> None:
    """In the same order, with the same contents, empty ones too."""
    log = written(history).events
    client = read(log if without_resets(log) else from_row(log, len(log)), profile)
    stored = assistant_parts(view(folded(log)), profile)
    kinds = [part["type"] for part in client.parts if part["type"] != "data-retry"]
    assert ["tool" if part["type"].startswith("tool-") else part["type"] for part in stored] == (
        kinds if kinds != ["step-start"] else []
    )
    texts = [part["text"] for part in stored if part["type"] in ("text", "reasoning")]
    assert texts == [p["text"] for p in client.parts if p["type"] in ("text", "reasoning")]
    states = {part["toolCallId"]: part["state"] for part in stored if "toolCallId" in part}
    assert states == client.tools()


@given(LOGS, st.sampled_from(PROFILES))
def test_nothing_is_sent_twice(history: AnyHistory, profile: Profile) -> None:
    """Repeated events give no chunk."""
    log = written((history[0], None), resets=False).events
    encoder = AISDKEncoder(Answer(ID), ROW, profile)
    encoder.opening()
    for event in log:
        fed(encoder, event)
    pieces = [event for event in log if hasattr(event, "offset")]
    assert [chunk for event in pieces for chunk in fed(encoder, event)] == []


def as_sent(client: Client) -> ClientMessage:
    """The message of this client, as it sends it back."""
    calls, left = list[ToolPart](), set[str]()
    for part in client.parts:
        if part["type"] == "step-start":
            left = {call.tool_call_id for call in calls}
        elif part["type"] == "tool":
            ours = part.get("providerExecuted")
            calls.append(ToolPart(part["id"], part["state"], provider_executed=ours))
    return ClientMessage(ID, tuple(calls), frozenset(left))


def rows_of(answer: Answer) -> list[CallRow]:
    """The rows of the calls whose turn is proven."""
    return [
        CallRow(number=number, runs_at=part.fields["runs_at"], state=part.fields["state"], input="")
        for number, part in enumerate(answer.parts)
        if part.type == "tool_call" and "runs_at" in part.fields
    ]


CALLED = st.lists(st.sampled_from(["server", "client"]), min_size=1, max_size=3)
MOVED = st.lists(st.tuples(st.just("move"), PLACES, PLACES, st.just("x")), max_size=6)
NEXT_TURN = st.lists(st.tuples(st.just("text"), st.just(["a", "b"])), max_size=2)


@profiles
@given(CALLED, MOVED, NEXT_TURN, PLACES)
def test_a_client_continues_from_any_place(
    profile: Profile, called: list[str], moved: list[Op], turn: list[Op], place: int
) -> None:
    """It holds the events up to a place behind a proven turn, and continues with the ended row."""
    ops: list[Op] = [("proved", 0, runs_at) for runs_at in called]
    log = written(([*ops, *moved, ("other", "step", None), *turn], "complete"), resets=False).events
    first = len(written((ops, None), resets=False).events)
    cut = first + place % (len(log) - first)
    encoder, client = AISDKEncoder(Answer(ID), ROW, profile), Client()
    client.read(encoder.opening())
    for event in log[:cut]:
        client.read(fed(encoder, event))
    there = encoder.answer
    calls = known_calls(as_sent(client), there.parts, rows_of(there))
    client.read(encoder.paused())
    continued = Continued(as_sent(client), calls)
    want = folded(log)
    held = continued.held(want)
    other = AISDKEncoder(Answer(ID), ROW, profile)
    other.opening()
    for event in catch_up(other.answer, held, 1):
        fed(other, event)
    assert other.answer.layout() == held.layout()
    client.over = None
    client.read(other.continued(is_torn=continued.is_torn))
    for event in catch_up(held, want, 1):
        client.read(fed(other, event))
    whole = read(log, profile)
    assert (client.over, client.tools()) == (whole.over, whole.tools())
    assert client.text() == want.content
    assert client.metadata == whole.metadata | {"status": want.status}
