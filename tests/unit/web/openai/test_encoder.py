"""web/openai/encoder.py by example (test_replay.py: any history), and its events in OpenAI's
SDK.
"""

import itertools
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from tests.unit.web.histories import fed
from tests.unit.web.openai.client import Parsed, blocks
from tokenwire.protocol.events import (
    AnyEvent,
    Chunk,
    PartEvent,
    Reasoning,
    Reset,
    Retry,
    Start,
    ToolInput,
)
from tokenwire.protocol.fold import Answer, Hole, from_view
from tokenwire.protocol.replay import catch_up
from tokenwire.protocol.sent import Withdrawn
from tokenwire.protocol.text import utf16_length
from tokenwire.web.openai import completions, responses
from tokenwire.web.openai.encoder import PIECE_CHARS, ChatEncoder, ResponseEncoder
from tokenwire.web.openai.objects import Head

ID = "0198c1f2-0000-7000-8000-000000000001"
USAGE = {"input_tokens": 3, "output_tokens": 7, "cached_tokens": 1, "estimated": False}
CALL = {
    "type": "tool_call",
    "id": "call_1",
    "name": "weather",
    "state": "proposed",
    "input": '{"city":"Žilina"}',
}
TEXTS = st.text(st.sampled_from('ab é👍\n"\\'), max_size=40)
OF_THE_SDK: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)

HEAD = Head(ID, "demo", 1_790_000_000)
BACKGROUND = Head(ID, "demo", 1_790_000_000, {"background": True})


def answer(
    text: str = "",
    reasoning: str = "",
    status: str = "complete",
    calls: Sequence[dict[str, Any]] = (),
    **more: Any,
) -> Answer:
    """Reasoning, text, calls."""
    known = {"finish_reason": "stop", "usage": USAGE} if status == "complete" else {}
    row = {"id": ID, "status": status, "content": text, "reasoning": reasoning}
    made = from_view(row | known | more)
    return from_view(row | known | more | {"parts": [*made.layout(), *calls]})


def chunks(data: bytes) -> list[Parsed]:
    lines = [block.removeprefix("data: ") for block in data.decode().split("\n\n")[:-1]]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def logged(
    kind: type[Chunk] | type[Reasoning],
    text: str,
    cuts: Sequence[int],
    attempt: int = 1,
    part: int = 0,
) -> list[AnyEvent]:
    places = sorted({min(place, len(text)) for place in cuts} | {0, len(text)})
    return [
        kind(ID, attempt, utf16_length(text[:start]), text[start:end], part)
        for start, end in itertools.pairwise(places)
    ]


def applied(encoder: ResponseEncoder | ChatEncoder, events: Sequence[AnyEvent]) -> bytes:
    return b"".join(portion for event in events for portion in fed(encoder, event))


def end_of(ended: Answer) -> AnyEvent:
    """Its terminal event."""
    return catch_up(Answer(ID), ended, 1)[-1]


def from_log(
    ended: Answer, events: Sequence[AnyEvent], after: int = -1, head: Head = HEAD
) -> list[Parsed]:
    encoder = ResponseEncoder(Answer(ID), head, after)
    return blocks(encoder.opening() + applied(encoder, [*events, end_of(ended)]))


def from_row(ended: Answer, after: int = -1, head: Head = HEAD) -> list[Parsed]:
    return from_log(ended, catch_up(Answer(ID), ended, 1)[:-1], after, head)


CUTS = st.lists(st.integers(0, 40), max_size=10)


@given(TEXTS, TEXTS, CUTS, CUTS, st.integers(-1, 60))
def test_an_answer_always_gives_the_same_numbered_events(
    text: str, reasoning: str, cuts: list[int], other_cuts: list[int], after: int
) -> None:
    """However the log has cut it, and from the row alone; a returning reader gets exactly the
    missing ones.
    """
    ended = answer(text, reasoning)
    events = [
        Start(ID, 1, "demo"),
        *logged(Reasoning, reasoning, cuts),
        *logged(Chunk, text, other_cuts, part=1 if reasoning else 0),
    ]
    whole = from_log(ended, events)
    assert [event["sequence_number"] for event in whole] == list(range(len(whole)))
    assert whole == from_row(ended)
    expected = whole[after + 1 :] if after < len(whole) else whole[-1:]
    assert from_log(ended, events, after) == from_row(ended, after) == expected


