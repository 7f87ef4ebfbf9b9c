"""The messages of a request, in both dialects, as turns that become rows.

Guarantees: in what comes out, each call has exactly one result, in the turn behind its own. So the
history suits every provider. What does not fit is refused with its place. An approval belongs to a
call that asked for it, with the arguments that the model wrote.

Why it works this way: a client repeats what an answer gave it, in one of two forms. The calls of a
Response are items of their own and belong to the message before them. A chat's message has its
calls inside. Calls of the response that is followed are not repeated: their results come first.

The new answer carries allowed calls out, and their results stand at its beginning. So nothing may
come between a decision and the answer. A request or a decision whose `mcp_call` is repeated, too,
is history, and dropped: that item says what became of the call.

Rejected: sorting late results behind their calls (OpenAI refuses them in chats, and the sentence in
between was written without them).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from tokenwire.models.approvals import CallerDecision
from tokenwire.models.responses import PastCall, PastRole, PastTurn
from tokenwire.protocol.fold import Answer
from tokenwire.protocol.states import MAX_SENTENCE_CHARS
from tokenwire.web.calls import CallIds
from tokenwire.web.openai.errors import OpenAIProblem, unsupported
from tokenwire.web.openai.objects import SERVER_LABEL, Head, request_id

_TEXTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
"""Types of content parts that are text, and the member that holds it."""
MAX_CALLS = 1000
"""Calls of one turn: as many as a model may make."""
_ROLES: dict[str, Literal["system", "user", "assistant"]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}


@dataclass(frozen=True, slots=True)
class Owed:
    """The calls of the response that is followed, by the ids that its client knows.

    `open`: they may get a result. `required`: they must. `ended`: they had no valid arguments, and
    the model knows; a result is ignored. `requests`: they need an approval; `repeated`: so do
    these, of other answers that the input may repeat.
    """

    open: Mapping[str, PastCall] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    ended: frozenset[str] = frozenset()
    requests: Mapping[str, PastCall] = field(default_factory=dict)
    repeated: Mapping[str, PastCall] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AskedTurns:
    """The turns of a request. `decided`: calls that it allows or denies."""

    turns: Sequence[PastTurn]
    decided: Sequence[PastCall] = ()

    @property
    def approved(self) -> set[str]:
        """The names of tools whose calls are allowed."""
        return {call.name for call in self.decided if call.approve}

    def approvals(self, expires_in_ms: int) -> list[CallerDecision]:
        """The decisions. `expires_in_ms`: how long after its end an answer's call can wait."""
        return [
            CallerDecision(*call.asked_in, call.id, bool(call.approve), call.reason, expires_in_ms)
            for call in self.decided
            if call.asked_in is not None
        ]


def requests_of(answer: Answer, functions: frozenset[str] | None) -> dict[str, PastCall]:
    """The calls of an ended answer that need an approval, by the ids of their items."""
    head, found = (
        Head(answer.id, "", 0, functions=functions, asks_caller=True),
        dict[str, PastCall](),
    )
    for number, part in enumerate(answer.parts):
        if part.fields.get("state") == "proposed" and head.is_request(part):
            known, name = str(part.fields["id"]), str(part.fields["name"])
            asked_in = (answer.id, number)
            call = PastCall(known, name, part.text, asked_in=asked_in)
            found[request_id(answer.id, part, number)] = call
    return found


def owed_by(answer: Answer, functions: frozenset[str] | None = None) -> Owed:
    """What an ended answer has left to its caller. `functions`: as in `Head`."""
    open_, required, ended = dict[str, PastCall](), set[str](), set[str]()
    requests = requests_of(answer, functions)
    asked = {call.asked_in for call in requests.values()}
    ids = CallIds()
    for number, part in enumerate(answer.parts):
        if part.type != "tool_call" or (answer.id, number) in asked:
            continue
        name, state = ids.of(answer.parts, number), part.fields.get("state")
        if state == "proposed":
            known = str(part.fields["id"])
            shown_as = None if name == known else name
            open_[name] = PastCall(known, str(part.fields["name"]), shown_as=shown_as)
            if part.fields.get("runs_at") == "caller":
                required.add(name)
        elif state == "invalid":
            ended.add(name)
    return Owed(open_, frozenset(required), frozenset(ended), requests)


