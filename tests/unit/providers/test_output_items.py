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
    assert items.growing({"output_index": 0, "item_id": "a"}) is item
    assert items.done({"output_index": 0, "item": {"type": "reasoning"}}) is not item
    assert items.growing({"output_index": 0}) is not item


def test_the_final_list_has_more_than_was_streamed() -> None:
    """Some servers name an item there only. It is new, whatever was streamed around it."""
    items = OutputItems()
    second = items.done({"output_index": 7, "item": {"id": "b", "type": "message"}})
    found = items.matched([{"id": "a", "type": "reasoning"}, {"id": "x", "type": "message"}])
    assert found[1] is second
    assert found[0].number == 1
