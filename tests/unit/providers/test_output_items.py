"""Which output item an event of a response is about, whatever a server uses for indexes and ids."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.providers.bodies import RESPONSES, read, sse
from tokenwire.providers.output_items import OutputItems

Event = dict[str, Any]

ITEMS: list[Event] = [
    {"type": "reasoning", "id": "r1", "summary": [{"type": "summary_text", "text": "Hm."}]},
    {"type": "message", "id": "m1", "content": [{"type": "output_text", "text": "One "}]},
    {"type": "message", "id": "m2", "content": [{"type": "output_text", "text": "two."}]},
    *(
        {"type": "function_call", "id": id_, "call_id": f"c{id_}", "name": "f", "arguments": input_}
        for id_, input_ in (("f1", '{"a":1}'), ("f2", '{"b":2}'))
    ),
]
FINAL = {
    "type": "response.completed",
    "response": {"id": "r", "status": "completed", "output": ITEMS},
}


def events_of(index: int, item: Event) -> list[Event]:
    """The events of one item, with its index and its id."""
    empty = {
        name: value for name, value in item.items() if name in ("type", "id", "call_id", "name")
    }
    deltas: list[Event] = []
    if item["type"] == "message":
        deltas = [{"type": "response.output_text.delta", "delta": item["content"][0]["text"]}]
    elif item["type"] == "function_call":
        text = item["arguments"]
        deltas = [
            {"type": "response.function_call_arguments.delta", "delta": text[:3]},
            {"type": "response.function_call_arguments.delta", "delta": text[3:]},
        ]
    made = [
        {"type": "response.output_item.added", "item": empty},
        *({**delta, "item_id": item["id"]} for delta in deltas),
        {"type": "response.output_item.done", "item": item},
    ]
    return [{**event, "output_index": index} for event in made]


def changed_ids(event: Event, number: int) -> Event:
    if "item" in event:
        return {**event, "item": {**event["item"], "id": f"{event['item']['id']}-{number}"}}
    return {**event, "item_id": f"{event['item_id']}-{number}"} if "item_id" in event else event


def without(*names: str) -> Callable[[Event, int], Event]:
    def change(event: Event, _: int) -> Event:
        left = {name: value for name, value in event.items() if name not in names}
        if "id" in names and "item" in left:
            left["item"] = {name: value for name, value in left["item"].items() if name != "id"}
        return left

    return change


SCHEMES: dict[str, Callable[[Event, int], Event]] = {
    "as documented": lambda event, _: event,
    "all at index 0": lambda event, _: {**event, "output_index": 0},
    "counted from 1": lambda event, _: {**event, "output_index": event["output_index"] + 1},
    "with gaps": lambda event, _: {**event, "output_index": event["output_index"] * 10**12},
    "ids that change": changed_ids,
    "no indexes": without("output_index"),
    "no ids": without("item_id", "id"),
    "neither": without("output_index", "item_id", "id"),
    "neither but in items": without("output_index", "item_id"),
    "index 0 and no ids": lambda event, n: {
        **without("item_id", "id")(event, n),
        "output_index": 0,
    },
}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("left_out", ["nothing", "added", "added delta"])
def test_each_item_counts_once(scheme: str, left_out: str) -> None:
    """In order, with its own text and input, and nothing comes again with the final list."""
    streamed = [
        event
        for number, item in enumerate(ITEMS)
        for event in events_of(number, item)
        if event["type"].rpartition(".")[2] not in left_out.split()
    ]
    body = [SCHEMES[scheme](event, number) for number, event in enumerate(streamed)]
    found = read(RESPONSES, sse(*map(json.dumps, (*body, FINAL))))
    assert (found["error"], found["reasoning"], found["text"]) == (None, "Hm.", "One two.")
    assert [call["arguments"] for call in found["tool_calls"]] == ['{"a":1}', '{"b":2}']


def test_an_event_that_comes_again() -> None:
    """An end that is repeated ends nothing else; a delta behind it belongs to its own item."""
    items = OutputItems()
    item = items.added({"output_index": 0, "item": {"id": "a", "type": "message"}})
    item.has_ended = True
    assert items.done({"output_index": 0, "item": {"id": "a", "type": "message"}}) is item
    assert items.added({"output_index": 0, "item": {"id": "a", "type": "message"}}) is item
    assert items.of({"output_index": 0}) is item
    assert items.growing({"output_index": 0, "item_id": "a"}, "message") is item
    assert items.done({"output_index": 0, "item": {"type": "reasoning"}}) is not item
    assert items.growing({"output_index": 0}, "message") is not item


def test_the_final_list_has_more_than_was_streamed() -> None:
    """Some servers name an item there only. It is new, whatever was streamed around it."""
    items = OutputItems()
    second = items.done({"output_index": 7, "item": {"id": "b", "type": "message"}})
    found = items.matched([{"id": "a", "type": "reasoning"}, {"id": "x", "type": "message"}])
    assert found[1] is second
    assert found[0].number == 1


def delta(text: str, **place: Any) -> Event:
    return {"type": "response.output_text.delta", "delta": text, **place}


def done(id_: str, text: str, **place: Any) -> Event:
    content = [{"type": "output_text", "text": text}]
    item = {"type": "message", "id": id_, "content": content}
    return {"type": "response.output_item.done", "item": item, **place}


def added(id_: str, **place: Any) -> Event:
    item = {"type": "message", "id": id_, "content": []}
    return {"type": "response.output_item.added", "item": item, **place}


@pytest.mark.parametrize(
    ("streamed", "final"),
    [
        # Counted from 1, and the item at the shifted place has the same type.
        ([delta("One ", output_index=1, item_id="m1")], [("m1", "One "), ("m2", "two.")]),
        # An index at first, then the id alone.
        (
            [
                added("m1", output_index=0),
                delta("One ", item_id="m1"),
                done("m1", "One "),
                added("m2", output_index=1),
                delta("two.", item_id="m2"),
                done("m2", "two."),
            ],
            [("m1", "One "), ("m2", "two.")],
        ),
        # Ids that change, and an end that is repeated.
        (
            [
                added("x1", output_index=0),
                delta("One two.", output_index=0, item_id="x2"),
                done("x3", "One two.", output_index=0),
                done("x4", "One two.", output_index=0),
            ],
            [("x5", "One two.")],
        ),
        # The same with a beginning that is repeated.
        (
            [
                added("x1", output_index=0),
                delta("One ", output_index=0, item_id="x2"),
                added("x3", output_index=0),
                delta("two.", output_index=0, item_id="x4"),
                done("x5", "One two.", output_index=0),
            ],
            [("x6", "One two.")],
        ),
        # Deltas alone, and another id in the end.
        ([delta("One two.", output_index=1, item_id="m1")], [("m9", "One two.")]),
    ],
)
def test_each_text_comes_once(streamed: list[Event], final: list[tuple[str, str]]) -> None:
    """Nothing of the final list comes again."""
    output = [done(id_, text)["item"] for id_, text in final]
    ended = {**FINAL, "response": {"id": "r", "status": "completed", "output": output}}
    found = read(RESPONSES, sse(*map(json.dumps, (*streamed, ended))))
    assert (found["error"], found["text"]) == (None, "One two.")


@pytest.mark.parametrize("order", ["112233", "121323", "123123"])
def test_calls_at_one_index_side_by_side(order: str) -> None:
    """Each event has the exact id of its call."""
    calls = {
        id_: [
            {"type": "response.output_item.added", "item": {**call, "arguments": ""}},
            {"type": "response.function_call_arguments.delta", "delta": call["arguments"]},
            {"type": "response.output_item.done", "item": call},
        ]
        for id_ in "123"
        for call in [
            {
                "type": "function_call",
                "id": id_,
                "call_id": f"c{id_}",
                "name": "f",
                "arguments": f'{{"a":{id_}}}',
            }
        ]
    }
    firsts = [calls[id_][0] for id_ in "123"]
    rest = {id_: iter(events[1:]) for id_, events in calls.items()}
    later = [{**next(rest[id_]), "item_id": id_} for id_ in order]
    body = [{**event, "output_index": 0} for event in (*firsts, *later)]
    output = [events[-1]["item"] for events in calls.values()]
    ended = {**FINAL, "response": {"id": "r", "status": "completed", "output": output}}
    found = read(RESPONSES, sse(*map(json.dumps, (*body, ended))))
    assert [call["arguments"] for call in found["tool_calls"]] == ['{"a":1}', '{"a":2}', '{"a":3}']