def turns_of_items(items: str | Sequence[Mapping[str, Any]], owed: Owed) -> AskedTurns:
    """The turns of a Response's `input`. Raises OpenAIProblem (400)."""
    turns = _Turns("input", owed)
    if isinstance(items, str):
        items = [{"role": "user", "content": items}]
    turns.settled = _settled(items)
    for number, item in enumerate(items):
        _add_item(turns, item, f"input[{number}]")
    return AskedTurns(turns.checked(), turns.decided)


def turns_of_messages(messages: Sequence[Mapping[str, Any]]) -> list[PastTurn]:
    """The turns of a chat's `messages`. Raises OpenAIProblem (400)."""
    turns = _Turns("messages", Owed())
    for number, message in enumerate(messages):
        _add_message(turns, message, f"messages[{number}]")
    return turns.checked()


@dataclass(slots=True)
class _Turn:
    """A turn that grows: pieces, because thousands of calls may belong to one."""

    role: PastRole
    texts: list[str] = field(default_factory=list)
    calls: list[PastCall] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)

    @property
    def past(self) -> PastTurn:
        """The turn as it is stored."""
        return PastTurn(self.role, "".join(self.texts), tuple(self.calls))


class _Turns:
    """Collects turns in order."""

    def __init__(self, param: str, owed: Owed) -> None:
        self._param, self._owed = param, owed
        self._turns: list[_Turn] = []
        self._open = dict(owed.open)
        """Calls without a result, by the ids that the client knows."""
        self._required = dict.fromkeys(owed.required)
        self._requests = dict(owed.requests)
        """Calls without a decision, by the ids of their items."""
        self.decided = list[PastCall]()
        self.settled: set[str] = set()
        """Ids of requests whose outcome the input repeats."""

    def message(self, turn: PastTurn, place: str) -> None:
        """Add a message without calls. An answer's text may also come behind its calls."""
        if turn.role == "assistant" and self._required and self._last_is("assistant"):
            self._turns[-1].texts.append(turn.content)
            return
        self._require_results(place)
        if turn.content.strip():
            self._turns.append(_Turn(turn.role, [turn.content]))

    def request(self, id_: str, call: PastCall, place: str) -> None:
        """Add a call that needs an approval. `call`: what the item says."""
        if id_ in self.settled or id_ in self._owed.requests:
            return
        known = self._owed.repeated.get(id_)
        if known is None or (known.name, known.input) != (call.name, call.input):
            raise _invalid(place, f"No approval request found with id {id_[:80]}, and this call.")
        mine = replace(known, id=id_)
        self.call(mine, place)
        self._requests[id_] = mine

    def decide(self, id_: str, approve: bool, reason: str | None, place: str) -> None:
        """Add the decision about a call."""
        if id_ in self.settled:
            return
        call = self._requests.pop(id_, None)
        if call is None:
            raise _invalid(place, f"No approval request found with id {id_[:80]}.")
        if len(reason or "") > MAX_SENTENCE_CHARS:
            most = f"A reason has at most {MAX_SENTENCE_CHARS} characters."
            raise _invalid(f"{place}.reason", f"{place}.reason: {most}")
        if not self._last_is("tool"):
            self._turns.append(_Turn("tool"))
        self.decided.append(replace(call, approve=approve, reason=reason))
        self._turns[-1].calls.append(replace(self.decided[-1], input=""))

    def call(self, call: PastCall, place: str) -> None:
        """Add a call to the present turn of the assistant, or begin one."""
        if not self._last_is("assistant"):
            self._require_results(place)
            self._turns.append(_Turn("assistant"))
        turn = self._turns[-1]
        if call.id in turn.ids:
            raise _invalid(place, f"Two calls of one turn have the id {call.id[:80]!r}.")
        if len(turn.calls) >= MAX_CALLS:
            raise _invalid(place, f"There are more than {MAX_CALLS} calls in one turn.")
        turn.ids.add(call.id)
        turn.calls.append(call)
        if call.state == "proposed" and call.asked_in is None:
            self._open[call.id] = call
            self._required[call.id] = None

    def result(self, name: str, text: str, place: str) -> None:
        """Add the result of a call."""
        if name in self._owed.ended and name not in self._open:
            return
        call = self._open.pop(name, None)
        if call is None:
            raise _invalid(
                place, f"No tool call found for function call output with call_id {name[:80]}."
            )
        self._required.pop(name, None)
        if not self._last_is("tool"):
            self._turns.append(_Turn("tool"))
        self._turns[-1].calls.append(replace(call, input="", state="done", result=text))

    def checked(self) -> list[PastTurn]:
        """All turns. Raises OpenAIProblem (400) if a result is missing, or there is nothing to
        answer.
        """
        self._require_results(self._param, last=True)
        if not any(turn.role != "system" for turn in self._turns):
            raise _invalid(self._param, f"{self._param} holds nothing to answer.")
        return [turn.past for turn in self._turns]

    def _last_is(self, role: PastRole) -> bool:
        return bool(self._turns) and self._turns[-1].role == role

    def _require_results(self, place: str, *, last: bool = False) -> None:
        if self.decided and not last:
            raise _invalid(place, "Nothing may come behind an approval: send it with the next one.")
        if self.decided and (missing := next(iter(self._requests), None)):
            raise _invalid(place, f"No approval response found for {missing[:80]}.")
        if missing := next(iter(self._required), None):
            raise _invalid(
                place,
                f"No tool output found for function call {missing[:80]}: it must come behind the "
                "call, before anything else.",
            )
        self._open.clear()
        self._requests.clear()


