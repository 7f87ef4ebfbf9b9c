"""Answers that tests write by hand: events, checkpoints and ends that agree with each other."""

from contextlib import suppress
from typing import Any

from tokenwire.models.answers import Checkpoint, Ending
from tokenwire.models.parts import open_texts, whole
from tokenwire.models.unsaved import UnsavedParts
from tokenwire.protocol import events
from tokenwire.protocol.fold import Answer, Hole


class Pen:
    """Writes one answer. An event that it gives counts once it was taken."""

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
        return events.PartEvent(self.answer.id, self.attempt, number, value)

    def reset(self) -> events.AnyEvent:
        """All is withdrawn."""
        return events.Reset(self.answer.id, self.attempt, 0, 0, 0)

    def take(self, event: events.AnyEvent) -> None:
        """It is in the log. One that does not fit changes nothing."""
        with suppress(Hole):
            self._unsaved.applied(event, self.answer.apply(event))

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
        return kind(self.answer.id, self.attempt, at, text, part)
