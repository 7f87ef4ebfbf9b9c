"""Parts of an answer as the judge reads them: from what the model said, from a log, from a row.

Written anew from PROTOCOL.md and without the project's fold, so that both cannot err alike.
"""

import base64
import hashlib
import json
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.author import FILE_BYTES, Pause, Said, is_storable, kept_in, shown
from tokenwire.protocol import events
from tokenwire.providers import base

NOT_BEGUN = ("proposed", "awaiting_approval", "awaiting_client")
STREAMED = ("text", "reasoning", "tool_call")


def units(text: str) -> int:
    """Length as JavaScript counts."""
    return len(text.encode("utf-16-le")) // 2


def first_units(text: str, count: int) -> str:
    """The first `count` units."""
    return text.encode("utf-16-le")[: 2 * count].decode("utf-16-le")


@dataclass(slots=True)
class Part:
    """`kept`: the value that goes back to the provider, whole again. `ends`: a turn of the
    provider ends behind it.
    """

    type: str
    fields: dict[str, Any] = field(default_factory=dict)
    text: str = ""
    kept: Any = None
    ends: bool = False

    @property
    def public(self) -> tuple[str, dict[str, Any], str]:
        """What readers hold."""
        return self.type, self.fields, self.text

    @property
    def mark(self) -> tuple[str, Any]:
        """By what it is told apart from other parts that something is kept of."""
        names = {"tool_call": "id", "source": "quote", "file": "url", "provider": "kind"}
        name = names.get(self.type)
        return self.type, self.text if name is None else self.fields.get(name)


Parts = Sequence[Part]


def public(parts: Parts) -> list[tuple[str, dict[str, Any], str]]:
    """What readers hold of them, to be compared."""
    return [(part.type, dict(part.fields), part.text) for part in parts]


def text_of(parts: Parts, kind: str = "text") -> str:
    """All text of one type."""
    return "".join(part.text for part in parts if part.type == kind)


def open_one(parts: Parts, kind: str) -> int | None:
    """The part of this type that may grow: all behind it stand inside a text."""
    for number in range(len(parts) - 1, -1, -1):
        if parts[number].type == kind:
            return number
        if "at" not in parts[number].fields:
            return None
    return None


# --- what the model said ------------------------------------------------------------------------


class _Hearer:
    """Deltas as parts. What is dropped, and what is kept behind that, is the rows' business."""

    def __init__(self, message_id: str) -> None:
        self.parts: list[Part] = []
        self._id, self._calls, self._cited = message_id, dict[int, Part](), set[Any]()
        self._thinking: Part | None = None

    def hear(self, delta: Said) -> None:
        """The next one."""
        match delta:
            case base.TextDelta(text):
                self._grow("text", shown(text))
            case base.ReasoningDelta(text):
                self._thinking = self._grow("reasoning", text)
            case base.ReasoningEnd(kept):
                if self._thinking is None and kept is not None:
                    self._thinking = self._put("reasoning", {})
                if self._thinking is not None:
                    self._thinking.kept = kept and kept.value
                self._thinking = None
            case base.SourceDelta():
                self._cite(delta)
            case base.KeptDelta(dialect, kind, value):
                inside = open_one(self.parts, "text") is not None
                fields = {"dialect": dialect, "kind": kind}
                self._put("provider", fields, inside=inside).kept = value
            case base.FileDelta():
                self._file(delta)
            case base.ToolCallStart(index, name, function):
                fields = {"id": name, "name": function, "state": "invalid"}
                self._calls[index] = self._put("tool_call", fields)
            case base.ToolCallArguments(index, words):
                self._calls[index].text += words
            case base.ToolCallEnd(index, kept):
                call = self._calls[index]
                call.text = call.text or "{}"
                call.fields["state"] = "proposed" if _is_object(call.text) else "invalid"
                call.kept = kept and kept.value
            case Pause():
                self._put("step", {})

    def _put(self, kind: str, fields: dict[str, Any], *, inside: bool = False) -> Part:
        at = {"at": units(text_of(self.parts))} if inside else {}
        part = Part(kind, {**{n: v for n, v in fields.items() if v is not None}, **at})
        self.parts.append(part)
        return part

    def _grow(self, kind: str, words: str) -> Part:
        number = open_one(self.parts, kind)
        if kind == "reasoning" and self._thinking is None:
            number = None  # the one before was ended
        part = self._put(kind, {}) if number is None else self.parts[number]
        part.text += words
        return part

    def _cite(self, delta: base.SourceDelta) -> None:
        end = units(text_of(self.parts))
        cites = delta.cites and [max(0, end - back) for back in delta.cites]
        cited = (delta.url, *(cites or ()))
        if delta.kept is None and (delta.url is None or cited in self._cited):
            return
        self._cited.add(cited)
        names = ("title", "media_type", "quote")
        fields = {**{name: getattr(delta, name) for name in names}, "cites": cites}
        fields["url" if str(delta.url).startswith("https") else "address"] = delta.url
        inside = any(open_one(self.parts, kind) is not None for kind in ("text", "reasoning"))
        self._put("source", fields, inside=inside).kept = delta.kept and delta.kept.value

    def _file(self, delta: base.FileDelta) -> None:
        fields: dict[str, Any] = {"media_type": delta.media_type, "url": delta.url}
        if delta.data is not None:
            digest = hashlib.sha256(delta.data).hexdigest()
            fields |= {"size": len(delta.data)}
            if len(delta.data) > FILE_BYTES:
                fields |= {"dropped": True}
            else:
                fields |= {"url": f"/api/messages/{self._id}/files/{digest}"}
        self._put("file", fields).kept = delta.kept and delta.kept.value


