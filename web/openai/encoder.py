"""Pure: an answer as the event streams of OpenAI's API: events of Responses, which can be resumed, and chunks of chat completions.

The mapping of Responses, on which resuming stands:

1. `sequence_number` counts 0, 1, 2 ... without holes. It is computed from the text, not from the events of the log: the text is cut into
   pieces of PIECE_CHARS code points, each piece is one delta, and what surrounds them (created, items, parts, done) stands at places that
   the text determines. So it does not matter how the log cut the answer, whether chunks were merged, whether the log was trimmed or lost:
   the same answer gives the same events under the same numbers, from the log as from the stored row.
2. A piece leaves when it is full; the rest of the text leaves with its end.
3. The order is reasoning, message, calls. Reasoning is streamed until the text begins; what comes later is in the final Response only.
4. Text that is withdrawn (an attempt began again and says something else) cannot be taken back in this dialect: its item ends as
   `incomplete`, and the new text is a new item. Where the new attempt says the same again, nothing is seen of it.

A chat completion has no numbers and no items: its chunks are cut as the log is, and where text is withdrawn it ends with an error.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from tokenwire.protocol.events import AnyEvent, Chunk, MessageEvent, Reasoning, Reset, Title
from tokenwire.protocol.growing import Growing, Withdrawn
from tokenwire.web.openai import objects
from tokenwire.web.openai.objects import Answer, ItemStatus

PIECE_CHARS = 4
"""Code points in a delta, about a token. With another number old responses would have other sequence numbers."""
KEEP_ALIVE = b": keep-alive\n\n"

PORTION_PIECES = 256
"""Deltas that are encoded at a time (some 60 kB): a long answer is not made into bytes at once."""

_json = msgspec.json.Encoder()


class ResponseEncoder:
    """The events of one Response. `after`: the last sequence number that the reader has (-1: none); nothing up to it is given.

    Call `opening`, `hold` when beginning from a row, `apply` with each event of the log after that, and `ending` once. Each gives what is
    to be sent, in portions that are made as they are asked for: ask for all of them. `growing.Hole` is raised when an event does not fit.
    """

    def __init__(self, answer: Answer, after: int = -1) -> None:
        self._answer = answer
        self._writer = _Writer(after)
        self._begun = self._text_begun = False
        self._reasoning = _Items("reasoning", f"rs_{answer.id}", self._writer)
        self._message = _Items("message", f"msg_{answer.id}", self._writer)

    @property
    def last(self) -> int:
        """What a reader who has read all of this goes on after."""
        return max(self._writer.number - 1, self._writer.after)

    def opening(self) -> bytes:
        """What every Response begins with."""
        self._lifecycle("response.created", self._blank("queued"))
        if self._answer.background:
            self._lifecycle("response.queued", self._blank("queued"))
        return self._writer.flush()

    def hold(self, reasoning: str, text: str) -> Iterator[bytes]:
        """Be as far as a row is, to begin with or because the log cannot be followed further. It may be less than what was seen."""
        if reasoning or text:
            self._begin()
        if not self._text_begun:
            yield from self._reasoning.become(reasoning)
        if text:
            self._begin_text()
        yield from self._message.become(text)
        yield self._writer.flush()

    def apply(self, event: AnyEvent) -> Iterator[bytes]:
        """What an event of this answer adds. A terminal event is the caller's: it has an `ending`."""
        if not isinstance(event, MessageEvent | Title):
            self._begin()
        if isinstance(event, Chunk):
            self._begin_text()
            yield from self._message.put(event.offset, event.content)
        elif isinstance(event, Reasoning) and not self._text_begun:
            yield from self._reasoning.put(event.offset, event.content)
        elif isinstance(event, Reset):
            self._message.keep(event.keep)
            if not self._text_begun:
                self._reasoning.keep(event.keep_reasoning)
        yield self._writer.flush()

    def ending(self, answer: Answer) -> Iterator[bytes]:
        """The end, from what is stored of the answer. A reader who claims more than there is gets the last event all the same."""
        self._begin()
        status = objects.item_status(answer)
        if not self._text_begun:
            yield from self._reasoning.finish(answer.reasoning)
        if answer.text:
            self._begin_text()
        yield from self._message.finish(answer.text)
        self._reasoning.close(status)
        self._message.index = max(self._message.index, self._reasoning.index)
        self._message.close(status)
        calls = objects.call_items(answer, status)
        for index, call in enumerate(calls, self._message.index):
            self._call(index, call)
        if self._writer.known > 1:
            self._writer.after = self._writer.number - 1
        self._lifecycle(_terminal(answer), answer, [*self._final_items(answer, status), *calls])
        yield self._writer.flush()

    def failure(self, code: str, message: str) -> bytes:
        """The stream ends here, though the answer may go on. This is no event of the Response, so it takes no number of its own."""
        return _block(
            "error",
            {
                "type": "error",
                "code": code,
                "message": message,
                "param": None,
                "sequence_number": self.last,
            },
        )

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self._lifecycle("response.in_progress", self._blank("streaming"))

    def _begin_text(self) -> None:
        if not self._text_begun:
            self._text_begun = True
            self._reasoning.close("completed")
            self._message.index = self._reasoning.index

    def _final_items(self, answer: Answer, status: ItemStatus) -> list[dict[str, Any]]:
        reasoning = (
            [objects.reasoning_item(self._reasoning.item_id, answer.reasoning, status)]
            if answer.reasoning
            else []
        )
        return [
            *reasoning,
            *(
                [objects.message_item(self._message.item_id, answer.text, status)]
                if answer.text
                else []
            ),
        ]

    def _call(self, index: int, item: dict[str, Any]) -> None:
        place, emit = {"item_id": item["id"], "output_index": index}, self._writer.emit
        emit(
            "response.output_item.added",
            {"output_index": index, "item": item | {"arguments": "", "status": "in_progress"}},
        )
        emit("response.function_call_arguments.delta", place | {"delta": item["arguments"]})
        emit(
            "response.function_call_arguments.done",
            place | {"name": item["name"], "arguments": item["arguments"]},
        )
        emit("response.output_item.done", {"output_index": index, "item": item})

    def _blank(self, status: str) -> Answer:
        answer = self._answer
        return Answer(answer.id, answer.model, answer.created_at, status, asked=answer.asked)

    def _lifecycle(
        self, kind: str, answer: Answer, output: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        self._writer.emit(kind, {"response": objects.response(answer, output)})


class _Writer:
    """Numbers events, and encodes those that the reader has not."""

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

    def flush(self) -> bytes:
        """What was encoded since the last time."""
        out, self._out = b"".join(self._out), []
        return out


class _Items:
    """The items of one kind: one, and another one for each time that what is out was withdrawn. `index`: of the open or the next one."""

    def __init__(self, kind: Literal["reasoning", "message"], stem: str, writer: _Writer) -> None:
        self.index = 0
        self._stem, self._writer, self._emit = stem, writer, writer.emit
        self._is_text = kind == "message"
        self._events = "response.output_text" if self._is_text else "response.reasoning_text"
        self._part = objects.text_part if self._is_text else objects.reasoning_part
        self._item = objects.message_item if self._is_text else objects.reasoning_item
        self._text = Growing()
        self._count = 0
        self._open = False

    @property
    def item_id(self) -> str:
        """Of the newest item."""
        return self._stem if self._count < 2 else f"{self._stem}_{self._count}"

    def put(self, offset: int, content: str) -> Iterator[bytes]:
        """See `Growing.put`."""
        return self._changed(lambda: self._text.put(offset, content))

    def become(self, text: str) -> Iterator[bytes]:
        """See `Growing.become`."""
        return self._changed(lambda: self._text.become(text))

    def finish(self, text: str) -> Iterator[bytes]:
        """See `Growing.finish`."""
        return self._changed(lambda: self._text.finish(text))

    def keep(self, units: int) -> None:
        """See `Growing.keep`."""
        self._text.keep(units)

    def close(self, status: ItemStatus) -> None:
        """End the open item, if there is one."""
        if not self._open:
            return
        if rest := self._text.take_rest():
            self._delta(rest)
        text, place = self._text.out, self._place()
        self._emit(
            f"{self._events}.done",
            place | {"text": text} | ({"logprobs": []} if self._is_text else {}),
        )
        self._emit("response.content_part.done", place | {"part": self._part(text)})
        self._emit(
            "response.output_item.done",
            {"output_index": self.index, "item": self._item(self.item_id, text, status)},
        )
        self._open = False
        self.index += 1

    def _changed(self, change: Callable[[], None]) -> Iterator[bytes]:
        try:
            change()
        except Withdrawn:
            self.close("incomplete")
            self._text = Growing(self._text.whole)
        if self._text and not self._open:
            self._begin()
        self._writer.number += len(self._text.take(PIECE_CHARS, self._writer.known))
        while self._text.waiting(PIECE_CHARS):
            for piece in self._text.take(PIECE_CHARS, PORTION_PIECES):
                self._delta(piece)
            yield self._writer.flush()

    def _begin(self) -> None:
        self._open = True
        self._count += 1
        self._emit(
            "response.output_item.added",
            {"output_index": self.index, "item": self._item(self.item_id, None, "in_progress")},
        )
        self._emit("response.content_part.added", self._place() | {"part": self._part("")})

    def _delta(self, piece: str) -> None:
        self._emit(
            f"{self._events}.delta",
            self._place() | {"delta": piece} | ({"logprobs": []} if self._is_text else {}),
        )

    def _place(self) -> dict[str, Any]:
        return {"item_id": self.item_id, "output_index": self.index, "content_index": 0}


def _terminal(answer: Answer) -> str:
    # There is no event for `cancelled` in this dialect: it is an incomplete Response of that status.
    return {"completed": "response.completed", "failed": "response.failed"}.get(
        objects.response_status(answer), "response.incomplete"
    )


def _block(kind: str, data: Mapping[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), _json.encode(data))


# --- chat completions -------------------------------------------------------------------------------------------------


class ChatEncoder:
    """The chunks of one chat completion; to be called like `ResponseEncoder`. Raises Hole, Withdrawn."""

    def __init__(self, answer: Answer, *, include_usage: bool = False) -> None:
        self._answer = answer
        self._include_usage = include_usage
        self._text, self._reasoning = Growing(), Growing()

    def opening(self) -> bytes:
        """The chunk that says who speaks."""
        return self._chunk({"role": "assistant", "content": "", "refusal": None})

    def hold(self, reasoning: str, text: str) -> Iterator[bytes]:
        """Be as far as a row is."""
        self._reasoning.become(reasoning)
        self._text.become(text)
        yield self._rest()

    def apply(self, event: AnyEvent) -> Iterator[bytes]:
        """What an event of this answer adds."""
        if isinstance(event, Chunk):
            self._text.put(event.offset, event.content)
        elif isinstance(event, Reasoning):
            self._reasoning.put(event.offset, event.content)
        elif isinstance(event, Reset):
            self._text.keep(event.keep)
            self._reasoning.keep(event.keep_reasoning)
        yield self._rest()

    def ending(self, answer: Answer) -> Iterator[bytes]:
        """The end, from what is stored of the answer."""
        self._reasoning.finish(answer.reasoning)
        self._text.finish(answer.text)
        yield self._rest()
        if answer.status != "complete":
            yield self.failure(*objects.failure(answer))
            return
        if answer.tool_calls:
            calls = [
                {"index": index, **call} for index, call in enumerate(objects.chat_calls(answer))
            ]
            yield self._chunk({"tool_calls": calls})
        yield self._chunk({}, objects.chat_reason(answer))
        if self._include_usage:
            yield _data(
                objects.completion_chunk(answer, []) | {"usage": objects.chat_usage(answer.usage)}
            )
        yield b"data: [DONE]\n\n"

    def failure(self, code: str, message: str) -> bytes:
        """The stream ends here."""
        return _data(objects.error_body(code, message))

    def _rest(self) -> bytes:
        reasoning, text = self._reasoning.take_rest(), self._text.take_rest()
        blocks = [self._chunk({"reasoning_content": reasoning})] if reasoning else []
        return b"".join([*blocks, self._chunk({"content": text})] if text else blocks)

    def _chunk(self, delta: Mapping[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return _data(
            objects.completion_chunk(self._answer, [choice])
            | ({"usage": None} if self._include_usage else {})
        )


def _data(body: Mapping[str, Any]) -> bytes:
    return b"data: %b\n\n" % _json.encode(body)
