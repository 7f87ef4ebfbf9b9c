"""web/openai/encoder.py over any history: the same numbers and the same Response from the log and
from a row.
"""

import contextlib
import json
from dataclasses import replace
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from tests.unit.protocol.histories import ID, Op
from tests.unit.web.histories import LOGS, PLACES, fed, folded, from_row, without_resets, written
from tests.unit.web.openai.client import Client, Parsed, blocks
from tokenwire.protocol.events import AnyEvent
from tokenwire.protocol.fold import Answer
from tokenwire.protocol.sent import Withdrawn
from tokenwire.web.aisdk.completions import CompletionFailed, TextEncoder
from tokenwire.web.openai.encoder import ChatEncoder, ResponseEncoder
from tokenwire.web.openai.items import output_items
from tokenwire.web.openai.objects import Head

AnyHistory = tuple[list[Op], str | None]
HEAD = Head(ID, "demo", 1, {}, 2)
ASKS = replace(HEAD, functions=frozenset(), asks_caller=True)
HEADS = st.sampled_from(
    [HEAD, ASKS, *(replace(HEAD, functions=frozenset(names)) for names in ((), "n"))]
)
"""All calls are functions without a proof; all are the server's, with approvals of the program, and
without; all are functions.
"""
OF_THE_SDK: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def events_of(head: Head, told: list[AnyEvent], after: int = -1) -> list[Parsed]:
    """The Response's events."""
    encoder = ResponseEncoder(Answer(ID), head, after)
    data = encoder.opening()
    for event in told:
        data += b"".join(fed(encoder, event))
    return blocks(data)


def unnamed(items: list[Parsed]) -> list[Parsed]:
    """Without ids, since withdrawn items have used some."""
    return [item | {"id": ""} for item in items]


@given(HEADS, LOGS)
def test_a_strict_client_ends_with_the_answer(head: Head, history: AnyHistory) -> None:
    """Indexes, ids, numbers and order hold, whatever is withdrawn."""
    log = written(history).events
    client, answer = Client().read(events_of(head, log)), folded(log)
    assert client.final is not None
    assert unnamed(client.final["output"]) == unnamed(output_items(head, answer))
    if without_resets(log):
        assert client.items == client.final["output"] == output_items(head, answer)
    texts = [item["content"][0]["text"] for item in client.whole() if item["type"] == "message"]
    assert "".join(texts) == answer.content


@given(HEADS, LOGS)
def test_the_sdk_knows_every_event(head: Head, history: AnyHistory) -> None:
    """Each is one of OpenAI's union."""
    for event in events_of(head, written(history).events):
        OF_THE_SDK.validate_python(event)


@given(HEADS, LOGS, PLACES, PLACES)
def test_a_row_gives_the_same_numbers(
    head: Head, history: AnyHistory, place: int, after: int
) -> None:
    """Byte for byte if nothing is withdrawn, from every `starting_after`."""
    log = written(history, resets=False).events
    whole = events_of(head, log)
    for saved in (place % (len(log) + 1), len(log)):
        assert events_of(head, from_row(log, saved)) == whole
    last = after % (len(whole) + 3) - 1
    rest = whole[last + 1 :] if last < len(whole) else whole[-1:]
    assert events_of(head, log, last) == events_of(head, from_row(log, len(log)), last) == rest


@example(HEAD, ([("attempt",), ("think", ["a", "a"]), ("reset", 0), ("sign",)], "complete"), 32)
@given(HEADS, LOGS, PLACES)
def test_withdrawn_items_do_not_count(head: Head, history: AnyHistory, place: int) -> None:
    """From any row the final Response is the same, except for ids."""
    log = written(history).events
    final = Client().read(events_of(head, log)).final
    other = Client().read(events_of(head, from_row(log, place % (len(log) + 1)))).final
    assert final is not None
    assert other is not None
    assert final | {"output": unnamed(final["output"])} == other | {
        "output": unnamed(other["output"])
    }


def completion(told: list[AnyEvent]) -> tuple[str, str, Any]:
    """Text, reasoning and the last choice of a chat completion; raises Withdrawn."""
    encoder, text, reasoning, last = ChatEncoder(Answer(ID), HEAD), "", "", dict[str, Any]()
    data = encoder.opening()
    for event in told:
        data += b"".join(fed(encoder, event))
    for block in data.decode().split("\n\n")[:-1]:
        if block != "data: [DONE]":
            last = json.loads(block.removeprefix("data: "))
            delta = last["choices"][0]["delta"] if "choices" in last else {}
            text += delta.get("content") or ""
            reasoning += delta.get("reasoning_content") or ""
    return text, reasoning, last


@given(LOGS, PLACES)
def test_a_completion_has_the_whole_text(history: AnyHistory, place: int) -> None:
    """From the log and from any row; or it ends with Withdrawn, if something was."""
    log = written(history).events
    answer = folded(log)
    for told in (log, from_row(log, place % (len(log) + 1)), from_row(log, len(log))):
        try:
            found = completion(told)
        except Withdrawn:
            assert not without_resets(told)
        else:
            assert found[:2] == (answer.content, answer.reasoning)
            assert ("error" in found[2]) == (answer.status != "complete")


@given(LOGS, PLACES)
def test_plain_text_is_the_text(history: AnyHistory, place: int) -> None:
    """The same for `useCompletion`; an incomplete answer fails."""
    log = written(history).events
    answer = folded(log)
    for told in (log, from_row(log, place % (len(log) + 1))):
        encoder, text, failed = TextEncoder(Answer(ID)), b"", False
        with contextlib.suppress(Withdrawn):
            try:
                for event in told:
                    text += fed(encoder, event)
            except CompletionFailed:
                failed = True
            assert failed == (answer.status != "complete")
            if not failed:
                assert text.decode() == answer.content
            continue
        assert not without_resets(told)