def said_as_parts(said: Iterable[Said], message_id: str) -> Parts:
    """What the answer is, if all of this came without a break."""
    hearer = _Hearer(message_id)
    for delta in said:
        hearer.hear(delta)
    return hearer.parts


def is_dropping(said: Iterable[Said]) -> bool:
    """Whether something of it cannot be kept."""
    kepts = (kept_in(delta) for delta in said)
    return any(kept is not None and not is_storable(kept) for kept in kepts)


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


# --- what a log says ----------------------------------------------------------------------------


class LogReader:
    """One answer as somebody holds it who has read the log from the answer's first event on."""

    def __init__(self, message_id: str, complain: Callable[[str], None]) -> None:
        self.parts: list[Part] = []
        self.ended = False
        self._id, self._complain = message_id, complain

    def read(self, event: events.AnyEvent) -> None:
        """The next event. Complains of what does not fit what came before."""
        match event:
            case events.Chunk():
                self._piece("text", event)
            case events.Reasoning():
                self._piece("reasoning", event)
            case events.ToolInput():
                self._input(event)
            case events.PartEvent(part=number, value=value):
                self._part(number, value)
            case events.Reset():
                self._reset(event)
            case events.Complete() | events.Error() | events.Cancelled():
                self._end(event)

    def copy(self) -> "LogReader":
        """Another one that goes its own way."""
        other = LogReader(self._id, self._complain)
        other.parts = [Part(p.type, dict(p.fields), p.text) for p in self.parts]
        return other

    def _piece(self, kind: str, event: events.Chunk | events.Reasoning) -> None:
        if event.part == len(self.parts):
            self.parts.append(Part(kind))
        if event.part != open_one(self.parts, kind) or event.offset != units(
            text_of(self.parts, kind)
        ):
            self._wrong(event)
        else:
            self.parts[event.part].text += event.content

    def _input(self, event: events.ToolInput) -> None:
        part = self.parts[event.part] if 0 <= event.part < len(self.parts) else Part("none")
        if part.fields.get("state") != "streaming" or event.offset != units(part.text):
            self._wrong(event)
        else:
            part.text += event.content

    def _part(self, number: int, value: Mapping[str, Any]) -> None:
        if number == len(self.parts):
            self.parts.append(Part(str(value["type"])))
        elif not 0 <= number < len(self.parts) or self.parts[number].type != value["type"]:
            self._wrong(value)
            return
        fields = self.parts[number].fields
        for name, item in value.items():
            if name != "type":
                fields[name] = item
            if item is None:
                del fields[name]

    def _reset(self, event: events.Reset) -> None:
        if event.keep_parts > len(self.parts):
            self._wrong(event)
        del self.parts[event.keep_parts :]
        for kind, keep in (("text", event.keep), ("reasoning", event.keep_reasoning)):
            surplus = units(text_of(self.parts, kind)) - keep
            number = open_one(self.parts, kind)
            if surplus and (number is None or not 0 < surplus <= units(self.parts[number].text)):
                self._wrong(event)
            elif surplus and number is not None:
                part = self.parts[number]
                part.text = first_units(part.text, units(part.text) - surplus)

    def _end(self, event: events.Terminal) -> None:
        self.ended = True
        total, text = 0, text_of(self.parts)
        for part in self.parts:
            said = part.text if part.type in ("reasoning", "tool_call") else ""
            said = str(units(part.text)) if part.type == "text" else said
            total = zlib.crc32(f"{part.type}\0{said}\0".encode(), total)
        proof = units(text), zlib.crc32(text.encode()), len(self.parts), total
        if proof != (event.length, event.crc32, event.parts, event.parts_crc32):
            self._complain(f"{self._id} ended with {event}, its log proves {proof}: {self.parts}")
        whole = isinstance(event, events.Complete)
        for part in self.parts:
            if part.fields.get("state") == "streaming":
                part.fields["state"] = "invalid"
            elif part.fields.get("state") in ("running", "awaiting_outcome"):
                part.fields["state"] = "unknown"
            elif part.fields.get("state") in NOT_BEGUN and not (whole and _is_callers(part)):
                part.fields["state"] = "withdrawn"
            if part.type == "tool_call":
                part.fields.pop("expires_at", None)

    def _wrong(self, event: object) -> None:
        self._complain(f"{self._id}: {event} does not fit {public(self.parts)}")