@pytest.mark.parametrize("text", ["", "Let me see"])
@pytest.mark.parametrize("reasoning", ["", "hm"])
def test_each_item_has_its_index_in_the_final_response(text: str, reasoning: str) -> None:
    """For any reasoning, text and calls: clients store it under that index."""
    ended = answer(
        text,
        reasoning,
        calls=[CALL, CALL | {"id": "call_2"}],
        finish_reason="tool_calls",
    )
    events = from_row(ended)
    added = [
        (event["output_index"], event["item"]["id"])
        for event in events
        if event["type"] == "response.output_item.added"
    ]
    assert added == list(enumerate(item["id"] for item in events[-1]["response"]["output"]))


@pytest.mark.parametrize(
    ("ended", "last"),
    [
        (answer("Hello 👋 world", "hm"), "response.completed"),
        (answer(), "response.completed"),
        (answer("", "", calls=[CALL], finish_reason="tool_calls"), "response.completed"),
        (
            answer("Let me see", calls=[CALL, CALL | {"id": "call_2"}]),
            "response.completed",
        ),
        (answer("too lo", finish_reason="length"), "response.incomplete"),
        (answer("He", status="cancelled"), "response.incomplete"),
        (
            answer(
                "He",
                status="error",
                error={"code": "rate_limited", "error": "Later.", "retryable": True},
            ),
            "response.failed",
        ),
    ],
)
def test_the_sdk_knows_every_event(ended: Answer, last: str) -> None:
    """Each event is one of OpenAI's union with all required fields; deltas, `done` and the final
    Response agree.
    """
    events = from_row(ended)
    for event in events:
        OF_THE_SDK.validate_python(event)
    assert events[-1]["type"] == last
    final = Response.model_validate(events[-1]["response"])
    deltas = "".join(
        event["delta"] for event in events if event["type"] == "response.output_text.delta"
    )
    assert deltas == ended.content == final.output_text
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert done == events[-1]["response"]["output"] == responses.response(HEAD, ended)["output"]
    assert [
        event["output_index"] for event in events if event["type"] == "response.output_item.added"
    ] == list(range(len(done)))


def test_statuses_errors_and_usage_are_mapped() -> None:
    """In OpenAI's words."""
    failed = responses.response(
        HEAD,
        answer(
            status="error",
            error={"code": "context_length_exceeded", "error": "Too long.", "retryable": False},
        ),
    )
    assert failed["status"] == "failed"
    assert failed["error"] == {"code": "invalid_prompt", "message": "Too long."}
    assert responses.response(HEAD, answer("x", finish_reason="length"))["incomplete_details"] == {
        "reason": "max_output_tokens"
    }
    assert responses.response(HEAD, answer("x"))["usage"]["total_tokens"] == 10
    assert responses.response(HEAD, answer(status="queued"))["status"] == "in_progress"
    queued = responses.response(BACKGROUND, answer(status="queued"))
    assert queued["status"] == "queued"


def test_a_background_response_begins_as_queued() -> None:
    """That depends on the request alone, never on the time of reading."""
    assert [event["type"] for event in from_row(answer("x"), head=BACKGROUND)][:3] == [
        "response.created",
        "response.queued",
        "response.in_progress",
    ]


def test_repeated_text_is_not_shown_twice() -> None:
    """A new epoch repeats the text: `reset` and the same words."""
    text = "Hello there, you"
    restated = [Reset(ID, 1, 0, 0, 0), *logged(Chunk, text, [7])]
    assert from_log(answer(text), [*logged(Chunk, text[:11], [3]), *restated]) == from_row(
        answer(text)
    )


def test_other_words_are_another_item() -> None:
    """The first item ends as incomplete, and the final Response has only the new one."""
    first, second = "The answer is 41", "It is 42."
    retry = Retry(ID, 1, "interrupted", 10, 1, 3)
    events = from_log(
        answer(second),
        [*logged(Chunk, first, []), retry, Reset(ID, 2, 0, 0, 0), *logged(Chunk, second, [2], 2)],
    )
    for event in events:
        OF_THE_SDK.validate_python(event)
    items = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert [(item["id"], item["status"], item["content"][0]["text"]) for item in items] == [
        (f"msg_{ID}", "incomplete", first[: len(first) // PIECE_CHARS * PIECE_CHARS]),
        (f"msg_{ID}_2", "completed", second),
    ]
    assert events[-1]["response"]["output"] == [items[1]]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))


