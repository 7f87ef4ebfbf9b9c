"""Answers that tests write by hand: events, checkpoints and ends that agree with each other."""

from typing import Any

from tokenwire.models.answers import Checkpoint, Ending
from tokenwire.models.parts import open_texts, whole
from tokenwire.models.unsaved import UnsavedParts
from tokenwire.protocol import events
from tokenwire.protocol.fold import Answer


class Pen:
    """Writes one answer. Each event is applied to `answer` when it is given."""

    def __init__(self, message_id: str, attempt: int) -> None:
        self.answer, self.attempt = Answer(message_id), attempt
        self._unsaved = UnsavedParts()

    def text(self, content: str) -> events.AnyEvent:
        """More text: of the open part, or of a new one."""
        number, offset = self.answer.open_text, self.answer.content_units
        return self._piece(events.Chunk, number, offset, content)

    def reasoning(self, content: str) -> events.AnyEvent:
        """The same of the reasoning."""
        number, offset = self.answer.open_reasoning, self.answer.reasoning_units
        return self._piece(events.Reasoning, number, offset, content)

    def part(self, kind: str, **fields: Any) -> events.AnyEvent:
        """A new part."""
        number, value = len(self.answer.parts), {"type": kind, **fields}
        return self._apply(events.PartEvent(self.answer.id, self.attempt, number, value))

    def reset(self) -> events.AnyEvent:
        """All is withdrawn."""
        return self._apply(events.Reset(self.answer.id, self.attempt, 0, 0, 0))

    def checkpoint(self, epoch: str, seq: int) -> Checkpoint:
        """What a worker saves."""
        changes = self._unsaved.take(self.answer)
        return Checkpoint(
            *(self.answer.id, self.attempt, *open_texts(self.answer), epoch, seq),
            saves=self._unsaved.saves,
            part_count=len(self.answer.parts),
            open_text=self.answer.open_text,
            open_reasoning=self.answer.open_reasoning,
            changes=changes,
        )

    def ending(self, epoch: str, seq: int) -> Ending:
        """The end of a complete answer."""
        columns = whole(self.answer)._asdict()
        facts = {"attempt": self.attempt, "status": "complete", "finish_reason": "stop"}
        return Ending(message_id=self.answer.id, epoch=epoch, seq=seq, **columns, **facts)

    def _piece(
        self, kind: type[events.Chunk | events.Reasoning], number: int | None, at: int, text: str
    ) -> events.AnyEvent:
        part = len(self.answer.parts) if number is None else number
        return self._apply(kind(self.answer.id, self.attempt, at, text, part))

    def _apply(self, event: events.AnyEvent) -> events.AnyEvent:
        touched = self.answer.apply(event)
        self._unsaved.applied(event, touched)
        return event
