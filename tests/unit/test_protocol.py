"""PROTOCOL.md is what clients are written from: its tables are those of the program."""

import dataclasses
import re
from pathlib import Path
from typing import get_args

import msgspec

from tokenwire.config.settings import ROOT
from tokenwire.protocol import events, frames
from tokenwire.protocol.cursors import Cursor
from tokenwire.protocol.frames import CloseCode, Refresh, Subscribe
from tokenwire.web.api.shapes import ConversationView, MessageView
from tokenwire.web.feed.changes import Summary
from tokenwire.web.problems import CODES
from tokenwire.worker.attempt.structured import INVALID_OUTPUT
from tokenwire.worker.retries import _SENTENCES, code_of

PAGE = Path(ROOT / "PROTOCOL.md").read_text()
_WITH = re.compile(r"\(with [^)]*\)")
PROOF = {"length", "crc32", "parts", "parts_crc32"}


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table after that heading."""
    table = PAGE.split(heading, 1)[1].split("\n\n|", 1)[1].split("\n\n", 1)[0]
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]
    ]


def names(cell: str) -> list[str]:
    return re.findall(r"`(\w+)`", cell)


def test_events() -> None:
    """Each type with its fields, and none that is never sent."""
    listed = {
        names(kind)[0]: {*names(fields), *(PROOF if "the proof" in fields else ())}
        for kind, fields, _ in rows("### Events")
    }
    about = {"message_id", "attempt"}
    written = {
        str(member.__struct_config__.tag): {
            field.encode_name for field in msgspec.structs.fields(member)
        }
        for member in get_args(events.AnyEvent)
    }
    assert {kind: fields - about for kind, fields in written.items()} == listed
    without = {kind for kind, fields in written.items() if not fields >= about}
    assert without == {"message", "title"}


def test_finish_reasons() -> None:
    """All, in one sentence."""
    sentence = PAGE.split("- `finish_reason` is ", 1)[1].split(".", 1)[0]
    assert set(names(sentence)) == set(get_args(events.CompleteReason))


def test_messages_and_conversations() -> None:
    """The fields of both as the API gives them."""
    listed = {name for field, *_ in rows("### Messages") for name in names(field)}
    assert listed == set(MessageView.model_fields)
    sentence = PAGE.split("### Conversations\n", 1)[1].split("\n\n## ", 1)[0]
    fields = ConversationView.model_fields.items()
    assert set(names(sentence)) == {field.alias or name for name, field in fields}


def test_feed() -> None:
    """The fields of a conversation in it."""
    sentence = PAGE.split("A conversation in a feed has ", 1)[1].split(".", 1)[0]
    assert set(names(sentence)) == {field.name for field in dataclasses.fields(Summary)}


def test_refusals() -> None:
    """Each code with its status, and none that is never sent."""
    listed = {
        name: int(status)
        for status, codes, _ in rows("### Refusals")
        for name in names(_WITH.sub("", codes))
    }
    assert listed == CODES


def test_codes_of_failed_answers() -> None:
    """Those of every kind of provider error, of misfits, and of our own faults."""
    listed = {name for codes, *_ in rows("### Codes of failed answers") for name in names(codes)}
    ours = {"internal_error", INVALID_OUTPUT["code"]}
    assert listed == {code_of(kind("")) for kind in _SENTENCES} | ours


def test_close_codes() -> None:
    """Every one that the broadcaster may send."""
    table = PAGE.split("| close code |", 1)[1].split("\n\n", 1)[0]
    assert {int(code) for code in re.findall(r"\b[14]\d{3}\b(?=[, \d]*\|)", table)} == set(
        CloseCode
    )


def test_frames() -> None:
    """The frames that are printed are those that the broadcaster sends and takes."""
    sent = (
        frames.subscribed("k3f9", 61, 30),
        frames.live("k3f9", 61),
        frames.heartbeat("k3f9", 64),
        frames.refreshed(600),
        frames.resync("trimmed"),
    )
    assert [frame for frame in sent if f"| `{frame.decode()}` |" not in PAGE] == []
    taken = [
        frames.parse_client(text) for text in re.findall(r"^\| `(.*JWT.*)` \|", PAGE, re.MULTILINE)
    ]
    assert taken == [Subscribe("<JWT>", Cursor("k3f9", 57)), Refresh("<JWT>")]


def test_printed_events() -> None:
    """Each is an event as the log holds it."""
    printed = re.findall(r'\{"seq":.*"type":"chunk".*\}', PAGE)
    assert len(printed) == 2
    for text in printed:
        seq, event = events.decode(text.encode())
        assert event is not None
        assert events.stamp(seq, events.encode(event)).decode() == text
