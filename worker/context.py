"""Turns the rows of a conversation into the messages that are sent to a provider."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tokenwire.models.files import FileKey
from tokenwire.models.parts import answer_of, shown_answer
from tokenwire.models.tables import Message
from tokenwire.protocol.files import digest_in
from tokenwire.protocol.fold import Part
from tokenwire.protocol.values import brought_by
from tokenwire.providers.base import HistoryMessage
from tokenwire.providers.parameters import NAMES
from tokenwire.worker.history import messages_of, results_of

_NO_MODEL = ""
"""For an answer whose model left the catalogue. No provider gets its kept values."""


def messages(
    rows: Iterable[Message],
    instructions: str | None,
    names: Mapping[str, str] | None = None,
    files: Mapping[FileKey, bytes] | None = None,
    steering: Mapping[str, str] | None = None,
) -> list[HistoryMessage]:
    """The messages in order, without empty ones.

    A failed or withdrawn answer is left out, so that it does not make later requests fail.
    `names`: the provider's name of each model in the catalogue. Kept values of an answer go back
    only to the model of the same name. `files`: the bytes of file parts. `steering`: the texts of
    messages that reached an answer at a step, by id. They stand there, and not at their own place.
    """
    made = [HistoryMessage("system", instructions)] if instructions else []
    texts = steering or {}
    for row in rows:
        if row.id not in texts:
            made += _messages(row, names or {}, files or {}, texts)
    return made


def steering_in(rows: Iterable[Message], answered: str | None) -> set[str]:
    """The ids of messages that reached one of these answers at a step. Those with an answer of
    their own are left out: they stand before it. `answered`: the message to answer now.
    """
    brought, own = set[str](), {answered}
    for row in rows:
        if row.role == "assistant":
            own.add(row.parent_id)
            brought.update(name for part in row.parts or () for name in brought_by(part))
    return {name for name in brought if name not in own}


def brought_in(parts: Iterable[Part]) -> set[str]:
    """The ids of the messages that reached the model at steps among these parts."""
    return {name for part in parts for name in brought_by(part.fields)}


def options(row: Message) -> dict[str, Any]:
    """The options of the answer, as arguments of a provider's `Request`."""
    return {name: value for name, value in (row.options or {}).items() if name in NAMES}


def files_in(rows: Iterable[Message]) -> list[FileKey]:
    """The files that answers hold, in order."""
    found = (_files_of(row.id, row.parts or ()) for row in rows)
    return [key for keys in found for key in keys]


def files_of(message_id: str, parts: Iterable[Part]) -> list[FileKey]:
    """The files that these parts of an answer hold, in order."""
    return _files_of(message_id, (part.fields for part in parts))


def turns_before(
    message_id: str,
    parts: Sequence[Part],
    files: Mapping[FileKey, bytes],
    texts: Mapping[str, str],
) -> list[HistoryMessage]:
    """The messages for the proven parts of an answer, in front of a request for its next turn.

    `files`: the bytes of their files. `texts`: of the users' messages that its steps brought.
    """
    return messages_of(parts, _bytes_of(message_id, parts, files), texts)


def _files_of(message_id: str, fields: Iterable[Mapping[str, Any]]) -> list[FileKey]:
    digests = (digest_in(part.get("url"), message_id) for part in fields)
    return [(message_id, digest) for digest in digests if digest is not None]


def _messages(
    row: Message,
    names: Mapping[str, str],
    files: Mapping[FileKey, bytes],
    texts: Mapping[str, str],
) -> list[HistoryMessage]:
    if row.role == "user" and row.content:
        return [HistoryMessage("user", row.content)]
    if row.role == "system" and row.content:
        return [HistoryMessage("system", row.content)]
    if row.role == "tool":
        results = results_of(shown_answer(row).parts)
        return [HistoryMessage("tool", results)] if results else []
    if row.role != "assistant":
        return []
    if (
        row.parts is None and not row.parts_kept
    ):  # nearly all: reasoning without a kept value is not sent
        return [HistoryMessage("assistant", row.content)] if row.content else []
    answer = answer_of(row)
    model = names.get(row.model or "", _NO_MODEL)
    return messages_of(answer.parts, _bytes_of(answer.id, answer.parts, files), texts, model)


def _bytes_of(
    message_id: str, parts: Sequence[Part], files: Mapping[FileKey, bytes]
) -> dict[int, bytes]:
    """The bytes of an answer's file parts, by number of the part."""
    found = dict[int, bytes]()
    for number, part in enumerate(parts):
        digest = digest_in(part.fields.get("url"), message_id)
        if digest is not None and (message_id, digest) in files:
            found[number] = files[message_id, digest]
    return found
