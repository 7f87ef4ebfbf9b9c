"""Pure: the tool calls of one answer while they stream, and their arguments at the end.

Arguments have only two forms: a JSON object, or the model's text if it is anything else. Text
cannot be passed to a tool by mistake.
"""

import json
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from tokenwire.protocol.text import strict_json
from tokenwire.providers.amount import LARGE_BYTES, TooMuch, is_too_much
from tokenwire.providers.base import Delta, Kept, ToolCallArguments, ToolCallEnd, ToolCallStart
from tokenwire.providers.fields import Unreadable, place, word

TOOL_CALL = "tool_call"
"""The kind of a call's other fields besides id, name and arguments."""
MAX_CALLS = 1000
"""The most calls in one answer."""
MAX_NAME_CHARS = 1000
"""The longest id or name: ten times the longest that any provider accepts."""
MAX_WAITING_CHARS = 1024 * 1024
"""The most characters of arguments that wait for the name of their call."""


def parsed_arguments(text: str) -> Mapping[str, Any] | str:
    """`text` as an object, or `text` itself. A call without arguments has `{}`."""
    if not text.strip():
        return {}
    if len(text) > LARGE_BYTES and is_too_much(text.encode("utf-8", "replace")):
        return text
    try:
        value = strict_json(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, dict) else text


class ToolCalls:
    """A piece belongs to the call with its index; else with its id; else to the latest.

    A piece with another name, or with a name at a new index, begins a call, whatever its id: some
    servers give two calls of an answer one id. Then the later call gets an id of ours, as if the
    provider had given none. So the ids in the history that goes back are unique.
    """

    def __init__(self, emit: Callable[[Delta], None], dialect: str = "") -> None:
        self._emit = emit
        self._dialect = dialect
        self._calls: list[_ToolCall] = []
        self._by_id: dict[str, _ToolCall] = {}
        self._by_key: dict[Any, _ToolCall] = {}
        """The latest call of each key. Only this one may have no id."""
        self._begun = 0
        self._waiting = 0

    def __bool__(self) -> bool:
        return bool(self._calls)

    def piece(
        self,
        key: Any,
        id: Any,  # noqa: A002 - the provider's word
        name: Any,
        arguments: Any,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        """A piece of a call as it came: any field may be missing or empty.

        `extra`: other fields of the call that must go back with it. Raises Unreadable,
        and TooMuch beyond a limit.
        """
        text, name = _arguments(arguments), _name(name)
        key, id = place(key), _name(id)  # noqa: A001
        call = self._find(key, id, name) or self._new(key)
        if extra:
            call.extra |= extra
        if id and not call.id:
            call.id = id
            call.repeats_id = id in self._by_id
            self._by_id[id] = call
        if text:
            self._wait(call, text)
        if name or call.started:
            self._emit_waiting(call, name or "")

    def _new(self, key: int | str | None) -> "_ToolCall":
        if len(self._calls) >= MAX_CALLS:
            raise TooMuch(f"more than {MAX_CALLS} tool calls")
        call = _ToolCall(key)
        self._calls.append(call)
        if key is not None:
            self._by_key[key] = call
        return call

    def _wait(self, call: "_ToolCall", text: str) -> None:
        if call.ended:
            raise Unreadable("arguments for a call that has ended")
        self._waiting += len(text)
        if self._waiting > MAX_WAITING_CHARS and not call.started:
            raise TooMuch("arguments of a call without a name")
        call.pieces.append(text)

    def _emit_waiting(self, call: "_ToolCall", name: str) -> None:
        """Emit what waits. A call begins with its name, although some servers send arguments before
        it.
        """
        if not call.started:
            call.started, call.name = True, name
            call.index, self._begun = self._begun, self._begun + 1
            given = None if call.repeats_id else call.id
            own = given or f"call_{uuid.uuid4().hex[:24]}"
            self._emit(ToolCallStart(call.index, own, name, made_up=given is None))
        for piece in call.pieces:
            self._emit(ToolCallArguments(call.index, piece))
            self._waiting -= len(piece)
        call.argued = call.argued or bool(call.pieces)
        call.pieces.clear()

    def known(self, key: Any) -> bool:
        """Whether a call with this key has begun, with its name."""
        call = self._by_key.get(key)
        return call is not None and call.started

    def whole(self, key: Any, arguments: Any) -> None:
        """All arguments of a call at once, after no pieces. Raises as `piece`."""
        call = self._find(key, None, None)
        if call and not (call.pieces or call.argued):
            self.piece(key, None, None, arguments)

    def end(self, key: Any) -> None:
        """No more arguments for this call."""
        call = self._find(key, None, None)
        if call:
            self._end(call)

    def end_all(self) -> None:
        """No more arguments for any call."""
        for call in self._calls:
            self._end(call)

    def _end(self, call: "_ToolCall") -> None:
        if call.ended:
            return
        call.ended = True
        self._emit_waiting(call, "")
        if not call.argued:
            self._emit(ToolCallArguments(call.index, "{}"))  # a call without arguments has none
        kept = Kept(self._dialect, TOOL_CALL, call.extra) if call.extra else None
        self._emit(ToolCallEnd(call.index, kept))

    def _find(
        self,
        key: int | str | None,
        id: str | None,  # noqa: A002
        name: str | None,
    ) -> "_ToolCall | None":
        """The call that a piece belongs to. None: it begins one."""
        call = self._by_key.get(key)
        if key is None and not id and not name and self._calls:
            call = self._calls[-1]
        if id and (call is None or call.id != id):
            known = self._by_id.get(id)
            if known and (key in (None, known.key) or not name):
                call = known
            elif call and call.id and name:
                return None
        return None if call and name and call.name not in (None, name) else call


class _ToolCall:
    __slots__ = (
        *("argued", "ended", "extra", "id", "index", "key", "name", "pieces", "repeats_id"),
        "started",
    )

    def __init__(self, key: int | str | None) -> None:
        self.index = 0
        self.key = key
        self.id: str | None = None
        self.repeats_id = False
        """An earlier call has the same id."""
        self.name: str | None = None
        """None until it has started."""
        self.extra: dict[str, Any] = {}
        self.pieces: list[str] = []
        """Arguments that wait for the name."""
        self.started = False
        self.argued = False
        self.ended = False


def _name(value: Any) -> str | None:
    name = word(value)
    if name and len(name) > MAX_NAME_CHARS:
        raise Unreadable(f"a name of {len(name)} characters")
    return name


def _arguments(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if not isinstance(value, dict | list):
        raise Unreadable("arguments are neither text nor an object")
    return json.dumps(value, ensure_ascii=False)
