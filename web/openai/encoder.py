"""Pure: an answer as event streams of OpenAI's API: Responses, which can be resumed, and chunks.

The mapping of Responses, on which resuming stands:

1. `sequence_number` counts 0, 1, 2 ... without holes. It is computed from the parts, not from the
   events of the log: a text is cut into pieces of PIECE_CHARS code points, each piece is one delta,
   and what surrounds them (created, items, parts, done) stands at places that the parts determine.
   So it does not matter how the log cut the answer, whether chunks were merged, whether the log was
   trimmed or lost: the same answer gives the same events under the same numbers.
2. A piece leaves when it is full; the rest of a text leaves with its end.
3. Items are whole and in the order of the parts: an item begins after the item before has ended.
   Annotations come before `output_text.done`. What has no item here (data, provider, steps, unknown
   types, files elsewhere) is not told.
4. What is withdrawn cannot be taken back in this dialect: an open item ends as `incomplete`, and
   what replaces it is a new item. Where the same is said again, nothing is seen of it.

A chat completion has no numbers and no items: its chunks are cut as the log is, and where text is
withdrawn it ends with an error.

Rejected: items side by side (two inputs come mixed from the log and one after the other from a row,
so numbers would depend on where a reader reads).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import msgspec

from tokenwire.protocol.events import AnyEvent, Chunk, Piece, Reasoning, Reset, Terminal
from tokenwire.protocol.fold import Answer, Part
from tokenwire.protocol.sent import Sent, Withdrawn
from tokenwire.protocol.text import utf16_length
from tokenwire.web.calls import CallIds
from tokenwire.web.openai import completions, items, objects, responses
from tokenwire.web.openai.items import ItemKind, ItemStatus
from tokenwire.web.openai.objects import Head
from tokenwire.web.reasons import EXPIRED, REMOVED

PIECE_CHARS = 4
"""Code points in a delta, about a token. Another number would change the sequence numbers of old
responses.
"""
KEEP_ALIVE = b": keep-alive\n\n"

PORTION_PIECES = 256
"""Deltas that are encoded at a time (some 60 kB): a long answer is not made into bytes at once."""
PORTION_CHARS = PIECE_CHARS * PORTION_PIECES
RESTARTED = "answer_restarted"
_REASONS = {
    "deleted": "The response was deleted.",
    "expired": EXPIRED,
    "removed": REMOVED,
    RESTARTED: "The answer began again: read it as a response.",
}

_json = msgspec.json.Encoder()


def why(reason: str) -> str:
    """The sentence for the reason why a stream ends before its answer."""
    return _REASONS.get(reason, "The answer cannot be read any longer.")


class ResponseEncoder:
    """The events of one Response. `after`: the reader's last sequence number (-1: none).

    Nothing up to it is sent. The output comes in portions that are built on request: request all of
    them. `head` may be replaced before the terminal event, by what is known then.
    """

    shows_pictures = True

    def __init__(self, answer: Answer, head: Head, after: int = -1) -> None:
        self.answer, self.head = answer, head
        self._writer = _NumberedWriter(after)
        self._begun = self._over = False
        self._items: dict[int, _Item] = {}
        self._counts: Counter[ItemKind] = Counter()
        self._ids = CallIds()
        self._index = self._current = 0  # of the next item; the part that is emitted now

    @property
    def last(self) -> int:
        """The sequence number after which a reader of all this continues."""
        return max(self._writer.number - 1, self._writer.after)

    def opening(self) -> bytes:
        """The events that every response begins with."""
        blank = Answer(self.head.id)
        self._lifecycle("response.created", blank)
        if self.head.background:
            self._lifecycle("response.queued", blank)
        return self._writer.flush()

    def apply(self, event: AnyEvent, touched: range, added: str) -> Iterable[bytes]:
        """The additional events for a folded event: see `Answer.apply_with_text`."""
        if isinstance(event, Piece) and len(added) < PORTION_CHARS:
            item = self._items.get(event.part)
            if item is not None and item.is_in_step:
                return self._grown(item, added, self.answer.parts[event.part].units)
        return self._apply(event, touched, added)

    def _grown(self, item: "_Item", added: str, units: int) -> tuple[bytes]:
        """Nearly every event: the open item grows."""
        item.sent.grow(added)
        item.units = units
        self._pass_known(item)
        self._pieces(item)
        return (self._writer.flush(),)

    def _apply(self, event: AnyEvent, touched: range, added: str) -> Iterator[bytes]:
        if self._over or getattr(event, "message_id", None) != self.answer.id:
            return
        if isinstance(event, Reset):
            self._restate(touched)
        else:
            self._begin()
        yield from self._advance(event.part if isinstance(event, Piece) else None, added)
        if self.answer.ended:
            self._end()
        yield self._writer.flush()

    def quiet(self) -> bytes:
        """A sign of life."""
        return KEEP_ALIVE

    def failure(self, reason: str) -> bytes:
        """The stream ends here, though the answer may continue. This is no event of the Response,
        so it takes no number.
        """
        fields = {
            "code": reason,
            "message": why(reason),
            "param": None,
            "sequence_number": self.last,
        }
        return _block("error", {"type": "error", **fields})

    # --- parts ---

    def _restate(self, touched: range) -> None:
        """Parts were withdrawn, others may grow again: compare the sent items with the parts."""
        if not touched:
            return
        growing = (self.answer.open_text, self.answer.open_reasoning)
        first = min([touched.start, *(number for number in growing if number is not None)])
        self._current = min(self._current, first)
        for number, item in self._items.items():
            item.stale = item.stale or number >= first

    def _advance(self, grown: int | None, piece: str) -> Iterator[bytes]:
        parts = self.answer.parts
        while self._current < len(parts):
            number = self._current
            try:
                self._feed(number, piece if number == grown else "")
                if item := self._items.get(number):
                    yield from self._portions(item)
                if self._grows(number):
                    return
                self._finish(number)
            except Withdrawn:
                self._drop(number)
                continue
            self._current += 1

    def _feed(self, number: int, piece: str) -> None:
        """Bring the part's item up to date; a text's item begins with its first character."""
        part, item = self.answer.parts[number], self._items.get(number)
        if item is not None and not item.is_of(part):
            raise Withdrawn
        if item is None:
            kind = items.item_kind(self.head, part, ended=self.answer.ended)
            if kind is None:
                return
            self._drop(number)  # after a part without an item
            item = self._items[number] = self._added(kind, number)
        if not item.streams:
            item.stale, item.units = False, part.units
            return
        if item.stale or item.units + utf16_length(piece) != part.units:
            item.sent.replace(part.text)
        else:
            item.sent.grow(piece)
        item.stale, item.units = False, part.units
        if item.sent.waiting and not item.is_open:
            raise Withdrawn  # an ended item does not continue

    def _added(self, kind: ItemKind, number: int) -> "_Item":
        part, call = self.answer.parts[number], self._ids.of(self.answer.parts, number)
        name = items.item_id(self.answer.id, kind, self._counts[kind], part, number)
        item = _Item(kind, name, self._index, part, call)
        self._counts[kind] += 1
        self._index += 1
        begun = items.item_of(kind, name, part, "in_progress", None, call=call)
        self._emit("response.output_item.added", {"output_index": item.index, "item": begun})
        if kind in ("reasoning", "message"):
            self._emit("response.content_part.added", item.place | {"part": item.inner("")})
        elif kind == "mcp_call":
            self._emit("response.mcp_call.in_progress", item.place)
        return item

    def _portions(self, item: "_Item") -> Iterator[bytes]:
        """The full pieces of the item."""
        self._pass_known(item)
        while item.sent.waiting >= PIECE_CHARS:
            self._pieces(item)
            yield self._writer.flush()

    def _pass_known(self, item: "_Item") -> None:
        if known := self._writer.known:
            self._writer.number += len(item.sent.take(PIECE_CHARS, known))

    def _pieces(self, item: "_Item") -> None:
        for piece in item.sent.take(PIECE_CHARS, PORTION_PIECES):
            self._writer.emit_delta(item.delta, piece)

    def _grows(self, number: int) -> bool:
        """Whether the part may still grow, so that what follows it waits."""
        return not self.answer.ended and items.grows(self.head, self.answer, number)

    def _finish(self, number: int) -> None:
        """The part has ended. Raises Withdrawn if more than it was sent, if only an item."""
        if (item := self._items.get(number)) is None:
            return
        if items.item_kind(self.head, self.answer.parts[number], ended=True) is None:
            raise Withdrawn
        item.sent.finish()
        item.part = self.answer.parts[number]
        cited = items.annotations(self.answer, number) if item.kind == "message" else ()
        status = items.item_status(self.head, self.answer, number)
        if item.is_open:
            if rest := item.sent.take_rest():
                self._writer.emit_delta(item.delta, rest)
            self._close(item, status, cited)
        else:  # withdrawn and repeated: the final Response has its present form
            item.final = self._final(item, status, item.part.text, cited)

    def _close(self, item: "_Item", status: ItemStatus, cited: Sequence[Mapping[str, Any]]) -> None:
        """End the item with the sent text."""
        text = item.sent.out
        for index, found in enumerate(cited):
            place = {"annotation_index": index, "annotation": found}
            self._emit("response.output_text.annotation.added", item.place | place)
        if item.kind == "function_call":
            call = {"name": str(item.part.fields.get("name") or ""), "arguments": text}
            self._emit(f"{item.events}.done", item.place | call)
        elif item.kind in ("reasoning", "message"):
            self._emit(f"{item.events}.done", item.place | {"text": text} | item.logprobs)
            self._emit("response.content_part.done", item.place | {"part": item.inner(text, cited)})
        elif item.kind == "mcp_call":
            self._emit(f"{item.events}.done", item.place | {"arguments": text})
            if status in ("completed", "failed"):
                self._emit(f"response.mcp_call.{status}", item.place)
        item.is_open = False
        item.final = self._final(item, status, text, cited)
        self._emit("response.output_item.done", {"output_index": item.index, "item": item.final})

    def _final(
        self,
        item: "_Item",
        status: ItemStatus,
        text: str,
        cited: Sequence[Mapping[str, Any]],
    ) -> Mapping[str, Any]:
        named, pictures = (item.kind, item.id, item.part), self.head.pictures
        return items.item_of(*named, status, text, cited, pictures, call=item.call)

    def _drop(self, first: int) -> None:
        """The items from this part on are withdrawn."""
        for number in sorted(number for number in self._items if number >= first):
            item = self._items.pop(number)
            if item.is_open:
                self._close(item, "incomplete", ())

    # --- the whole ---

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            blank = Answer(self.head.id)
            blank.status = "streaming"
            self._lifecycle("response.in_progress", blank)

    def _end(self) -> None:
        """A reader that claims more than there is still gets the last event."""
        self._over = True
        self._drop(len(self.answer.parts))
        if self._writer.known > 1:
            self._writer.after = self._writer.number - 1
        status = responses.response_status(self.head, self.answer)
        # This dialect has no event for `cancelled`: it is an incomplete Response.
        known = {"completed": "response.completed", "failed": "response.failed"}
        output = [self._items[number].final for number in sorted(self._items)]
        self._lifecycle(known.get(status, "response.incomplete"), self.answer, output)

    def _lifecycle(
        self, kind: str, answer: Answer, output: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        self._emit(kind, {"response": responses.response(self.head, answer, output)})

    def _emit(self, kind: str, fields: Mapping[str, Any]) -> None:
        self._writer.emit(kind, fields)


class _Item:
    """An item and its sent text. `units`: how much of its part it has. `call`: the id of a call.

    `stale`: its part was withdrawn since, in whole or in part.
    """

    def __init__(self, kind: ItemKind, name: str, index: int, part: Part, call: str) -> None:
        self.kind, self.id, self.index, self.part, self.call = kind, name, index, part, call
        self.sent, self.units = Sent(), 0
        self.is_open, self.stale = True, False
        self.final: Mapping[str, Any] = {}

    @property
    def streams(self) -> bool:
        """Whether it has a text in pieces."""
        return self.kind != "mcp_approval_request"

    @property
    def is_in_step(self) -> bool:
        """Whether it continues the sent text. Only the open item may."""
        return self.is_open and not (self.stale or self.sent.behind)

    @cached_property
    def events(self) -> str:
        """The names of its text events."""
        return _EVENTS.get(self.kind, "")

    @cached_property
    def place(self) -> dict[str, Any]:
        """The place of its text in the Response."""
        place = {"item_id": self.id, "output_index": self.index}
        return place if self.kind in ("function_call", "mcp_call") else place | {"content_index": 0}

    @cached_property
    def delta(self) -> "_RepeatedEvent":
        """The event of each piece of its text."""
        return _RepeatedEvent(f"{self.events}.delta", self.place, self.logprobs)

    @property
    def logprobs(self) -> dict[str, Any]:
        """OpenAI requires this field for texts."""
        return {"logprobs": []} if self.kind == "message" else {}

    def inner(self, text: str, cited: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
        """The content part of the item."""
        is_text = self.kind == "message"
        return items.text_part(text, cited) if is_text else items.reasoning_part(text)

    def is_of(self, part: Part) -> bool:
        """Whether the part is the item's, as far as readers can tell."""
        names = ("id", "name", "url")
        same = all(self.part.fields.get(name) == part.fields.get(name) for name in names)
        return self.part.type == part.type and same