# --- items of a Response --------------------------------------------------------------------------


def _add_item(turns: _Turns, item: Mapping[str, Any], place: str) -> None:
    kind = item.get("type", "message")
    match kind:
        case "message":
            turns.message(_message(item, place), place)
        case "function_call":
            name, arguments = _text(item, "name", place), _text(item, "arguments", place)
            turns.call(PastCall(_text(item, "call_id", place), name, arguments), place)
        case "function_call_output":
            text = _content(item.get("output"), f"{place}.output")
            turns.result(_text(item, "call_id", place), text, place)
        case "mcp_call":
            turns.call(_call_of_server(item, place), place)
        case "mcp_approval_request":
            turns.request(_text(item, "id", place), _named_call(item, place), place)
        case "mcp_approval_response":
            approve, reason = item.get("approve"), item.get("reason")
            if not isinstance(approve, bool) or not isinstance(reason, str | None):
                raise _invalid(place, f"{place}: approve is true or false, and reason is text.")
            id_ = _text(item, "approval_request_id", place)
            turns.decide(id_, approve, (reason or "").strip() or None, place)
        case "reasoning":  # a model's earlier thoughts are ignored
            pass
        case _:
            raise unsupported(place, f"Items of type {str(kind)[:80]!r} are not supported here.")


def open_requests(items: Sequence[Mapping[str, Any]]) -> set[str]:
    """The ids of approval requests that items repeat or answer, and whose outcome they lack."""
    found = {str(item.get("id")) for item in items if _is(item, "mcp_approval_request")}
    found |= {
        str(item.get("approval_request_id")) for item in items if _is(item, "mcp_approval_response")
    }
    return found - _settled(items)