def test_reasoning_after_text_is_an_item_of_its_own() -> None:
    """Items are in the order of the parts and do not interleave."""
    log = [
        *logged(Reasoning, "first", []),
        *logged(Chunk, "The ", [], part=1),
        Reasoning(ID, 1, 5, ", then", 2),
        Chunk(ID, 1, 4, "text", 3),
    ]
    ended = answer(
        "The text",
        "first, then",
        parts=[
            {"type": "reasoning", "length": 5},
            {"type": "text", "length": 4},
            {"type": "reasoning", "length": 6},
            {"type": "text", "length": 4},
        ],
    )
    events = from_log(ended, log)
    assert events == from_row(ended)
    assert [item["content"][0]["text"] for item in events[-1]["response"]["output"]] == [
        "first",
        "The ",
        ", then",
        "text",
    ]


def test_an_ended_text_that_continues() -> None:
    """What followed it was withdrawn: it grows again as a new item, without losing text."""
    log = [
        Chunk(ID, 1, 0, "One", 0),
        Reasoning(ID, 1, 0, "hm", 1),
        Reset(ID, 2, 3, 0, 1),
        Chunk(ID, 2, 3, " two", 0),
    ]
    events = from_log(answer("One two"), log)
    [item] = events[-1]["response"]["output"]
    assert (item["id"], item["content"][0]["text"]) == (f"msg_{ID}_2", "One two")


def test_a_text_that_became_shorter_is_a_new_item() -> None:
    """What is out of it cannot be taken back."""
    log = [Chunk(ID, 1, 0, "Hello there", 0), Reset(ID, 2, 0, 0, 0), Chunk(ID, 2, 0, "Hello", 0)]
    events = from_log(answer("Hello"), log)
    [item] = events[-1]["response"]["output"]
    assert (item["id"], item["content"][0]["text"]) == (f"msg_{ID}_2", "Hello")


def test_another_text_of_the_same_length_is_a_new_item() -> None:
    """It grows while the text around it is told: nobody compares lengths alone."""
    thinks = PartEvent(ID, 1, 1, {"type": "reasoning", "at": 3})
    log = [
        Chunk(ID, 1, 0, "One", 0),
        thinks,
        Reasoning(ID, 1, 0, "hm", 1),
        PartEvent(ID, 1, 2, {"type": "step"}),
        Reset(ID, 2, 3, 0, 1),
        thinks,
        Reasoning(ID, 2, 0, "so", 1),
    ]
    layout = [{"type": "text", "length": 3}, {"type": "reasoning", "length": 2, "at": 3}]
    events = from_log(answer("One", "so", parts=layout), log)
    _, item = events[-1]["response"]["output"]
    assert (item["id"], item["content"][0]["text"]) == (f"rs_{ID}_2", "so")


def test_a_long_piece_of_an_open_text_is_emitted_at_once() -> None:
    """But for what does not fill a delta."""
    encoder = ResponseEncoder(Answer(ID), HEAD)
    told = blocks(applied(encoder, [Chunk(ID, 1, 0, "Hello", 0), Chunk(ID, 1, 5, "ab" * 9999, 0)]))
    deltas = [event["delta"] for event in told if event["type"].endswith("text.delta")]
    assert len("".join(deltas)) > 5 + 2 * 9999 - PIECE_CHARS


def test_a_second_call_waits_for_the_first() -> None:
    """Their inputs come mixed; the numbers do not change."""

    def part(number: int, **fields: Any) -> AnyEvent:
        return PartEvent(ID, 1, number, {"type": "tool_call", **fields})

    def opened(number: int) -> AnyEvent:
        return part(number, id=f"c{number}", name="n", state="streaming")

    log = [
        opened(0),
        opened(1),
        ToolInput(ID, 1, 0, '{"a":', 0),
        ToolInput(ID, 1, 0, '{"b":2}', 1),
        part(1, state="proposed"),
        ToolInput(ID, 1, 5, "1}", 0),
    ]
    encoder = ResponseEncoder(Answer(ID), HEAD)
    encoder.opening()
    before = blocks(applied(encoder, log))
    assert {event.get("item_id", "fc_" + ID + "_0") for event in before} == {f"fc_{ID}_0"}
    after = blocks(applied(encoder, [part(0, state="proposed")]))
    done = [event["item"] for event in after if event["type"] == "response.output_item.done"]
    assert [(item["arguments"], item["status"]) for item in done] == [
        ('{"a":1}', "completed"),
        ('{"b":2}', "completed"),
    ]


