"""Histories of an answer: what a worker may write to a log, and a plain model of its meaning.

The model is no fold: it never reads an event. `Writer` creates the event and changes the model from
the same intention, so a fold that loses or doubles something differs from it.
"""

import copy
import zlib
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from tokenwire.protocol import events
from tokenwire.protocol.text import Cleaner, utf16_length

ID = "m1"
Op = tuple[Any, ...]

_letters = st.sampled_from(["a", "b", " ", "é", "👋", "\u2028", "�"])
_words = st.lists(_letters, max_size=6).map("".join)
_raw = st.lists(st.sampled_from(["a", "é", "👋", "\ud83d", "\udc4b", "\x00"]), max_size=5)
_places = st.integers(0, 7)
_values = st.sampled_from([None, True, 1, 0, "", "x", [1, None], {"a": None, "b": {"c": 1}}])
_names = st.sampled_from(["title", "dropped", "data", "result"])

OPS = st.one_of(
    st.tuples(st.just("text"), st.lists(_words, min_size=1, max_size=3)),
    st.tuples(st.just("raw"), _raw.map("".join)),
    st.tuples(st.just("think"), st.lists(_words, min_size=1, max_size=3)),
    st.tuples(st.just("think_inside"), _words),
    st.tuples(st.just("sign")),
    st.tuples(st.just("source"), _places),
    st.tuples(st.just("provider"), _places),
    st.tuples(st.just("call"), _places),
    st.tuples(st.just("input"), _places, _words),
    st.tuples(st.just("call_ends"), _places, st.sampled_from(["proposed", "invalid"])),
    st.tuples(st.just("move"), _places, _places, _values),
    st.tuples(st.just("move"), _places, _places, _values),
    st.tuples(st.just("proved"), _places, st.sampled_from(["server", "client", "caller"])),
    st.tuples(st.just("waits")),
    st.tuples(st.just("step"), st.lists(st.just("m0"), max_size=2)),
    st.tuples(st.just("set"), _places, _names, _values),
    st.tuples(st.just("other"), st.sampled_from(["data", "file", "step", "hologram"]), _values),
    st.tuples(st.just("reset"), _places),
    st.tuples(st.just("attempt")),
    st.tuples(st.just("retry")),
)
ENDS = st.sampled_from([None, "complete", "tool_calls", "error", "cancelled"])
"""`tool_calls`: complete, for that reason."""
HISTORIES = st.tuples(st.lists(OPS, max_size=25), ENDS)


_SOON = "2026-11-22T10:00:00Z"
_ALLOWED = {"decision": "approved", "by": "u1"}
_RERUN = {"state": "proposed", "expires_at": None}
MOVES: dict[str | None, list[dict[str, Any]]] = {
    None: [{"runs_at": place} for place in ("server", "client", "caller")],
    "server": [
        {"state": "running"},
        {"state": "awaiting_approval", "approval": {}, "expires_at": _SOON},
        {"state": "failed", "error": "It lacks a."},
    ],
    "client": [{"state": "awaiting_client", "expires_at": _SOON}],
    "caller": [{"title": "Adds"}],
    "awaiting_approval": [
        {**_RERUN, "approval": _ALLOWED},
        {**_RERUN, "approval": _ALLOWED, "ran_with": '{"a":2}'},
        {"state": "denied", "approval": {"decision": "denied"}, "error": "No", "expires_at": None},
    ],
    "awaiting_client": [
        {"state": "done", "result": ..., "expires_at": None},
        {"state": "failed", "error": "closed", "expires_at": None},
    ],
    "running": [
        {"state": "done", "result": ...},
        {"state": "failed", "error": "down"},
        {"state": "proposed"},
        {"state": "awaiting_outcome", "expires_at": _SOON},
        {"state": "unknown", "error": "unknown"},
    ],
    "awaiting_outcome": [
        _RERUN,
        {"state": "done", "result": ..., "expires_at": None},
        {"state": "unknown", "error": "unknown", "expires_at": None},
    ],
}
"""What may happen to a call, by its state. By who runs it, if it is proposed. `...`: any value."""
_AT_THE_END = {
    "streaming": "invalid",
    **dict.fromkeys(("proposed", "awaiting_approval", "awaiting_client"), "withdrawn"),
    **dict.fromkeys(("running", "awaiting_outcome"), "unknown"),
}


