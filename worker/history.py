"""Pure: turns an answer's parts into the history that is sent back to its provider.

Guarantees: `history_of` returns the contents of the deltas in order, with every kept value as its
provider wrote it. If one kept value of a turn is missing, it leaves out all of that turn, because
a provider refuses half of them. Other turns of the answer keep theirs.

Why it works this way: the provider gets exactly what readers hold. A kept value is stored without
the text of its part (`protocol/kept.py`), and is completed again here.
"""

import base64
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from tokenwire.protocol import fold
from tokenwire.protocol.files import ANY_MEDIA_TYPE
from tokenwire.protocol.kept import FoldIn, is_lost, steps_between, turns
from tokenwire.protocol.outcomes import outcome_of
from tokenwire.protocol.slices import Slices
from tokenwire.protocol.values import brought_by
from tokenwire.providers import base as deltas
from tokenwire.providers import history
from tokenwire.providers.collected import Collected


def history_of(
    parts: Sequence[fold.Part], files: Mapping[int, bytes]
) -> Sequence[history.HistoryPart]:
    """The parts of an answer for its provider. `files`: the bytes of file parts, by number."""
    return next(_between(parts, files, ()))


def messages_of(
    parts: Sequence[fold.Part],
    files: Mapping[int, bytes],
    texts: Mapping[str, str],
    model: str | None = None,
) -> list[history.HistoryMessage]:
    """The same as messages: an answer that was steered is split where its users' messages came.

    `texts`: the texts of these messages, by id. A step whose messages are none of them only begins
    another turn. `model`: who wrote the answer. Calls that it carried out for an earlier answer
    stand there; here are only their results.
    """
    carried = next((n for n, part in enumerate(parts) if not _is_carried(part)), len(parts))
    if carried:
        made = [history.HistoryMessage("tool", results_of(parts[:carried]))]
        behind = {number - carried: data for number, data in files.items()}
        return made + messages_of(parts[carried:], behind, texts, model)
    cuts = {
        number: found
        for number, part in enumerate(parts)
        if (found := [texts[name] for name in brought_by(part.fields) if name in texts])
    }
    pieces = _between(parts, files, cuts) if cuts else [history_of(parts, files)]
    made = []
    for piece, brought in zip(pieces, [*cuts.values(), []], strict=True):
        if piece:
            made.append(history.HistoryMessage("assistant", piece, model))
        made += [history.HistoryMessage("user", text) for text in brought]
    return made


def _is_carried(part: fold.Part) -> bool:
    return "asked_in" in part.fields and part.fields.get("runs_at") == "server"


def _between(
    parts: Sequence[fold.Part], files: Mapping[int, bytes], cuts: Collection[int]
) -> Iterator[Sequence[history.HistoryPart]]:
    """What stands before, between and behind the parts with these numbers."""
    walk = _Walk(_kept_of(parts, files), steps_between(parts))
    for number, part in enumerate(parts):
        if number in cuts:
            yield walk.take()
        else:
            walk.add(number, part, files.get(number))
    yield walk.take()


def results_of(parts: Sequence[fold.Part]) -> list[history.ResultPart]:
    """The results that these calls have, without the calls themselves."""
    made = (_result_of(part) for part in parts if part.type == "tool_call")
    return [result for result in made if result is not None]


class _Walk:
    """Turns parts into a message. A text is split where another part stands inside it."""

    def __init__(self, kept: Mapping[int, history.Kept], steps: Collection[int]) -> None:
        self._kept, self._steps = kept, steps
        self._collected = Collected()
        self._text, self._start, self._end = Slices(""), 0, 0

    def take(self) -> Sequence[history.HistoryPart]:
        """The parts of the message so far. The next message begins behind them."""
        self._collected.add(deltas.TextDelta(self._text.take()))
        taken, self._collected = self._collected.parts, Collected()
        return taken

    def add(self, number: int, part: fold.Part, data: bytes | None) -> None:
        """Add the next part of the answer."""
        at: int | None = part.fields.get("at")
        until = None if at is None else at - self._start
        self._collected.add(deltas.TextDelta(self._text.take(until)))
        if part.type == "text":
            self._text, self._start = Slices(part.text), part.start
            self._end = part.start + part.units
        elif number in self._steps:
            self._collected.append(history.StepPart())
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
                cites = fields.get("cites")
                back = cites and (place - cites[0], place - cites[1])
                add(deltas.SourceDelta(cites=back, kept=kept))
            case "provider" if kept is not None:
                add(deltas.KeptDelta(kept.dialect, kept.kind, kept.value))
            case "file":
                self._file(fields, kept, data)

    def _file(
        self, fields: Mapping[str, Any], kept: history.Kept | None, data: bytes | None
    ) -> None:
        """Add a file. Our own addresses are left out: a provider cannot read them."""
        url = fields.get("url", fields.get("address"))
        if data is not None or (isinstance(url, str) and url.startswith("/")):
            url = None
        media_type = fields.get("media_type") or ANY_MEDIA_TYPE
        self._collected.add(deltas.FileDelta(media_type, data, url, kept))

    def _call(self, part: fold.Part, kept: history.Kept | None) -> None:
        id_, name = part.fields["id"], part.fields["name"]
        self._collected.append(history.CallPart(id_, name, part.text, kept))
        if (result := _result_of(part)) is not None:
            self._collected.append(result)


def _result_of(call: fold.Part) -> history.ResultPart | None:
    outcome = outcome_of(call.fields)
    if outcome is None:
        return None
    return history.ResultPart(call.fields["id"], call.fields["name"], *outcome)


def _kept_of(parts: Sequence[fold.Part], files: Mapping[int, bytes]) -> dict[int, history.Kept]:
    """The kept values that go back, by number."""
    found: dict[int, history.Kept] = {}
    for turn in turns(parts):
        found |= _kept_in(turn, parts, files)
    return found


def _kept_in(
    turn: range, parts: Sequence[fold.Part], files: Mapping[int, bytes]
) -> dict[int, history.Kept]:
    """All kept values of one turn, by number. None of them if one is missing."""
    found: dict[int, history.Kept] = {}
    folded: dict[int, FoldIn] = {}  # by the identity of the text: a text may be long
    for number in turn:
        part = parts[number]
        if is_lost(part):
            return {}
        if part.kept is None:
            continue
        text = text_around(parts, number, files.get(number, b""))
        try:
            value = folded.setdefault(id(text), FoldIn(text)).value(part.kept["value"])
        except ValueError:
            return {}
        found[number] = history.Kept(part.kept["dialect"], part.kept["kind"], value)
    return found


def text_around(parts: Sequence[fold.Part], number: int, data: bytes) -> str:
    """The text that a kept value is stored without: that of its part, or of the part around it.

    For a file, this is its bytes (`data`) in base64.
    """
    part = parts[number]
    if part.type == "file":
        return base64.b64encode(data).decode()
    if "at" not in part.fields or part.type == "reasoning":
        return part.text
    return next((one.text for one in reversed(parts[:number]) if one.type == "text"), "")
