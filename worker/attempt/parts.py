"""Pure: deltas as the events of parts, and an answer's parts as the history that is sent back.

Guarantees: `history_of` gives back what the deltas held, in order, with every kept value as its
provider wrote it; or, where one of them is missing, without any of them.

Why it works this way: the answer is the fold of the events, so what is sent back is what readers
hold. A kept value is stored without the text of its part (`protocol/kept.py`): of the text that it
stands in where it stands inside one, of the bytes in base64 where it is a file's.

Rejected: a state of its own beside the fold (the two would differ after the first reset).
"""

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tokenwire.protocol import events, fold
from tokenwire.protocol.kept import fold_in, fold_out
from tokenwire.protocol.slices import Slices
from tokenwire.providers import base as deltas
from tokenwire.providers import history
from tokenwire.providers.collected import Collected
from tokenwire.providers.tool_calls import parsed_arguments


class PartsTaken:
    """What an attempt has taken, as parts. `answer`: what is held already; it is changed.

    `files`: the bytes of file parts, by number; they are stored before their event is appended.
    """

    def __init__(self, answer: fold.Answer, attempt: int) -> None:
        self.answer = answer
        self.files: dict[int, bytes] = {}
        self._attempt = attempt
        self._calls: dict[int, int] = {}
        self._reasoning: int | None = None

    def take(self, delta: deltas.Delta) -> Iterator[events.AnyEvent]:
        """The events that say this; each is applied to `answer` before the next one is given."""
        match delta:
            case deltas.TextDelta(text) | deltas.RefusalDelta(text) if text:
                yield self._said(events.Chunk, self.answer.open_text, self._text_end, text)
            case deltas.ReasoningDelta(text) if text:
                yield self._thought(text)
            case deltas.ReasoningEnd(kept):
                yield from self._end_reasoning(kept)
            case deltas.SourceDelta():
                fields = _named(url=delta.url, title=delta.title, media_type=delta.media_type)
                cites = self._cites(delta.cites)
                yield self._beside("source", {**fields, **_named(cites=cites, quote=delta.quote)})
                self._keep(self._last, delta.kept)
            case deltas.KeptDelta(dialect, kind):
                yield self._beside("provider", {"dialect": dialect, "kind": kind})
                self._keep(self._last, delta)
            case deltas.FileDelta(media_type, data, url, kept):
                size = None if data is None else len(data)
                yield self._open("file", _named(media_type=media_type, url=url, size=size))
                if data is not None:
                    self.files[self._last] = data
                self._keep(self._last, kept)
            case _:
                yield from self._take_call(delta)

    def _take_call(self, delta: deltas.Delta) -> Iterator[events.AnyEvent]:
        match delta:
            case deltas.ToolCallStart(index, id, name):
                yield self._open("tool_call", {"id": id, "name": name, "state": "streaming"})
                self._calls[index] = self._last
            case deltas.ToolCallArguments(index, text) if text:
                number = self._calls[index]
                yield self._applied(
                    events.ToolInput(
                        self.answer.id,
                        self._attempt,
                        self.answer.parts[number].units,
                        text,
                        number,
                    )
                )
            case deltas.ToolCallEnd(index, kept):
                number = self._calls.pop(index)
                whole = isinstance(parsed_arguments(self.answer.parts[number].text), Mapping)
                state = "proposed" if whole else "invalid"
                yield self._part(number, {"type": "tool_call", "state": state})
                self._keep(number, kept)

    @property
    def _last(self) -> int:
        return len(self.answer.parts) - 1

    @property
    def _text_end(self) -> int:
        texts = (part for part in reversed(self.answer.parts) if part.type == "text")
        last = next(texts, None)
        return last.start + last.units if last else 0

    @property
    def _reasoning_end(self) -> int:
        thoughts = (part for part in reversed(self.answer.parts) if part.type == "reasoning")
        last = next(thoughts, None)
        return last.start + last.units if last else 0

    def _said(
        self,
        kind: type[events.Chunk | events.Reasoning],
        number: int | None,
        offset: int,
        text: str,
    ) -> events.AnyEvent:
        part = len(self.answer.parts) if number is None else number
        return self._applied(kind(self.answer.id, self._attempt, offset, text, part))

    def _thought(self, text: str) -> events.AnyEvent:
        awaits_end = self._reasoning == self.answer.open_reasoning
        number = self._reasoning if awaits_end else None
        event = self._said(events.Reasoning, number, self._reasoning_end, text)
        self._reasoning = self._last if number is None else number
        return event

    def _end_reasoning(self, kept: deltas.Kept | None) -> Iterator[events.AnyEvent]:
        number, self._reasoning = self._reasoning, None
        if number is None and kept is not None:
            yield self._open("reasoning", {})
            number = self._last
        if number is not None:
            self._keep(number, kept)

    def _cites(self, back: tuple[int, int] | None) -> list[int] | None:
        end = self._text_end
        return None if back is None else [max(0, end - back[0]), max(0, end - back[1])]

    def _beside(self, kind: str, fields: Mapping[str, Any]) -> events.AnyEvent:
        """A part that stands inside an open text does not end it."""
        inside = self.answer.open_text is not None
        return self._open(kind, {**fields, **({"at": self._text_end} if inside else {})})

    def _open(self, kind: str, fields: Mapping[str, Any]) -> events.AnyEvent:
        return self._part(len(self.answer.parts), {"type": kind, **fields})

    def _part(self, number: int, value: dict[str, Any]) -> events.AnyEvent:
        return self._applied(events.PartEvent(self.answer.id, self._attempt, number, value))

    def _applied(self, event: events.AnyEvent) -> events.AnyEvent:
        self.answer.apply(event)
        return event

    def _keep(self, number: int, kept: deltas.Kept | None) -> None:
        if kept is not None:
            text = _text_around(self.answer.parts, number, self.files)
            value = fold_out(kept.value, text)
            part = self.answer.parts[number]
            part.kept = {"dialect": kept.dialect, "kind": kept.kind, "value": value}


