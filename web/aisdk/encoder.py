"""Pure: the events of one answer as UI message chunks: a small state machine per viewer.

    answer = Answer(row, profile)            full replay
    answer.begin(opened) -> chunks           start, the parts that the row holds, and the end if it has ended
    answer.take(seq, event) -> chunks        ... until answer.ended

A tail for a viewer who holds everything up to a position: where the row does not reach beyond it, the same with the chunks up to the
position thrown away; else `Answer.after(row, held)`.

`seq` of the row says up to which event it holds the answer; those are skipped. `take` raises Hole when the events do not fit what was
shown (offsets, length, checksum): `restate(row)` with a fresh row then mends the display. After a new epoch likewise.

Which part is open is a function of the log alone (`held_as_of`), and what is made from a row ends in the same state (`opened`), so that
a position is all that a tail needs to know of its viewer.

One step carries the whole answer. An attempt that goes on from the text of the one before only changes the metadata; a `reset` is
`reset-step` where the profile knows it, else a `data-reset` part, and what is kept is written again.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tokenwire.protocol import events
from tokenwire.protocol.states import UNFINISHED, Ended
from tokenwire.protocol.text import checksum, cut, utf16_length
from tokenwire.web.aisdk.messages import NO_OBJECT, Row, error_text, metadata, usage
from tokenwire.web.aisdk.values import Chunk, Profile
from tokenwire.web.aisdk.writer import Part, Writer

_FINISH: Mapping[str, str] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool-calls",
    "content_filter": "content-filter",
    "refusal": "content-filter",
    "paused": "other",
    "unknown": "unknown",
}


class Hole(ValueError):
    """The events do not go on from what was shown."""


@dataclass(frozen=True, slots=True)
class Held:
    """What the viewer of a tail holds: which part is open, and where its text and reasoning end (None: not known)."""

    open: Part | None = None
    text_end: int | None = None
    reasoning_end: int | None = None
    ended: bool = False


def held_as_of(
    message_id: str, entries: Iterable[tuple[int, events.AnyEvent | None]]
) -> Held | None:
    """The state after these events, of which the last one is the position; None if they do not reach back far enough to tell."""
    opened: Part | None = None
    text_end = reasoning_end = None
    ended = known = False
    for _, event in entries:
        if event is None or getattr(event, "message_id", None) != message_id:
            continue
        match event:
            case events.Chunk(offset=offset, content=content):
                opened, text_end = "text", offset + utf16_length(content)
            case events.Reasoning(offset=offset, content=content):
                opened, reasoning_end = "reasoning", offset + utf16_length(content)
            case events.Reset(keep=keep, keep_reasoning=keep_reasoning):
                opened, text_end, reasoning_end = (
                    "text" if keep else "reasoning" if keep_reasoning else None,
                    keep,
                    keep_reasoning,
                )
            case events.ToolCall() | events.Start(attempt=1):
                opened = None
            case (
                events.Start()
                | events.ToolResult()
                | events.Source()
                | events.File()
                | events.Retry()
            ):
                continue
            case _:
                opened, ended = None, ended or events.is_terminal(event)
        known = True
    return Held(opened, text_end, reasoning_end, ended) if known else None


class _Shown:
    """Text or reasoning as the viewer holds it. `end` None: a tail that has not met its first piece yet; `base` then is a guess."""

    def __init__(self, base: str, end: int | None) -> None:
        self._parts = [base if end is None else _first(base, end)]
        self.end = end
        self.exact = end is not None and utf16_length(self._parts[0]) == end

    def put(self, offset: int, content: str) -> str:
        """What of the piece is new. Raises Hole."""
        if self.end is None:
            self._parts, self.end = [_first(self.whole, offset)], offset
            self.exact = utf16_length(self.whole) == offset
        if offset > self.end:
            raise Hole(f"text ends at {self.end}, the next piece is at {offset}")
        new = content if offset == self.end else _beyond(content, self.end - offset)
        if new:
            self._parts.append(new)
            self.end += utf16_length(new)
        return new

    @property
    def whole(self) -> str:
        if len(self._parts) > 1:
            self._parts = ["".join(self._parts)]
        return self._parts[0]

    def extend(self, whole: str) -> str:
        """What `whole`, which begins with what is shown, has beyond it."""
        return self.put(self.end or 0, whole[len(self.whole) :])

    def keep(self, end: int) -> None:
        """Cut. Raises Hole where there is less."""
        kept = _first(self.whole, end)
        if utf16_length(kept) < end:
            raise Hole(f"{end} units are to be kept of a shorter text")
        self._parts, self.end, self.exact = [kept], end, True


def _first(text: str, units: int) -> str:
    """At most so many units; one less where that would split a character (the text is then not the one that was meant)."""
    if units >= utf16_length(text):
        return text
    try:
        return cut(text, units)
    except ValueError:
        return cut(text, units - 1)


def _beyond(content: str, units: int) -> str:
    return "" if units >= utf16_length(content) else content[len(_first(content, units)) :]


class AISDKEncoder:
    """One answer for one viewer."""

    def __init__(self, row: Row, profile: Profile = "v5") -> None:
        self._row = row
        self._write = Writer(profile)
        self._text, self._reasoning = _Shown("", 0), _Shown("", 0)
        self._calls: dict[str, dict[str, Any]] = {}
        self._unsure: set[str] = set()
        self._model, self._attempt = row["model"], row["attempt"]
        self._seq = 0

    @classmethod
    def after(cls, row: Row, held: Held, profile: Profile = "v5") -> "AISDKEncoder":
        """For a viewer who holds everything up to a position before the row's; only later events are to be given to `take`."""
        answer = cls(row, profile)
        opened: dict[str, Part] = {} if held.open is None else {held.open: held.open}
        answer._write = Writer(profile, started=True, in_step=True, open_parts=opened, tools=None)
        answer._write.ended = held.ended
        # Which calls of the row the viewer has seen is not known: telling of one again changes nothing.
        answer._calls = {call["tool_call_id"]: dict(call) for call in row["tool_calls"]}
        answer._unsure = set(answer._calls)
        answer._text, answer._reasoning = (
            _Shown(row["content"], held.text_end),
            _Shown(row["reasoning"], held.reasoning_end),
        )
        return answer

    @property
    def ended(self) -> bool:
        """Nothing follows."""
        return self._write.ended

    def begin(self, opened: Part | None = "text") -> list[Chunk]:
        """`start`, the parts that the row holds, and how it ended if it has. `opened`: the part that the log has open at the row's seq."""
        told = {
            name: value
            for name, value in metadata(self._row).items()
            if name not in ("usage", "error")
        }
        return (
            self._write.start(self._row["id"], told)
            + self._write.start_step()
            + self._fill(self._row, opened)
        )

    def restate(self, row: Row, opened: Part | None = "text") -> list[Chunk]:
        """What changes for the viewer now that `row` counts. A row that is only behind what is shown changes nothing."""
        pairs = ((row["content"], self._text), (row["reasoning"], self._reasoning))
        if all(shown.exact and new.startswith(shown.whole) for new, shown in pairs):
            return self._fill(row, opened)
        if row["status"] in UNFINISHED and all(
            shown.exact and shown.whole.startswith(new) for new, shown in pairs
        ):
            self._seq = row["seq"]
            return []
        return self._withdraw(0, 0, row["tool_calls"]) + self._fill(row, opened)

    def take(self, seq: int, event: events.AnyEvent | None) -> list[Chunk]:
        """The chunks of an event; none for what concerns another message or is known. Raises Hole."""
        if (
            self.ended
            or seq <= self._seq
            or event is None
            or getattr(event, "message_id", None) != self._row["id"]
        ):
            return []
        chunks = self._chunks(event)
        self._seq = seq
        return chunks

    def fail(self, text: str) -> list[Chunk]:
        """The viewer can be told no more; nothing if the answer has ended."""
        return [] if self.ended else self._write.error(text)

    # --- rows ---

    def _fill(self, row: Row, opened: Part | None) -> list[Chunk]:
        """What the row holds beyond what is shown, and its end."""
        self._row, self._seq = row, row["seq"]
        if opened == "reasoning":
            chunks = self._more_calls(row) + self._more_text(row) + self._more_reasoning(row)
        else:
            chunks = self._more_reasoning(row) + self._more_calls(row) + self._more_text(row)
        if row["status"] not in UNFINISHED:
            return chunks + self._end_of(row)
        return chunks + (self._write.close() if opened is None else [])

    def _more_text(self, row: Row) -> list[Chunk]:
        return self._write.text(self._text.extend(row["content"]))

    def _more_reasoning(self, row: Row) -> list[Chunk]:
        return self._write.reasoning(self._reasoning.extend(row["reasoning"]))

    def _more_calls(self, row: Row) -> list[Chunk]:
        return [chunk for call in row["tool_calls"] for chunk in self._call(call)]

    def _call(self, call: Mapping[str, Any]) -> list[Chunk]:
        """A stored call, as far as it is not shown yet."""
        shown = (
            {}
            if call["tool_call_id"] in self._unsure
            else self._calls.get(call["tool_call_id"], {})
        )
        self._unsure.discard(call["tool_call_id"])
        chunks = (
            [] if shown else self._input(call["tool_call_id"], call["name"], call.get("arguments"))
        )
        self._calls[call["tool_call_id"]] = dict(call)
        if "result" in call and "result" not in shown:
            return chunks + self._output(
                call["tool_call_id"], call.get("status", "ok"), call["result"]
            )
        if call.get("status") == "denied" and shown.get("status") != "denied":
            return chunks + self._write.tool_output_denied(call["tool_call_id"])
        if call.get("status") == "waiting" and shown.get("status") != "waiting":
            return chunks + self._write.tool_approval_request(
                call["tool_call_id"], call["tool_call_id"]
            )
        return chunks

    def _end_of(self, row: Row) -> list[Chunk]:
        told = metadata(row)
        if row["status"] == "complete":
            return self._write.finish(_FINISH.get(row["finish_reason"] or "", "unknown"), told)
        if row["status"] == "cancelled":
            return self._write.message_metadata(told) + self._write.abort("cancelled")
        return self._write.message_metadata(told) + self._failed((row["error"] or {}).get("error"))

    # --- events ---

    def _chunks(self, event: events.AnyEvent) -> list[Chunk]:
        match event:
            case events.Chunk(offset=offset, content=content):
                return self._write.text(self._text.put(offset, content))
            case events.Reasoning(offset=offset, content=content):
                return self._write.reasoning(self._reasoning.put(offset, content))
            case events.Start(attempt=attempt, model=model):
                return self._started(attempt, model)
            case events.Reset(keep=keep, keep_reasoning=keep_reasoning):
                return self._reset(keep, keep_reasoning)
            case events.Complete() | events.Error() | events.Cancelled():
                return self._terminal(event)
            case _:
                return self._rare(event)

    def _rare(self, event: events.AnyEvent) -> list[Chunk]:
        match event:
            case events.ToolCall():
                call = {
                    "tool_call_id": event.tool_call_id,
                    "name": event.name,
                    "arguments": event.arguments,
                    "status": event.status,
                }
                known = (
                    {}
                    if event.tool_call_id in self._unsure
                    else self._calls.get(event.tool_call_id, {})
                )
                return self._call(known | call)
            case events.ToolResult():
                return self._result(event)
            case events.Source(url=url, title=title):
                return self._write.source_url(f"source-{checksum(url):08x}", url, title)
            case events.File(url=url, media_type=media_type):
                return self._write.file(url, media_type or "application/octet-stream")
            case events.Retry():
                told = {
                    "code": event.code,
                    "delayMs": event.delay_ms,
                    "try": event.try_,
                    "maxTries": event.max_tries,
                }
                return self._write.data("retry", told, transient=True)
            case _:
                return []

    def _started(self, attempt: int, model: str) -> list[Chunk]:
        if (attempt, model) == (self._attempt, self._model):
            return []
        self._attempt, self._model = attempt, model
        return self._write.message_metadata(
            {"attempt": attempt, "model": model, "status": "streaming"}
        )

    def _result(self, event: events.ToolResult) -> list[Chunk]:
        shown = self._calls.get(
            event.tool_call_id, {"tool_call_id": event.tool_call_id, "name": event.name}
        )
        if "result" in shown and event.tool_call_id not in self._unsure:
            return []
        self._unsure.discard(event.tool_call_id)
        self._calls[event.tool_call_id] = shown | {"status": event.status, "result": event.result}
        return self._output(event.tool_call_id, event.status, event.result)

    def _input(self, call_id: str, name: str, arguments: Any) -> list[Chunk]:
        if isinstance(arguments, str):  # no object: a client must not execute it
            return self._write.close() + self._write.tool_input_error(
                call_id, name, arguments, NO_OBJECT
            )
        return self._write.close() + self._write.tool_input_available(call_id, name, arguments)

    def _output(self, call_id: str, status: str, result: Any) -> list[Chunk]:
        if status == "denied":
            return self._write.tool_output_denied(call_id)
        if status == "error":
            return self._write.tool_output_error(call_id, error_text(result))
        return self._write.tool_output_available(call_id, result)

    def _reset(self, keep: int, keep_reasoning: int) -> list[Chunk]:
        if (
            (self._text.end, self._reasoning.end, self._calls)
            == (keep, keep_reasoning, {})
            == (0, 0, {})
        ):
            return []
        return self._withdraw(keep, keep_reasoning, self._calls.values())

    def _withdraw(
        self, keep: int, keep_reasoning: int, calls: Iterable[Mapping[str, Any]]
    ) -> list[Chunk]:
        """Cut what is shown, and write again what stays: the calls that have a result, reasoning, text."""
        self._text.keep(keep)
        self._reasoning.keep(keep_reasoning)
        kept = [dict(call) for call in calls if "result" in call]
        chunks = self._given_up({call["tool_call_id"] for call in kept})
        chunks += self._write.reset_step({"keep": keep, "keepReasoning": keep_reasoning})
        for call in kept:
            chunks += self._call(call)
        return (
            chunks
            + self._write.reasoning(self._reasoning.whole)
            + self._write.text(self._text.whole)
        )

    def _given_up(self, kept: set[str]) -> list[Chunk]:
        """Parts of tools cannot be taken back before v7: those of calls that are withdrawn end as failed, the others stay."""
        if self._write.profile == "v7":
            self._calls = {}
            return []
        chunks: list[Chunk] = []
        for call_id in [
            call_id
            for call_id, call in self._calls.items()
            if call_id not in kept and "result" not in call
        ]:
            del self._calls[call_id]
            if (
                call_id not in self._unsure
            ):  # of a call that the viewer has not seen nothing can be said
                chunks += self._write.tool_output_error(call_id, "The call was withdrawn.")
        return chunks

    def _terminal(self, event: events.Terminal) -> list[Chunk]:
        if self._text.exact and (self._text.end, checksum(self._text.whole)) != (
            event.length,
            event.crc32,
        ):
            raise Hole("the text is not the one that is stored")
        told: dict[str, Any] = {"attempt": event.attempt, "status": _STATUS[type(event)]}
        if event.usage is not None:
            told["usage"] = usage(_fields(event.usage))
        if isinstance(event, events.Complete):
            return self._write.finish(_FINISH[event.finish_reason], told)
        if isinstance(event, events.Cancelled):
            return self._write.message_metadata(told) + self._write.abort("cancelled")
        told["error"] = {"code": event.code, "retryable": event.retryable}
        return self._write.message_metadata(told) + self._failed(event.error)

    def _failed(self, text: str | None) -> list[Chunk]:
        return self._write.error(text or "The answer failed.")


_STATUS: Mapping[type, Ended] = {
    events.Complete: "complete",
    events.Error: "error",
    events.Cancelled: "cancelled",
}


def _fields(found: events.Usage) -> dict[str, Any]:
    return {name: getattr(found, name) for name in found.__struct_fields__}
