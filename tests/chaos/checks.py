"""Pure: comparisons. Texts with texts, a log with itself, and an answer's records with what must be
true.
"""

import difflib
import json
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.e2e.reader import TERMINAL, head, tail, units
from tokenwire.streams.log.packing import unpack


def difference(expected: str, got: str) -> tuple[int, int]:
    """Characters of `expected` missing in `got`, and characters of `got` that are too many."""
    if expected == got:
        return 0, 0
    lost = repeated = 0
    for kind, first, end, start, stop in difflib.SequenceMatcher(
        None, expected, got, autojunk=False
    ).get_opcodes():
        if kind != "equal":
            lost, repeated = lost + end - first, repeated + stop - start
    return lost, repeated


@dataclass
class Folded:
    """One message as the log gives it. `begins`: the log holds its beginning, so that its text is
    known.
    """

    text: str = ""
    begins: bool = True
    terminals: list[int] = field(default_factory=list)
    resets: int = 0
    calls: dict[int, dict[str, Any]] = field(default_factory=dict)
    """The tool calls, by the number of their part."""
    faults: list[str] = field(default_factory=list)


def fold(events: Iterable[dict[str, Any]], message_id: str) -> Folded:
    """Apply a conversation's events, oldest first, as a client would."""
    folded, last = Folded(), None
    for event in events:
        if last is not None and event["seq"] != last + 1:
            folded.faults.append(f"seq {event['seq']} follows {last}")
        last = event["seq"]
        if event.get("message_id") == message_id:
            _apply(folded, event)
    return folded


def _apply(folded: Folded, event: dict[str, Any]) -> None:
    if folded.terminals:
        folded.faults.append(f"{event['type']} after the end")
    if event["type"] == "chunk":
        held = units(folded.text)
        if event["offset"] > held:
            folded.begins = False
        elif event["offset"] < held:
            folded.faults.append(f"a chunk at {event['offset']}, {held} held")
        folded.text += tail(event["content"], max(0, held - event["offset"]))
    elif event["type"] == "part":
        _apply_part(folded, event["part"], event["value"])
    elif event["type"] == "reset":
        folded.resets += 1
        folded.calls = {
            number: call
            for number, call in folded.calls.items()
            if number < event.get("keep_parts", 0)
        }
        folded.text = head(folded.text, event["keep"])
    elif event["type"] in TERMINAL:
        folded.terminals.append(event["seq"])
        if folded.begins and (event["length"], event["crc32"]) != (
            units(folded.text),
            zlib.crc32(folded.text.encode()),
        ):
            folded.faults.append("the terminal event's checksum is not that of the log's text")


def _apply_part(folded: Folded, number: int, value: dict[str, Any]) -> None:
    if value.get("type") == "tool_call" or number in folded.calls:
        folded.calls.setdefault(number, {}).update(value)


Range = Sequence[tuple[bytes, dict[bytes, bytes]]]


def parse(packed: Range, entries: Range) -> list[dict[str, Any]]:
    """The events of a log, from an XRANGE of its blocks and of its stream, at one moment."""
    events: list[dict[str, Any]] = []
    for name, fields in packed:
        last = int(name.partition(b"-")[0])
        events += [
            json.loads(entry.data)
            for entry in unpack(last - int(fields[b"n"]) + 1, last, fields[b"z"])
        ]
    return events + [json.loads(fields[b"e"]) for _, fields in entries]


def percentiles(values: Sequence[float]) -> str:
    """p50, p99 and the largest, in seconds."""
    if not values:
        return "none measured"
    ordered = sorted(values)
    p50, p99 = (ordered[min(len(ordered) - 1, int(len(ordered) * share))] for share in (0.5, 0.99))
    return f"p50 {p50:.3f} s, p99 {p99:.3f} s, longest {ordered[-1]:.3f} s (of {len(ordered)})"