def of_call(**fields: Any) -> AnyEvent:
    """An event about the first part, a call."""
    return PartEvent(ID, 1, 0, {"type": "tool_call", **fields})


BEGUN = [of_call(id="c", name="n", state="streaming"), ToolInput(ID, 1, 0, "{}", 0)]
OWN = Head(ID, "demo", 1, functions=frozenset({"n"}))
SERVERS = Head(ID, "demo", 1, functions=frozenset())


def kinds(data: bytes) -> list[str]:
    return [event["type"].removeprefix("response.") for event in blocks(data)]


def test_a_function_is_done_when_its_turn_is_proven() -> None:
    """Not before: its program would execute a call that is withdrawn later."""
    encoder = ResponseEncoder(Answer(ID), OWN)
    encoder.opening()
    before = kinds(applied(encoder, [*BEGUN, of_call(state="proposed")]))
    assert before == ["in_progress", "output_item.added"]
    after = kinds(applied(encoder, [of_call(runs_at="caller")]))
    rest = "function_call_arguments"
    assert after == [f"{rest}.delta", f"{rest}.done", "output_item.done"]


def test_a_call_of_the_server_ends_with_its_outcome() -> None:
    """Its item waits for that; a chat has nothing of it."""
    for fields, outcome in (
        ({"state": "done", "result": {"sum": 3}}, ("completed", '{"sum": 3}', None)),
        ({"state": "failed", "error": "No."}, ("failed", None, "No.")),
    ):
        encoder = ResponseEncoder(Answer(ID), SERVERS)
        encoder.opening()
        log = [*BEGUN, of_call(state="proposed", runs_at="server"), of_call(state="running")]
        before = kinds(applied(encoder, log))
        assert before == ["in_progress", "output_item.added", "mcp_call.in_progress"]
        data = applied(encoder, [of_call(**fields)])
        ended = outcome[0]
        rest = "mcp_call_arguments"
        assert kinds(data) == [
            *(f"{rest}.delta", f"{rest}.done", f"mcp_call.{ended}", "output_item.done")
        ]
        for event in blocks(data):
            OF_THE_SDK.validate_python(event)
        item = blocks(data)[-1]["item"]
        assert (item["status"], item["output"], item["error"]) == outcome
        chat = ChatEncoder(Answer(ID), SERVERS)
        assert chunks(applied(chat, [*log, of_call(**fields)])) == []


def test_a_chat_has_the_calls_of_its_program_alone() -> None:
    """Numbered from 0."""
    server = CALL | {"name": "add", "state": "done", "result": 3}
    unasked = CALL | {"name": "add", "id": "other"}
    ended = answer("", calls=[server, unasked, CALL], finish_reason="tool_calls")
    head = Head(ID, "demo", 1, functions=frozenset({"weather"}))
    data = applied(ChatEncoder(Answer(ID), head), catch_up(Answer(ID), ended, 1))
    (calls,) = [
        chunk["choices"][0]["delta"]["tool_calls"]
        for chunk in chunks(data)
        if "tool_calls" in chunk["choices"][0]["delta"]
    ]
    assert [(call["index"], call["function"]["name"]) for call in calls] == [(0, "weather")]
    message = completions.completion(head, ended)["choices"][0]["message"]
    assert [call["id"] for call in message["tool_calls"]] == [calls[0]["id"]]


def test_annotations_come_before_the_end_of_their_text() -> None:
    """Each once, and all of them in the item."""
    log = [
        *logged(Chunk, "He said", []),
        PartEvent(ID, 1, 1, {"type": "source", "url": "https://x", "at": 2}),
        Chunk(ID, 1, 7, " so", 0),
    ]
    ended = answer(
        "He said so",
        parts=[
            {"type": "text", "length": 10},
            {"type": "source", "url": "https://x", "at": 2},
        ],
    )
    events = from_log(ended, log)
    kinds = [event["type"] for event in events]
    place = kinds.index("response.output_text.annotation.added")
    assert kinds[place - 1 : place + 2] == [
        "response.output_text.delta",
        "response.output_text.annotation.added",
        "response.output_text.done",
    ]
    for event in events:
        OF_THE_SDK.validate_python(event)
    [cited] = events[-1]["response"]["output"][0]["content"][0]["annotations"]
    assert cited == events[place]["annotation"]