def _is_callers(part: Part) -> bool:
    """Whether nobody here was to execute the call."""
    return part.fields["state"] == "proposed" and "runs_at" not in part.fields


# --- what a row says ----------------------------------------------------------------------------


def row_as_parts(row: Any, files: Mapping[str, bytes]) -> Parts:
    """The parts of a whole row. `files`: the bytes of this answer's files, by digest."""
    layout = row.parts
    if layout is None:
        texts = (("reasoning", row.reasoning), ("text", row.content))
        layout = [{"type": kind, "length": units(text)} for kind, text in texts if text]
    rests, parts = {"text": row.content, "reasoning": row.reasoning}, list[Part]()
    for entry in layout:
        kind = entry["type"]
        fields = {n: v for n, v in entry.items() if n not in ("type", "length", "input")}
        text = entry.get("input", "")
        if kind in rests:
            text = first_units(rests[kind], entry["length"])
            rests[kind] = rests[kind][len(text) :]
        parts.append(Part(kind, fields, text))
    for kind, left in rests.items():
        if left:
            parts.append(Part(f"{kind} without a part", {}, left))
    for entry in row.parts_kept or ():
        around = _around(parts, entry["part"], files)
        parts[entry["part"]].kept = _filled(entry["value"], around)
        parts[entry["part"]].ends = entry.get("ends", False)
    return parts


def _around(parts: Parts, number: int, files: Mapping[str, bytes]) -> str:
    """The text that a kept value was stored without."""
    part = parts[number]
    if part.type == "file":
        digest = str(part.fields.get("url")).rpartition("/")[2]
        return base64.b64encode(files.get(digest, b"")).decode()
    if "at" in part.fields and part.type != "reasoning":
        return next((p.text for p in reversed(parts[:number]) if p.type == "text"), "")
    return part.text


def _filled(value: Any, text: str) -> Any:
    match value:
        case {"$text": [int(start), int(length)]}:
            return first_units(text, start + length)[len(first_units(text, start)) :]
        case {"$json": str(escaped)}:
            return json.loads(escaped)
        case dict():
            names = {n: n[1:] if re.fullmatch(r"\$+(text|json)", n) else n for n in value}
            return {names[n]: _filled(item, text) for n, item in value.items()}
        case list():
            return [_filled(item, text) for item in value]
    return value


def by_turn(parts: Parts) -> list[Parts]:
    """The parts of each turn of the provider, as the row notes their ends."""
    found: list[list[Part]] = [[]]
    for part in parts:
        found[-1].append(part)
        if part.ends:
            found.append([])
    return found


def own_files(message_id: str, parts: Parts) -> list[str]:
    """Digests of the files that are ours."""
    start = f"/api/messages/{message_id}/files/"
    urls = [str(part.fields.get("url", "")) for part in parts if part.type == "file"]
    return [url.removeprefix(start) for url in urls if url.startswith(start)]
