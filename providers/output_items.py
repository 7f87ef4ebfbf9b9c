"""Pure: which output item of a response an event is about.

Guarantees: two items have two numbers, and all events of one item have one, as far as a server's
indexes and ids allow. An item of the final list gets the number under which it was streamed.

Why it works this way: an event has the item's index in the output, its id, or both. Some gateways
change an item's id within a stream, so the index counts first. Other servers give all items one
index, or count from 1. So an index stands for the item that began with it last, unless an event has
exactly the id of another one; and an item that has ended grows only by an event with its own id. As
soon as an id is seen to change, ids distinguish nothing any more. The final list goes by indexes
only if every streamed item fits it; else by ids, then by order and type.

Rejected: ids first (the gateways), and indexes alone (the second item at an index was lost, and the
final list brought it back behind a copy of the first one).
"""

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenwire.providers.fields import loose, place, word


@dataclass(slots=True)
class OutputItem:
    """One item of the output. `number` counts the items in the order in which they began.

    `place`: its index, or else its id, as the server gave it; None: the server gave neither.
    """

    number: int
    place: int | str | None
    id: int | str | None = None
    type: str | None = None
    has_ended: bool = False


class OutputItems:
    """The items of one response."""

    def __init__(self) -> None:
        self._items: list[OutputItem] = []
        self._at: dict[int | str | None, OutputItem] = {}
        self._by_id: dict[int | str, OutputItem] = {}
        self._ids_change = False

    def of(self, event: Mapping[str, Any]) -> OutputItem:
        """The item that a note is about. It may have ended."""
        return self._find(event) or self._begin(event)

    def growing(self, event: Mapping[str, Any], kind: str) -> OutputItem:
        """The item of a delta, which only an item of this type has."""
        item = self._find(event)
        if item is None or (item.has_ended and not self._is_meant(event, item)):
            item = self._begin(event)
        self._note(item, event)
        item.type = item.type or kind
        return item

    def added(self, event: Mapping[str, Any]) -> OutputItem:
        """The item that begins with this event. Its deltas may have come first."""
        item = self._find(event)
        if item is None or self._is_another(event, item) or (item.has_ended and not item.id):
            return self._begin(event)
        return self._note(item, event)

    def done(self, event: Mapping[str, Any]) -> OutputItem:
        """The item that ends with this event. It has ended already if the event is repeated."""
        item = self._find(event)
        if item is None or (item.has_ended and self._is_another(event, item)):
            return self._begin(event)
        return item if item.has_ended else self._note(item, event)

    def matched(self, output: Sequence[Mapping[str, Any]]) -> list[OutputItem]:
        """For each item of the final list the streamed one, or a new one."""
        if self._fits(output):
            pairs = enumerate(output)
            return [self._at.get(n) or self._begin(_event(n, item)) for n, item in pairs]
        found = [self._by_id.get(_id_of(_event(None, item)) or "") for item in output]
        taken = {item.number for item in found if item}
        left = defaultdict[str | None, deque[OutputItem]](deque)
        for item in self._items:
            if item.number not in taken:
                left[item.type].append(item)
        for number, entry in enumerate(output):
            if found[number] is None:
                same = left[_type_of(_event(None, entry))] or left[None]
                found[number] = same.popleft() if same else self._begin(_event(None, entry))
        return [item for item in found if item]

    def _fits(self, output: Sequence[Mapping[str, Any]]) -> bool:
        """Whether the indexes of the streamed items are their places in this list."""
        events = [_event(number, item) for number, item in enumerate(output)]
        places = defaultdict[int | str | None, set[int]](set)
        for number, event in enumerate(events):
            places[_id_of(event)].add(number)
        return len(self._at) == len(self._items) and all(
            isinstance(item.place, int)
            and 0 <= item.place < len(output)
            and item.type in (None, _type_of(events[item.place]))
            and (item.id not in places or item.place in places[item.id])
            for item in self._items
        )

    def _find(self, event: Mapping[str, Any]) -> OutputItem | None:
        where, id_ = _place_of(event), _id_of(event)
        if where is None:
            return next((item for item in reversed(self._items) if not item.has_ended), None)
        nowhere = self._at.get(None)
        if where not in self._at and nowhere is not None and not self._is_another(event, nowhere):
            nowhere.place = where  # until now its events had neither index nor id
            self._at[where] = self._at.pop(None)
        item = self._at.get(where)
        if id_ is None or (item is None and event.get("output_index") is not None):
            return item
        return item if item and item.id in (None, id_) else self._by_id.get(id_, item)

    def _begin(self, event: Mapping[str, Any]) -> OutputItem:
        item = OutputItem(len(self._items), _place_of(event))
        self._items.append(item)
        self._at[item.place] = item
        return self._note(item, event)

    def _note(self, item: OutputItem, event: Mapping[str, Any]) -> OutputItem:
        """Note what the event says of its item."""
        id_ = _id_of(event)
        self._ids_change = self._ids_change or _differs(id_, item.id)
        item.type = _type_of(event) or item.type
        if id_ is not None:
            item.id = id_
            self._by_id[id_] = item
        return item

    def _is_meant(self, event: Mapping[str, Any], item: OutputItem) -> bool:
        """Whether the event means this item by its id."""
        return self._ids_change or (item.id is not None and _id_of(event) == item.id)

    def _is_another(self, event: Mapping[str, Any], item: OutputItem) -> bool:
        """Whether the event is about another item than the one that was found for it."""
        if _differs(_type_of(event), item.type):
            return True
        return not self._ids_change and _differs(_id_of(event), item.id)


def _event(index: int | None, item: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"output_index": index, "item": item}


def _place_of(event: Mapping[str, Any]) -> int | str | None:
    index = event.get("output_index")
    return _id_of(event) if index is None else place(index)


def _id_of(event: Mapping[str, Any]) -> int | str | None:
    return place(event.get("item_id") or loose(event.get("item")).get("id"))


def _type_of(event: Mapping[str, Any]) -> str | None:
    return word(loose(event.get("item")).get("type"))


def _differs(one: int | str | None, other: int | str | None) -> bool:
    return bool(one and other and one != other)