def test_a_hole_is_noticed() -> None:
    """The watcher reads the row again."""
    with pytest.raises(Hole):
        applied(ResponseEncoder(Answer(ID), HEAD), [Chunk(ID, 1, 5, "x", 0)])


def test_a_failure_of_the_stream_takes_no_number() -> None:
    """A reader that continues after it misses nothing."""
    encoder = ResponseEncoder(Answer(ID), HEAD)
    encoder.opening()
    (event,) = blocks(encoder.failure("expired"))
    OF_THE_SDK.validate_python(event)
    assert event["sequence_number"] == 0 == encoder.last


def test_a_long_answer_is_encoded_in_portions() -> None:
    """On request: no reader costs the memory of all its events. Events that it has are not encoded
    at all.
    """
    ended = answer("word " * 40_000)
    told = catch_up(Answer(ID), ended, 1)
    assert len(told) == 5  # of 64 KiB at most

    def portions_of(encoder: ResponseEncoder) -> list[bytes]:
        encoder.opening()
        return [portion for event in told for portion in fed(encoder, event)]

    portions = portions_of(ResponseEncoder(Answer(ID), HEAD))
    assert max(map(len, portions[:-1])) < 100_000 < len(b"".join(portions)) / 100
    rest = portions_of(ResponseEncoder(Answer(ID), HEAD, 49_990))
    assert blocks(b"".join(rest))[0]["sequence_number"] == 49_991
    assert len([portion for portion in rest if portion]) < 4


# --- chat completions -----------------------------------------------------------------------------


def test_chunks_give_the_completion() -> None:
    """Each is one of the SDK's; text, reasoning, calls, reason and usage arrive."""
    ended = answer("Hello 👋 there", "hm", calls=[CALL])
    encoder = ChatEncoder(Answer(ID), HEAD, include_usage=True)
    log = [*logged(Reasoning, "hm", []), *logged(Chunk, "Hello 👋", [3], part=1)]
    held = Answer(ID)
    for event in log:
        held.apply(event)
    data = encoder.opening() + applied(encoder, [*log, *catch_up(held, ended, 1)])
    found = [ChatCompletionChunk.model_validate(chunk) for chunk in chunks(data)]
    deltas = [chunk.choices[0].delta for chunk in found if chunk.choices]
    assert "".join(delta.content or "" for delta in deltas) == "Hello 👋 there"
    assert "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas) == "hm"
    assert deltas[-2].tool_calls is not None
    assert found[-1].usage is not None
    assert (
        found[-2].choices[0].finish_reason,
        found[-1].choices,
        found[-1].usage.total_tokens,
    ) == ("stop", [], 10)
    assert data.endswith(b"data: [DONE]\n\n")
    assert (
        ChatCompletion.model_validate(completions.completion(HEAD, ended))
        .choices[0]
        .message.content
        == "Hello 👋 there"
    )


def test_a_completion_cannot_withdraw_text() -> None:
    """Sent text that is no longer part of the answer ends the stream."""
    encoder = ChatEncoder(Answer(ID), HEAD)
    applied(encoder, [Chunk(ID, 1, 0, "Hello", 0), Reset(ID, 2, 0, 0, 0)])
    with pytest.raises(Withdrawn):
        applied(encoder, [Chunk(ID, 2, 0, "Bye", 0)])


def test_a_failed_answer_ends_a_completion_with_an_error() -> None:
    """And without `[DONE]`, so that nobody takes it for complete."""
    failed = answer(
        "He",
        status="error",
        error={"code": "interrupted", "error": "It broke off.", "retryable": True},
    )
    encoder = ChatEncoder(Answer(ID), HEAD)
    data = encoder.opening() + applied(encoder, catch_up(Answer(ID), failed, 1))
    assert chunks(data)[-1]["error"] == {
        "message": "It broke off.",
        "type": "server_error",
        "param": None,
        "code": "interrupted",
    }
    assert b"[DONE]" not in data