_EVENTS: Mapping[ItemKind, str] = {
    "reasoning": "response.reasoning_text",
    "message": "response.output_text",
    "function_call": "response.function_call_arguments",
    "mcp_call": "response.mcp_call_arguments",
}


class _RepeatedEvent:
    """A repeated event with a changing number and piece of text."""

    __slots__ = ("_fields", "_head")

    def __init__(self, kind: str, place: Mapping[str, Any], more: Mapping[str, Any]) -> None:
        self._head = b"event: %b\ndata: " % kind.encode()
        self._fields = {"type": kind, "sequence_number": 0, **place, "delta": "", **more}

    def block(self, number: int, piece: str) -> bytes:
        """The event of this piece."""
        self._fields["sequence_number"], self._fields["delta"] = number, piece
        return self._head + _json.encode(self._fields) + b"\n\n"


class _NumberedWriter:
    """Numbers events, and encodes those that the reader lacks."""

    def __init__(self, after: int) -> None:
        self.after = after
        self.number = 0
        self._out: list[bytes] = []

    @property
    def known(self) -> int:
        """How many of the next events the reader has."""
        return max(0, self.after + 1 - self.number)

    def emit(self, kind: str, fields: Mapping[str, Any]) -> None:
        """The next event."""
        if self.number > self.after:
            self._out.append(_block(kind, {"type": kind, "sequence_number": self.number, **fields}))
        self.number += 1

    def emit_delta(self, delta: _RepeatedEvent, piece: str) -> None:
        """The next event: a piece of a text."""
        if self.number > self.after:
            self._out.append(delta.block(self.number, piece))
        self.number += 1

    def flush(self) -> bytes:
        """The output since the last call."""
        out, self._out = b"".join(self._out), []
        return out