@dataclass
class Model:
    """The answer: parts as {type, text, fields}, its end, and whether it waits."""

    parts: list[dict[str, Any]] = field(default_factory=list)
    end: str | None = None
    waits: bool = False

    def of(self, kind: str) -> str:
        """All texts of a type."""
        return "".join(part["text"] for part in self.parts if part["type"] == kind)


@dataclass
class History:
    """The events of a log, and the answer after each of them."""

    events: list[events.AnyEvent]
    models: list[Model]


def written(history: tuple[list[Op], str | None]) -> History:
    """The log of a worker with these intentions."""
    writer, (ops, end) = Writer(), history
    for name, *values in ops:
        getattr(writer, name)(*values)
    if end is not None:
        writer.ends(end)
    return History(writer.events, writer.models)


class Writer:
    """A worker that appends events and records their meaning."""

    def __init__(self) -> None:
        self.events: list[events.AnyEvent] = []
        self.models: list[Model] = []
        self.model = Model()
        self.open: dict[str, int] = {}
        self.cleaner = Cleaner()
        self.attempt_number = 1

    # --- intentions ---

    def text(self, words: list[str]) -> None:
        for word in words:
            self._stream("text", self.cleaner.push(word))

    def raw(self, piece: str) -> None:
        self._stream("text", self.cleaner.push(piece))

    def think(self, words: list[str]) -> None:
        for word in words:
            self._stream("reasoning", word)

    def think_inside(self, word: str) -> None:
        """Reasoning of a continuation, inside the open text."""
        if "text" not in self.open:
            return
        if "reasoning" not in self.open:
            self._open("reasoning", {"at": self._end("text")})
        self._stream("reasoning", word)

    def sign(self) -> None:
        """Reasoning without text, for its signature."""
        self._open("reasoning", {})

    def source(self, place: int) -> None:
        self._inside("source", {"url": f"https://{place}", "cites": [0, self._end("text")]})

    def provider(self, place: int) -> None:
        self._inside("provider", {"dialect": "d", "kind": str(place)})

    def call(self, place: int) -> None:
        self._open("tool_call", {"id": f"call_{place}", "name": "n", "state": "streaming"})

    def input(self, place: int, word: str) -> None:
        for number in self._streaming(place):
            part = self.model.parts[number]
            offset = utf16_length(part["text"])
            part["text"] += word
            self._log(events.ToolInput(ID, self.attempt_number, offset, word, number))

    def call_ends(self, place: int, state: str) -> None:
        for number in self._streaming(place):
            self._set(number, {"state": state})

    def move(self, place: int, choice: int, value: Any) -> None:
        """A call goes on: it is proven, allowed, runs, is lost, ends."""
        if calls := self._calls(["proposed", *MOVES]):
            number = calls[place % len(calls)]
            fields = self.model.parts[number]["fields"]
            is_proposed = fields["state"] == "proposed"
            moves = MOVES[fields.get("runs_at") if is_proposed else fields["state"]]
            changes = moves[choice % len(moves)]
            self._set(number, {k: value if item is ... else item for k, item in changes.items()})

    def proved(self, place: int, runs_at: str) -> None:
        """A call of a turn that is whole."""
        number = len(self.model.parts)
        self.call(place)
        self.model.parts[number]["text"] = "{}"
        self._log(events.ToolInput(ID, self.attempt_number, 0, "{}", number))
        self._set(number, {"state": "proposed"})
        self._set(number, {"runs_at": runs_at})

    def waits(self) -> None:
        self._log(events.Wait(ID, self.attempt_number))

    def step(self, message_ids: list[str]) -> None:
        """The model is asked again, now and then with new messages of users."""
        self._open("step", {"message_ids": message_ids or None})

    def set(self, place: int, name: str, value: Any) -> None:
        if self.model.parts:
            self._set(place % len(self.model.parts), {name: value})

    def reset(self, place: int) -> None:
        """Withdraw a part and all behind it; kept values are whole."""
        keep = place % (len(self.model.parts) + 1)
        del self.model.parts[keep:]
        self.open = {}
        for number, part in enumerate(self.model.parts):
            self._note(number, part)
        lengths = self._end("text"), self._end("reasoning")
        self._log(events.Reset(ID, self.attempt_number, *lengths, keep))

    def attempt(self) -> None:
        self.attempt_number += 1
        self._log(events.Start(ID, self.attempt_number, "demo"))

    def retry(self) -> None:
        self._log(events.Retry(ID, self.attempt_number, "unavailable", 5, 1, 3))

    def ends(self, end: str) -> None:
        self.model.end = "complete" if end == "tool_calls" else end
        for number in self._calls(_AT_THE_END):
            fields = self.model.parts[number]["fields"]
            runs_at = {"complete": [None], "tool_calls": [None, "caller"]}.get(end, [])
            if fields["state"] != "proposed" or fields.get("runs_at") not in runs_at:
                fields["state"] = _AT_THE_END[fields["state"]]
                fields.pop("expires_at", None)
        text, attempt = self.model.of("text"), self.attempt_number
        proof = utf16_length(text), zlib.crc32(text.encode())
        parts = len(self.model.parts), parts_crc32(self.model.parts)
        usage = events.Usage(1, 2)
        self._log(
            {
                "complete": events.Complete(ID, attempt, "stop", usage, *proof, [1], *parts),
                "tool_calls": events.Complete(
                    ID, attempt, "tool_calls", usage, *proof, [1], *parts
                ),
                "error": events.Error(ID, attempt, "bug", "sorry", True, usage, *proof, *parts),
                "cancelled": events.Cancelled(ID, attempt, "u1", usage, *proof, *parts),
            }[end]
        )

    # --- what they have in common ---

    def _stream(self, kind: str, piece: str) -> None:
        if not piece:
            return
        number = self.open.get(kind, len(self.model.parts))
        event = events.Chunk if kind == "text" else events.Reasoning
        offset = self._end(kind)
        if number == len(self.model.parts):
            self._add({"type": kind, "text": "", "fields": {}})
        self.model.parts[number]["text"] += piece
        self._log(event(ID, self.attempt_number, offset, piece, number))

    def _inside(self, kind: str, fields: dict[str, Any]) -> None:
        inside = {"at": self._end("text")} if "text" in self.open else {}
        self._open(kind, {**fields, **inside})

    def other(self, kind: str, value: Any) -> None:
        self._open(kind, {"name": "n", "value": value})

    def _open(self, kind: str, fields: dict[str, Any]) -> None:
        number = len(self.model.parts)
        given = {name: item for name, item in fields.items() if item is not None}
        self._add({"type": kind, "text": "", "fields": given})
        value = {"type": kind, **fields}
        self._log(events.PartEvent(ID, self.attempt_number, number, value))

    def _set(self, number: int, changes: dict[str, Any]) -> None:
        part = self.model.parts[number]
        for name, item in changes.items():
            part["fields"].pop(name, None)
            if item is not None:
                part["fields"][name] = item
        value = {"type": part["type"], **changes}
        self._log(events.PartEvent(ID, self.attempt_number, number, value))

    def _add(self, part: dict[str, Any]) -> None:
        self.model.parts.append(part)
        self._note(len(self.model.parts) - 1, part)

    def _note(self, number: int, part: dict[str, Any]) -> None:
        if "at" not in part["fields"]:
            self.open = {}
        if part["type"] in ("text", "reasoning"):
            self.open[part["type"]] = number

    def _streaming(self, place: int) -> list[int]:
        """A call whose input still streams, if there is any."""
        calls = self._calls(["streaming"])
        return [calls[place % len(calls)]] if calls else []

    def _calls(self, states: Collection[str | None]) -> list[int]:
        return [
            number
            for number, part in enumerate(self.model.parts)
            if part["type"] == "tool_call" and part["fields"].get("state") in states
        ]

    def _end(self, kind: str) -> int:
        return utf16_length(self.model.of(kind))

    def _log(self, event: events.AnyEvent) -> None:
        self.model.waits = isinstance(event, events.Wait)
        self.events.append(event)
        self.models.append(copy.deepcopy(self.model))


def parts_crc32(parts: list[dict[str, Any]]) -> int:
    """As the protocol defines it, in the simplest code."""
    text = ""
    for part in parts:
        said = part["text"] if part["type"] in ("reasoning", "tool_call") else ""
        if part["type"] == "text":
            said = str(utf16_length(part["text"]))
        text += f"{part['type']}\0{said}\0"
    return zlib.crc32(text.encode())
