"""Histories of an answer with visible parts, and the three ways in which a reader gets one."""

from typing import Any, Protocol, TypeVar

from hypothesis import strategies as st

from tests.unit.protocol import histories
from tests.unit.protocol.histories import ENDS, ID, OPS, History, Op
from tokenwire.protocol.events import AnyEvent, Reset
from tokenwire.protocol.fold import Answer, from_view
from tokenwire.protocol.replay import catch_up

T_co = TypeVar("T_co", covariant=True)
LOGS = st.tuples(st.lists(OPS, max_size=25), ENDS.filter(bool))
PLACES = st.integers(0, 10**6)
_IMAGE = "data:image/png;base64,aGk="
_VALUES: dict[str, dict[str, Any]] = {
    "file": {"url": _IMAGE, "media_type": "image/png"},
    "step": {"model": "demo", "message_ids": ["u2"]},
    "hologram": {"depth": 3},
}


class Writer(histories.Writer):
    """A worker that writes parts that dialects can show and change."""

    def set(self, place: int, name: str, value: Any) -> None:
        if self.model.parts:
            number = place % len(self.model.parts)
            part = self.model.parts[number]
            if part["type"] == "data" and name == "data":
                self._set(number, {name: value})

    def reset(self, place: int) -> None:
        """Parts that are proven stay. A call says where it runs once its turn is."""
        proven = [
            number + 1
            for number, part in enumerate(self.model.parts)
            if "runs_at" in part.get("fields", {})
        ]
        super().reset(max([place % (len(self.model.parts) + 1), *proven]))

    def other(self, kind: str, value: Any) -> None:
        self._open(kind, _VALUES.get(kind, {"name": "weather", "data": value}))

    def call(self, place: int) -> None:
        number = len(self.model.parts)
        self._open("tool_call", {"id": f"call_{number}", "name": "n", "state": "streaming"})

    def source(self, place: int) -> None:
        cites = {"cites": [0, self._end("text")]}
        named = {"file_id": f"f{place}", "title": "T"}
        address = {"address": f"x:{place}"} | cites
        self._inside("source", [named, {"url": f"https://{place}"} | cites, address][place % 3])


def written(history: tuple[list[Op], str | None], *, resets: bool = True) -> History:
    """The log; without `resets` nothing is withdrawn."""
    writer, (ops, end) = Writer(), history
    for name, *values in ops:
        if resets or name != "reset":
            getattr(writer, name)(*values)
    if end is not None:
        writer.ends(end)
    return History(writer.events, writer.models)


def folded(told: list[AnyEvent]) -> Answer:
    """The answer after these events; the first one needs no earlier state."""
    answer = Answer(ID)
    for event in told:
        answer.apply(event)
    return answer


def view(answer: Answer) -> dict[str, Any]:
    """The wire form of its row."""
    usage = answer.usage
    return {
        "id": ID,
        "conversation_id": "c1",
        "role": "assistant",
        "content": answer.content,
        "reasoning": answer.reasoning,
        "parts": answer.layout(),
        "status": answer.status,
        "attempt": answer.attempt or 1,
        "model": "demo",
        "finish_reason": answer.finish_reason,
        "error": answer.error,
        "usage": usage and {"input_tokens": usage.input_tokens, "output_tokens": 2},
        "seams": answer.seams,
        "by": answer.by,
        "created_at": "2026-08-01T12:00:00.000Z",
    }


class _Encoder(Protocol[T_co]):
    answer: Answer

    def apply(self, event: AnyEvent, touched: range, added: str, /) -> T_co: ...


def fed(encoder: _Encoder[T_co], event: AnyEvent) -> T_co:
    """The encoder's output for an event, after the fold."""
    return encoder.apply(event, *encoder.answer.apply_with_text(event))


def from_row(log: list[AnyEvent], saved: int) -> list[AnyEvent]:
    """The events for a reader that began with the row saved after that many events."""
    answer = folded(log[:saved])
    row = from_view(view(answer))
    return [*catch_up(Answer(ID), row, answer.attempt or 1), *log[saved:]]


def without_resets(told: list[AnyEvent]) -> bool:
    """Whether nothing is withdrawn."""
    return not any(isinstance(event, Reset) for event in told)