def _block(kind: str, data: Mapping[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), _json.encode(data))


# --- chat completions ---


class ChatEncoder:
    """The chunks of one chat completion, with the interface of `ResponseEncoder`.

    `apply` also raises Withdrawn: sent text cannot be withdrawn.
    """

    shows_pictures = False

    def __init__(self, answer: Answer, head: Head, *, include_usage: bool = False) -> None:
        self.answer, self.head = answer, head
        self._include_usage = include_usage
        self._text, self._reasoning = Sent(), Sent()

    def opening(self) -> bytes:
        """The chunk with the role."""
        return self._chunk({"role": "assistant", "content": "", "refusal": None})

    def apply(self, event: AnyEvent, touched: range, added: str) -> Iterable[bytes]:
        """The additional chunks for a folded event (`Answer.apply_with_text`). Raises Withdrawn."""
        if isinstance(event, Chunk):
            self._text.grow(added)
        elif isinstance(event, Reasoning):
            self._reasoning.grow(added)
        elif isinstance(event, Reset) and touched:
            self._text.replace(self.answer.content)
            self._reasoning.replace(self.answer.reasoning)
        elif isinstance(event, Terminal):
            return self._end()
        return (self._rest(),)

    def quiet(self) -> bytes:
        """A sign of life."""
        return KEEP_ALIVE

    def failure(self, reason: str) -> bytes:
        """The stream ends here."""
        return _data(objects.error_body(reason, why(reason)))

    def _end(self) -> Iterator[bytes]:
        answer = self.answer
        self._reasoning.finish()
        self._text.finish()
        yield self._rest()
        if answer.status != "complete":
            yield _data(objects.error_body(*objects.failure(answer)))
            return
        if calls := completions.chat_calls(self.head, answer):
            yield self._chunk(
                {"tool_calls": [{"index": index, **call} for index, call in enumerate(calls)]}
            )
        if cited := completions.chat_annotations(answer):
            yield self._chunk({"annotations": cited})
        yield self._chunk({}, completions.chat_reason(answer))
        if self._include_usage:
            usage = completions.chat_usage(answer.usage)
            yield _data(completions.completion_chunk(self.head, []) | {"usage": usage})
        yield b"data: [DONE]\n\n"

    def _rest(self) -> bytes:
        reasoning, text = self._reasoning.take_rest(), self._text.take_rest()
        blocks = [self._chunk({"reasoning_content": reasoning})] if reasoning else []
        return b"".join([*blocks, self._chunk({"content": text})] if text else blocks)

    def _chunk(self, delta: Mapping[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return _data(self._blank | {"choices": [choice]})

    @cached_property
    def _blank(self) -> dict[str, Any]:
        """The common fields of all chunks."""
        usage = {"usage": None} if self._include_usage else {}
        return completions.completion_chunk(self.head, []) | usage


def _data(body: Mapping[str, Any]) -> bytes:
    return b"data: %b\n\n" % _json.encode(body)
