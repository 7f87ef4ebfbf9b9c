"""Answers for tests."""

from tokenwire.protocol.fold import Answer, Part
from tokenwire.worker.resume.continuation import Held


def answer(text: str = "", reasoning: str = "", message_id: str = "m") -> Answer:
    """Reasoning, then text; what is empty is no part."""
    made = Answer(message_id)
    made.status = "streaming"
    for kind, content in (("reasoning", reasoning), ("text", text)):
        if content:
            made.add(Part(kind, {}, text=content))
    return made


def held(text: str = "", reasoning: str = "", seq: int = 0, message_id: str = "m") -> Held:
    """The same, as readers hold it."""
    return Held(answer(text, reasoning, message_id), seq)