def history_of(parts: Sequence[fold.Part], files: Mapping[int, bytes]) -> Sequence[history.Part]:
    """An answer as it is sent back. `files`: the bytes of its file parts, by number."""
    walk = _Walk(_kept_of(parts, files))
    for number, part in enumerate(parts):
        walk.add(number, part, files.get(number))
    return walk.parts()


class _Walk:
    """The parts of an answer on their way into a message: text is cut where others stand in it."""

    def __init__(self, kept: Mapping[int, history.Kept]) -> None:
        self._kept = kept
        self._collected = Collected()
        self._text, self._start, self._end = Slices(""), 0, 0

    def parts(self) -> Sequence[history.Part]:
        """All of them."""
        self._collected.add(deltas.TextDelta(self._text.take()))
        return self._collected.parts

    def add(self, number: int, part: fold.Part, data: bytes | None) -> None:
        """The next one."""
        at: int | None = part.fields.get("at")
        until = None if at is None else at - self._start
        self._collected.add(deltas.TextDelta(self._text.take(until)))
        if part.type == "text":
            self._text, self._start = Slices(part.text), part.start
            self._end = part.start + part.units
        else:
            self._put(part, self._kept.get(number), self._end if at is None else at, data)

    def _put(
        self, part: fold.Part, kept: history.Kept | None, place: int, data: bytes | None
    ) -> None:
        fields, add = part.fields, self._collected.add
        match part.type:
            case "reasoning":
                self._collected.append(history.ReasoningPart(part.text, kept))
            case "tool_call":
                self._call(part, kept)
            case "source" if kept is not None:
                start, end = fields.get("cites") or (place, place)
                add(deltas.SourceDelta(cites=(place - start, place - end), kept=kept))
            case "provider" if kept is not None:
                add(deltas.KeptDelta(kept.dialect, kept.kind, kept.value))
            case "file":
                url = None if data is not None else fields.get("url")
                add(deltas.FileDelta(fields["media_type"], data, url, kept))
            case "step":
                self._collected.append(history.StepPart())

    def _call(self, part: fold.Part, kept: history.Kept | None) -> None:
        id_, name = part.fields["id"], part.fields["name"]
        self._collected.append(history.CallPart(id_, name, part.text, kept))
        failed = "error" in part.fields
        result = part.fields.get("error" if failed else "result")
        if result is not None:
            text = result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)
            self._collected.append(history.ResultPart(id_, name, text, failed))


def _kept_of(parts: Sequence[fold.Part], files: Mapping[int, bytes]) -> dict[int, history.Kept]:
    """All kept values of an answer, or none: half of them would make the provider refuse it."""
    found: dict[int, history.Kept] = {}
    for number, part in enumerate(parts):
        if part.fields.get("dropped"):
            return {}
        if part.kept is None:
            continue
        try:
            value = fold_in(part.kept["value"], _text_around(parts, number, files))
        except ValueError:
            return {}
        found[number] = history.Kept(part.kept["dialect"], part.kept["kind"], value)
    return found


def _text_around(parts: Sequence[fold.Part], number: int, files: Mapping[int, bytes]) -> str:
    """What a kept value is stored without: the text of its part, or the one that it stands in."""
    part = parts[number]
    if part.type == "file":
        return base64.b64encode(files.get(number, b"")).decode()
    if "at" not in part.fields or part.type == "reasoning":
        return part.text
    return next((one.text for one in reversed(parts[:number]) if one.type == "text"), "")


def _named(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
