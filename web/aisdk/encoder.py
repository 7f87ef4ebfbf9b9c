"""Pure: the events of one answer as UI message chunks, for one reader.

    encoder = AISDKEncoder(answer, row, profile)
    encoder.opening() -> chunks
    encoder.apply(event, *answer.apply_with_text(event)) -> chunks           ... until encoder.ended
    encoder.paused() -> chunks                             where the answer waits: the stream ends

Guarantees: events that give the same answer without a `reset` give the same parts in the same
order, and the same sequence within each part, whether a log or a row (`protocol.replay`) told them.
So a reader of a tail needs nothing but its cursor: the events before it are applied, and what they
give is thrown away.

Why it works this way: ids are numbers of parts, and a part is open exactly while the fold lets it
grow, so each chunk is a function of the answer and the event.

Clients execute a call as soon as its whole input comes, unless it is marked `providerExecuted`. So
the whole input comes when the turn is proven, which also says who executes the call. Whatever the
server executes or has the outcome of is marked: no client executes it, or sends its outcome again.
An approved call shows its input once more: otherwise a client that counts answered questions
(`sendAutomaticallyWhen`) would send its answer again whenever a stream ends.

Rejected: `dynamic` for tools of the server. A part's type is fixed by its first chunk, when nobody
knows yet who executes the call.

A `reset` within the step is `reset-step` where the profile knows it, else a `data-reset` part; what
is kept is written again. Calls cannot be taken back before v7: those that are withdrawn fail.
"""

from collections.abc import Iterable, Mapping
from typing import Any, get_args

from tokenwire.protocol import events
from tokenwire.protocol.fold import Answer, Part
from tokenwire.protocol.states import CALL_ENDED, CallState, EndedStatus
from tokenwire.protocol.text import input_object
from tokenwire.web.aisdk.messages import (
    NO_OBJECT,
    WITHDRAWN,
    RowView,
    metadata,
    usage,
    was_approved,
    why_none,
)
from tokenwire.web.aisdk.parts import have, is_shown, plain
from tokenwire.web.aisdk.values import Profile, UIChunk
from tokenwire.web.aisdk.writer import Writer
from tokenwire.web.calls import CallIds
from tokenwire.web.reasons import EXPIRED, REMOVED

_FINISH: Mapping[str, str] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool-calls",
    "content_filter": "content-filter",
    "refusal": "content-filter",
}
"""All others are `other`."""
_STATUS: Mapping[type, EndedStatus] = {
    events.Complete: "complete",
    events.Error: "error",
    events.Cancelled: "cancelled",
}
_KEPT_BACK = ("usage", "error")
"""Metadata that comes with the end alone."""
_WHY = {
    "deleted": "The conversation was deleted.",
    "removed": REMOVED,
}


