"""Turns the rows of a conversation into the messages that are sent to a provider."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tokenwire.models.files import FileKey
from tokenwire.models.parts import answer_of, shown_answer
from tokenwire.models.tables import Message
from tokenwire.protocol.files import digest_in
from tokenwire.protocol.fold import Part
from tokenwire.providers.base import HistoryMessage
from tokenwire.providers.parameters import NAMES
from tokenwire.worker.history import history_of, results_of

_NO_MODEL = ""
"""For an answer whose model left the catalogue. No provider gets its kept values."""


def messages(
    rows: Iterable[Message],
    instructions: str | None,
    names: Mapping[str, str] | None = None,
    files: Mapping[FileKey, bytes] | None = None,
) -> list[HistoryMessage]:
    """The messages in order, without empty ones.

    A failed or withdrawn answer is left out, so that it does not make later requests fail.
    `names`: the provider's name of each model in the catalogue. Kept values of an answer go back
    only to the model of the same name. `files`: the bytes of file parts.
    """
    system = [HistoryMessage("system", instructions)] if instructions else []
    found = (_message(row, names or {}, files or {}) for row in rows)
    return system + [message for message in found if message is not None]


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
    message_id: str, parts: Sequence[Part], files: Mapping[FileKey, bytes]
) -> list[HistoryMessage]:
    """The messages for the proven parts of an answer, in front of a request for its next turn.

    `files`: the bytes of their files. A step that brought messages of users splits the answer here.
    """
    made = history_of(parts, _bytes_of(message_id, parts, files))
    return [HistoryMessage("assistant", made)] if made else []


def _files_of(message_id: str, fields: Iterable[Mapping[str, Any]]) -> list[FileKey]:
    digests = (digest_in(part.get("url"), message_id) for part in fields)
    return [(message_id, digest) for digest in digests if digest is not None]


def _message(
    row: Message, names: Mapping[str, str], files: Mapping[FileKey, bytes]
) -> HistoryMessage | None:
    if row.role == "user" and row.content:
        return HistoryMessage("user", row.content)
    if row.role == "system" and row.content:
        return HistoryMessage("system", row.content)
    if row.role == "tool":
        results = results_of(shown_answer(row).parts)
        return HistoryMessage("tool", results) if results else None
    if row.role != "assistant":
        return None
    if (
        row.parts is None and not row.parts_kept
    ):  # nearly all: reasoning without a kept value is not sent
        return HistoryMessage("assistant", row.content) if row.content else None
    answer = answer_of(row)
    parts = history_of(answer.parts, _bytes_of(answer.id, answer.parts, files))
    model = names.get(row.model or "", _NO_MODEL)
    return HistoryMessage("assistant", parts, model) if parts else None


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