def _settled(items: Sequence[Mapping[str, Any]]) -> set[str]:
    return {str(item.get("approval_request_id")) for item in items if _is(item, "mcp_call")}


def _is(item: Mapping[str, Any], kind: str) -> bool:
    return bool(item.get("type") == kind)


def _named_call(item: Mapping[str, Any], place: str) -> PastCall:
    """What an item says about a call of the server."""
    if item.get("server_label") != SERVER_LABEL:
        raise unsupported(f"{place}.server_label", f"The only server here is {SERVER_LABEL}.")
    id_, name = _text(item, "id", place), _text(item, "name", place)
    return PastCall(id_, name, _text(item, "arguments", place))


def _call_of_server(item: Mapping[str, Any], place: str) -> PastCall:
    call = _named_call(item, place)
    error, output = item.get("error"), item.get("output")
    if error is not None or not isinstance(output, str):
        text = error if isinstance(error, str) else None
        return replace(call, state="failed", error=text)
    return replace(call, state="done", result=output)


# --- messages of a chat ---------------------------------------------------------------------------


def _add_message(turns: _Turns, message: Mapping[str, Any], place: str) -> None:
    if message.get("function_call") or message.get("role") == "function":
        raise unsupported(place, "Functions are not supported here: use tools.")
    if message.get("role") == "tool":
        text = _content(message.get("content"), f"{place}.content")
        turns.result(_text(message, "tool_call_id", place), text, place)
        return
    turn = _message(message, place)
    calls = message.get("tool_calls") or ()
    if calls and turn.role != "assistant":
        raise _invalid(f"{place}.tool_calls", f"{place}: only an assistant calls tools.")
    turns.message(turn, place)
    for number, call in enumerate(_list(calls, f"{place}.tool_calls")):
        inner = f"{place}.tool_calls[{number}]"
        turns.call(_chat_call(call, inner), inner)


def _chat_call(call: Mapping[str, Any], place: str) -> PastCall:
    kind, function = call.get("type", "function"), call.get("function")
    if kind != "function":
        raise unsupported(place, f"Calls of type {str(kind)[:80]!r} are not supported here.")
    if not isinstance(function, dict):
        raise _invalid(f"{place}.function", f"{place}: no function.")
    name = _text(function, "name", f"{place}.function")
    arguments = _text(function, "arguments", f"{place}.function")
    return PastCall(_text(call, "id", place), name, arguments)


# --- texts ----------------------------------------------------------------------------------------


def _message(message: Mapping[str, Any], place: str) -> PastTurn:
    role = _ROLES.get(str(message.get("role")))
    if role is None:
        raise _invalid(f"{place}.role", f"{place}: no such role.")
    return PastTurn(role, _content(message.get("content"), f"{place}.content"))


def _content(content: Any, place: str) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise _invalid(place, f"{place}: this is text or a list of parts.")
    return "".join(_part(part, f"{place}[{index}]") for index, part in enumerate(content))


def _part(part: Any, place: str) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if isinstance(kind, str) and kind not in _TEXTS:
        raise unsupported(
            place, f"Content of type {kind[:80]!r} is not supported here: only text is."
        )
    text = part.get(_TEXTS[kind]) if isinstance(kind, str) else None
    if not isinstance(text, str):
        raise _invalid(place, f"{place}: no text.")
    return text


def _text(holder: Mapping[str, Any], name: str, place: str) -> str:
    value = holder.get(name)
    if not isinstance(value, str) or (not value and name != "arguments"):
        raise _invalid(f"{place}.{name}", f"{place}.{name}: no text.")
    return value


def _list(value: Any, place: str) -> Iterable[Mapping[str, Any]]:
    if not isinstance(value, list | tuple) or not all(isinstance(one, dict) for one in value):
        raise _invalid(place, f"{place}: this is a list of objects.")
    return value


def _invalid(param: str, message: str) -> OpenAIProblem:
    return OpenAIProblem(400, "invalid_value", message, param)
