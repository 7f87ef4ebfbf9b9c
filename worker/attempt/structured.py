"""Pure: the text that must be a document, and what the model is told if it is none.

The document is the text of the answer's last turn: rounds of tools before it may say anything. Only
a turn that ended by itself is judged. A text that was cut off (`length`), refused or filtered ends
with the reason for that, and counts as a document only if it fits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenwire.protocol.fold import Part
from tokenwire.providers.history import REPAIR_BEGINS, HistoryMessage, TextPart
from tokenwire.worker.resume.continuation import last_round

JUDGED = frozenset({"stop", "unknown"})
"""Reasons with which a misfit is an error."""
INVALID_OUTPUT: Mapping[str, Any] = {
    "code": "invalid_output",
    "error": "The answer does not fit its schema. Its text is kept.",
    "retryable": True,
}
_ASK = (
    REPAIR_BEGINS + "\n\n{}\n\n"
    "Answer again with one JSON document that fits it, and nothing else: no introduction, no "
    "explanation, no code fence."
)


@dataclass(frozen=True, slots=True)
class Misfitting:
    """A document that breaks its schema, and what is wrong with it."""

    text: str
    errors: Sequence[str]

    def stored(self) -> dict[str, Any]:
        """As the row holds it."""
        return {"text": self.text, "errors": list(self.errors)}


def document_in(parts: Sequence[Part]) -> str:
    """The text of the last turn, however often it was paused."""
    turn = parts[last_round(parts) :]
    return "".join([part.text for part in turn if part.type == "text"])


def with_repair(
    messages: Sequence[HistoryMessage], misfit: Mapping[str, Any] | None
) -> list[HistoryMessage]:
    """The messages, and the request for a repair of what the row holds as misfit, if it does."""
    if misfit is None:
        return list(messages)
    asked = HistoryMessage("user", _ASK.format("\n".join(misfit["errors"])))
    return [*_with_text(messages, misfit["text"]), asked]


def _with_text(messages: Sequence[HistoryMessage], text: str) -> list[HistoryMessage]:
    """The messages, and the misfit behind the rounds of the same answer, as one message."""
    if not text:
        return list(messages)
    if messages and messages[-1].role == "assistant":
        parts = [*messages[-1].parts, TextPart(text)]
        return [*messages[:-1], HistoryMessage("assistant", parts, messages[-1].model)]
    return [*messages, HistoryMessage("assistant", text)]