class AISDKEncoder:
    """One answer for one reader. `row`: its wire form, for the metadata of the message.

    `answer`: what the reader holds. Whoever feeds the encoder folds: `apply` follows each event.
    """

    def __init__(self, answer: Answer, row: RowView, profile: Profile = "v5") -> None:
        self.answer, self._row = answer, row
        self._write = Writer(profile)
        self._open: dict[int, str] = {}  # number and type of each part that may grow
        self._calls: dict[int, _ShownCall] = {}
        self._ids = CallIds()
        self._known = 0  # parts that were seen
        self._step = 0  # the first part of the open step
        self._earlier: set[int] = set()  # calls that are shown in steps before the open one
        self._model, self._attempt = row["model"], row["attempt"]

    @property
    def ended(self) -> bool:
        """Whether the stream has ended."""
        return self._write.ended

    def opening(self) -> list[UIChunk]:
        """The beginning of every message."""
        return self._write.start(self._row["id"], self._metadata()) + self._write.start_step()

    def apply(self, event: events.AnyEvent, touched: range, added: str) -> list[UIChunk]:
        """The chunks of an event of the answer, which was folded: see `Answer.apply_with_text`."""
        if isinstance(event, events.Piece):
            return self._grown(event.part, added) if added else []
        if self.ended or getattr(event, "message_id", None) != self.answer.id:
            return []
        match event:
            case events.PartEvent():
                return self._set(event.part)
            case events.Reset():
                return self._withdraw(touched.start) if touched else []
            case events.Start():
                return self._started(event)
            case events.Retry():
                return self._retry(event)
            case events.Complete() | events.Error() | events.Cancelled():
                return self._closed() + self._end(event)
            case _:
                return []

    def quiet(self) -> list[UIChunk]:
        """Emit nothing: the transport sends heartbeats of its own."""
        return []

    def failure(self, reason: str) -> list[UIChunk]:
        """The reader gets no more events; no chunk if the answer has ended."""
        return [] if self.ended else self._write.error(_WHY.get(reason, EXPIRED))

    def paused(self) -> list[UIChunk]:
        """The end of a stream whose answer waits: its client answers, and continues the message.

        v5 has no questions of its own: they are data parts here, where no row can lack them.
        """
        if self.ended:
            return []
        asked = [(n, call) for n, call in self._calls.items() if call.state == "awaiting_approval"]
        chunks = []
        for number, call in asked if self._write.profile == "v5" else ():
            place = {"messageId": self.answer.id, "part": number}
            about = {"approvalId": call.id, "toolCallId": call.id, "toolName": call.name, **place}
            chunks += self._write.data("approval", about, part_id=call.id)
        fields = {"attempt": self._attempt, "status": "waiting"}
        return chunks + self._write.finish("tool-calls", fields)

    def continued(self, *, is_torn: bool = False) -> list[UIChunk]:
        """The beginning for a client that continues the message: it holds the events so far.

        `is_torn`: it also holds a piece of what follows, which is withdrawn.
        """
        known = [call.id for call in self._calls.values()]
        self._write = Writer(self._write.profile, tools=known)
        self._open.clear()
        chunks = self._write.start(self._row["id"], self._metadata())
        if not is_torn:
            return chunks
        if self._write.profile == "v7":
            return chunks + self._write.reset_step()
        return chunks + self._withdraw(len(self.answer.parts))

    # --- parts ---

    def _grown(self, number: int, piece: str) -> list[UIChunk]:
        kind = self._open.get(number)
        if kind is not None:  # nearly every event: a growing part opens and closes nothing
            return [{"type": f"{kind}-delta", "id": str(number), "delta": piece}]
        part = self.answer.parts[number]
        if part.type == "tool_call":
            call = self._calls.get(number)
            return self._write.tool_input_delta(call.id, piece) if call and call.open else []
        self._known = len(self.answer.parts)
        return self._close_others() + self._streamed(number, part.type, piece)

    def _set(self, number: int) -> list[UIChunk]:
        is_new, part = number >= self._known, self.answer.parts[number]
        self._known = len(self.answer.parts)
        closed = self._close_others()
        # Other parts cannot be changed in a client.
        return closed + (self._whole(number) if is_new or part.type in _CHANGED else [])

    def _whole(self, number: int) -> list[UIChunk]:
        """A part in its present state."""
        part = self.answer.parts[number]
        match part.type:
            case "text" | "reasoning":
                return self._streamed(number, part.type, part.text) if is_shown(part) else []
            case "tool_call":
                return self._call(number, part)
            case "step":
                self._step = number + 1
                return self._start_step()
            case _:
                return plain(self._write, number, part)

    def _streamed(self, number: int, kind: str, piece: str) -> list[UIChunk]:
        """A piece of text or reasoning, in a part that is open as long as it may grow."""
        write, part_id, chunks = self._write, str(number), list[UIChunk]()
        is_text = kind == "text"
        if number not in self._open:
            chunks = write.text_start(part_id) if is_text else write.reasoning_start(part_id)
            self._open[number] = kind
        if piece:
            delta = write.text_delta if is_text else write.reasoning_delta
            chunks += delta(piece, part_id)
        return chunks + self._close_others()

    def _close_others(self) -> list[UIChunk]:
        """Close parts that cannot grow any more."""
        growing = (self.answer.open_text, self.answer.open_reasoning)
        chunks: list[UIChunk] = []
        for number in [number for number in self._open if number not in growing]:
            write, kind = self._write, self._open.pop(number)
            chunks += (write.text_end if kind == "text" else write.reasoning_end)(str(number))
        return chunks

    # --- calls ---

    def _call(self, number: int, part: Part) -> list[UIChunk]:
        """The part of a call that is not shown yet."""
        if not have(part.fields, "id", "name"):
            return []
        call, chunks, state = self._calls.get(number), list[UIChunk](), part.fields.get("state")
        if call is None:
            own_id = self._ids.of(self.answer.parts, number)
            call = self._calls[number] = _ShownCall(own_id, part.fields["name"])
            chunks = self._write.tool_input_start(call.id, call.name)
            if part.text:
                chunks += self._write.tool_input_delta(call.id, part.text)
        if state not in _STATES or state == call.state or call.over:
            return chunks
        value = input_object(part.text)
        if state == "invalid" or value is None:
            call.state, call.over = "invalid", True
            return chunks + self._write.tool_input_error(
                call.id, call.name, part.text, NO_OBJECT, provider_executed=True
            )
        if state == "proposed" and "runs_at" not in part.fields and not self.answer.ended:
            return chunks
        is_first, call.state, call.over = call.state == "streaming", state, state in CALL_ENDED
        is_ours = call.over or part.fields.get("runs_at") == "server"
        whole = self._write.tool_input_available(
            call.id, call.name, value, provider_executed=is_ours
        )
        chunks += whole if is_first else []
        return chunks + self._asked(call, part.fields, whole) + self._outcome(call, part.fields)

    def _closed(self) -> list[UIChunk]:
        """What the end of the answer makes of its calls."""
        return [chunk for n in [*self._calls] for chunk in self._call(n, self.answer.parts[n])]

    def _asked(
        self, call: "_ShownCall", fields: Mapping[str, Any], whole: list[UIChunk]
    ) -> list[UIChunk]:
        """The request for approval, and once it is approved the `whole` input, each once.

        Also where a row shows the call after the decision. v5 gets none: see `paused`.
        """
        approval = fields.get("approval")
        is_asked = call.state == "awaiting_approval" or approval is not None
        if not is_asked or self._write.profile == "v5":
            return []
        chunks: list[UIChunk] = []
        if not call.asked:
            call.asked = True
            chunks = self._write.tool_approval_request(call.id, call.id)
        if was_approved(fields) and not call.approved:
            call.approved = True
            chunks += whole
        return chunks

    def _outcome(self, call: "_ShownCall", fields: Mapping[str, Any]) -> list[UIChunk]:
        write = self._write
        if call.state == "done":
            result = fields.get("result")
            return write.tool_output_available(call.id, result, provider_executed=True)
        if call.state == "denied":
            return write.tool_output_denied(call.id)
        if not call.over:
            return []
        return write.tool_output_error(call.id, why_none(fields), provider_executed=True)

    # --- what is withdrawn ---

    def _withdraw(self, keep: int) -> list[UIChunk]:
        """Withdraw everything behind the first `keep` parts, and write again what the client loses
        with it.
        """
        self._known = len(self.answer.parts)
        lengths = {
            "keep": self.answer.content_units,
            "keepReasoning": self.answer.reasoning_units,
        }
        if self._write.profile == "v7" and keep >= self._step:
            chunks, again = self._reset(keep, lengths)
        else:
            chunks, again = self._marked(keep, lengths), range(len(self.answer.parts))
        self._open.clear()
        for number in again:
            if number not in self._calls:
                chunks += self._close_others() + self._whole(number)
        return chunks

    def _reset(self, keep: int, lengths: Mapping[str, int]) -> tuple[list[UIChunk], Iterable[int]]:
        """Empty the open step. Calls of earlier steps stay as they are, or fail.

        Also returns the numbers of the parts to write again. They may lie before the step: a call
        may be shown in a later step than its own.
        """
        chunks = self._failed(number for number in self._earlier if number >= keep)
        late = [number for number in self._calls if number not in self._earlier]
        self._calls = {number: self._calls[number] for number in self._earlier}
        for call in self._calls.values():
            call.open = False
        again = [number for number in late if number < self._step]
        again += range(self._step, len(self.answer.parts))
        return chunks + self._write.reset_step(lengths), again

    def _marked(self, keep: int, lengths: Mapping[str, int]) -> list[UIChunk]:
        """Emit a part that tells the client to ignore all earlier parts. Calls stay as they are, or
        fail.
        """
        chunks = self._failed(number for number in self._calls if number >= keep)
        chunks += self._write.close() + self._write.data("reset", lengths)
        self._step = 0
        # Repeated text is in a step of its own: only that can be reset.
        return chunks + (self._start_step() if self._write.profile == "v7" else [])

    def _failed(self, numbers: Iterable[int]) -> list[UIChunk]:
        """End withdrawn calls as failed, because the client cannot remove them."""
        chunks: list[UIChunk] = []
        for number in list(numbers):
            call = self._calls.pop(number)
            self._earlier.discard(number)
            if not call.over:
                chunks += self._write.tool_output_error(call.id, WITHDRAWN, provider_executed=True)
        return chunks

    def _start_step(self) -> list[UIChunk]:
        self._earlier = set(self._calls)
        return self._write.start_step()

    # --- the rest ---

    def _metadata(self) -> dict[str, Any]:
        known = metadata(self._row).items()
        return {name: value for name, value in known if name not in _KEPT_BACK}

    def _started(self, event: events.Start) -> list[UIChunk]:
        if (event.attempt, event.model) == (self._attempt, self._model):
            return []
        self._attempt, self._model = event.attempt, event.model
        fields = {"attempt": event.attempt, "model": event.model, "status": "streaming"}
        return self._write.message_metadata(fields)

    def _retry(self, event: events.Retry) -> list[UIChunk]:
        fields = {
            "code": event.code,
            "delayMs": event.delay_ms,
            "try": event.try_,
            "maxTries": event.max_tries,
        }
        return self._write.data("retry", fields, transient=True)

    def _end(self, event: events.Terminal) -> list[UIChunk]:
        fields: dict[str, Any] = {"attempt": event.attempt, "status": _STATUS[type(event)]}
        if event.usage is not None:
            fields["usage"] = usage(_fields(event.usage))
        if isinstance(event, events.Complete):
            return self._write.finish(_FINISH.get(event.finish_reason, "other"), fields)
        if isinstance(event, events.Cancelled):
            return self._write.message_metadata(fields) + self._write.abort("cancelled")
        fields["error"] = {"code": event.code, "retryable": event.retryable}
        return self._write.message_metadata(fields) + self._write.error(
            event.error or "The answer failed."
        )


class _ShownCall:
    """A call as it is shown.

    `asked`: for approval. `approved`: the input was shown again. `over`: it has an outcome. `open`:
    it takes pieces of its input.
    """

    __slots__ = ("approved", "asked", "id", "name", "open", "over", "state")

    def __init__(self, call_id: str, name: str) -> None:
        self.id, self.name = call_id, name
        self.state, self.open = "streaming", True
        self.asked = self.approved = self.over = False


_STATES: frozenset[str] = frozenset(get_args(CallState)) - {"streaming"}
"""The shown states of a call; an unknown one shows nothing."""
_CHANGED = ("tool_call", "data")


def _fields(found: events.Usage) -> dict[str, Any]:
    return {name: getattr(found, name) for name in found.__struct_fields__}
