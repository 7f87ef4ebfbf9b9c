"""Pure: events in order, messages kept up to date, and what to do after a close. The rules are those of PROTOCOL.md.

`Order` puts events into the order of `seq`; `Transcript` applies them to the rows that were read; `after_close` decides how to go on.
Nothing here waits or knows of a socket. Offsets and lengths are UTF-16 code units, as on the wire.
"""

import bisect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tokenwire.protocol.cursors import Cursor
from tokenwire.protocol.states import ENDED
from tokenwire.protocol.text import checksum, cut, utf16_length

PENDING_MAX = 512
"""Events held back for a missing one."""
_FOR_GOOD = frozenset({4400, 4403, 4404, 400, 401, 403, 404})

Event = Mapping[str, Any]
Row = Mapping[str, Any]


# --- order ------------------------------------------------------------------------------------------------------------


class Order:
    """Puts events into the order of `seq`: repeats vanish, early ones wait. A merged chunk stands for `from_seq` to `seq`."""

    def __init__(self, cursor: Cursor) -> None:
        self.epoch, self.seq = cursor
        self._pending: list[Event] = []

    @property
    def cursor(self) -> Cursor:
        """Everything up to here was given out."""
        return Cursor(self.epoch, self.seq)

    @property
    def waiting(self) -> bool:
        """An event is missing."""
        return bool(self._pending)

    @property
    def overfull(self) -> bool:
        """So much waits for a missing event that it will not come any more."""
        return len(self._pending) > PENDING_MAX

    def fork(self, epoch: str) -> None:
        """The log goes on under another name; what waits may not be part of it."""
        self.epoch = epoch
        self._pending.clear()

    def push(self, event: Event) -> list[Event]:
        """The events that may be applied now."""
        ready = []
        if self._take(event):
            ready.append(event)
        elif event["seq"] > self.seq:
            self._hold(event)
        while ready and self._pending and _first(self._pending[0]) <= self.seq + 1:
            following = self._pending.pop(0)
            if self._take(following):
                ready.append(following)
        return ready

    def _take(self, event: Event) -> bool:
        if event["seq"] <= self.seq or _first(event) > self.seq + 1:
            return False
        self.seq = event["seq"]
        return True

    def _hold(self, event: Event) -> None:
        at = bisect.bisect_right(self._pending, _first(event), key=_first)
        if at == 0 or self._pending[at - 1]["seq"] != event["seq"]:
            self._pending.insert(at, event)


def _first(event: Event) -> int:
    return int(event.get("from_seq", event["seq"]))


# --- messages ---------------------------------------------------------------------------------------------------------


@dataclass(eq=False, slots=True)
class LiveMessage:
    """A row, kept up to date. `content` is the text to show, `applied` the text according to the log.

    `retry`: {code, delay_ms, try, max_tries} while another attempt is awaited. `proven`: whether the terminal event's length and checksum
    are those of the text; None when no such event was seen. `by`: who stopped it. `seams`: where a broken answer was carried on.
    `row`: the row as it was read last, with the fields that have no attribute here.
    """

    id: str
    role: str = "assistant"
    status: str = "queued"
    content: str = ""
    applied: str = ""
    reasoning: str = ""
    ordinal: float = math.inf
    rev: int = 0
    seq: int = 0
    attempt: int = 0
    model: str | None = None
    finish_reason: str | None = None
    error: Mapping[str, Any] | None = None
    usage: Mapping[str, Any] | None = None
    parent_id: str | None = None
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    sources: list[Event] = field(default_factory=list)
    retry: Mapping[str, Any] | None = None
    proven: bool | None = None
    by: str | None = None
    seams: list[int] = field(default_factory=list)
    row: Row = field(default_factory=dict, repr=False)
    _longer: str | None = None

    @property
    def ended(self) -> bool:
        """Whether it is final."""
        return self.status in ENDED

    @property
    def running(self) -> bool:
        """An answer that is yet to end."""
        return self.role == "assistant" and not self.ended

    def show(self, longer: str | None) -> None:
        """Let `content` be what the log says, or `longer`, if that is its beginning."""
        keep = (
            longer is not None
            and len(longer) > len(self.applied)
            and longer.startswith(self.applied)
        )
        self._longer = longer if keep else None
        self.content = self.applied if self._longer is None else self._longer

    def grown(self) -> None:
        """`applied` has become longer."""
        self.show(self._longer)


_PLAIN = (
    "role",
    "status",
    "ordinal",
    "rev",
    "attempt",
    "model",
    "finish_reason",
    "error",
    "usage",
    "parent_id",
)
_LOGGED = frozenset({"status", "finish_reason", "error", "usage"})
"""What only the log may change in an answer that is held."""


def fresh(row: Row, before: LiveMessage | None = None) -> LiveMessage:
    """A message from a row. Text that was shown stays while the row's is a beginning of it and no end is known."""
    message = LiveMessage(
        id=row["id"],
        row=row,
        seq=row.get("seq") or 0,
        applied=row.get("content") or "",
        reasoning=row.get("reasoning") or "",
    )
    _take_over(message, row, _PLAIN)
    message.tool_calls = [dict(call) for call in row.get("tool_calls") or ()]
    message.sources = before.sources if before else []
    message.show(before.content if before and not message.ended else None)
    return message


def _take_over(message: LiveMessage, row: Row, names: Iterable[str]) -> None:
    for name in names:
        if name in row:
            setattr(message, name, row[name])


class Transcript:
    """The messages of a conversation, in order."""

    def __init__(self) -> None:
        self.conversation: dict[str, Any] = {}
        self.messages: list[LiveMessage] = []
        self.next: int | None = None
        """What to ask before for older messages; None: there are none."""
        self._by_id: dict[str, LiveMessage] = {}
        self._doubted: set[str] = set()  # checksums that failed once: read again, then believed
        self._replaced: set[str] = set()  # no longer part of the conversation

    def get(self, message_id: str) -> LiveMessage | None:
        """The message of this id."""
        return self._by_id.get(message_id)

    @property
    def running(self) -> bool:
        """Whether an answer is yet to end."""
        return any(message.running for message in self.messages)

    def load(self, snapshot: Mapping[str, Any]) -> None:
        """Begin (again) with what `GET /api/conversations/{id}` gave. Older pages that were read before stay."""
        rows, before = snapshot["messages"], self._by_id
        first = before.get(rows[0]["id"]) if rows else None
        earlier = self.messages[: self.messages.index(first)] if first else []
        self.conversation = dict(snapshot["conversation"])
        self.messages, self._by_id = [], {}
        if not earlier:
            self.next = snapshot.get("next")
        for message in [*earlier, *(fresh(row, before.get(row["id"])) for row in rows)]:
            self._place(message)

    def prepend(self, page: Mapping[str, Any]) -> None:
        """An older page."""
        self.next = page.get("next")
        for row in page["messages"]:
            if row["id"] not in self._by_id:
                self._place(fresh(row))

    def admit(self, row: Row, seq: int = 0) -> LiveMessage | None:
        """A new or changed row, of which the log tells at `seq` (the row's own `seq` may be another epoch's)."""
        held = self._by_id.get(row["id"])
        if row["id"] in self._replaced:
            return None
        if held is None:
            held = fresh({**row, "seq": min(row.get("seq") or 0, seq)})
            self._place(held)
        elif row["rev"] > held.rev:
            self._revise(held, row)
        self._replace(
            held
        )  # of one that was held, too: older events may have brought back what it replaced
        return held

    def release(self) -> None:
        """Everything is here: longer text that was kept until the log had caught up is not kept any more."""
        for message in self.messages:
            message.show(None)

    def forked(self, seq: int) -> None:
        """The log is another one behind `seq`: what a row says of later events does not hold there."""
        for message in self.messages:
            message.seq = min(message.seq, seq)

    def apply(self, event: Event) -> bool:
        """Apply the next event. False: what is held cannot be right, the conversation must be read again."""
        kind, message_id = event["type"], event.get("message_id")
        if kind == "message":
            self.admit(event["message"], event["seq"])
        elif kind == "title":
            self._rename(event)
        elif kind in _CHANGES and isinstance(message_id, str) and message_id not in self._replaced:
            message = self._by_id.get(message_id) or self._stub(event)
            if (
                message is not None and event["seq"] > message.seq
            ):  # else the row that was read holds it already
                return self._change(message, event)
        return True

    def _change(self, message: LiveMessage, event: Event) -> bool:
        if event["type"] in ENDED:
            return self._end(message, event)
        return message.ended or _CHANGES[event["type"]](message, event)

    def _end(self, message: LiveMessage, event: Event) -> bool:
        proven = (utf16_length(message.applied), checksum(message.applied)) == (
            event["length"],
            event["crc32"],
        )
        if not proven and message.id not in self._doubted:
            self._doubted.add(message.id)
            return False
        message.proven = proven
        if not message.ended:
            _CHANGES[event["type"]](message, event)
        return True

    def _place(self, message: LiveMessage) -> None:
        bisect.insort_right(self.messages, message, key=lambda held: held.ordinal)
        self._by_id[message.id] = message

    def _revise(self, held: LiveMessage, row: Row) -> None:
        """The text of an answer comes from its chunks alone, and only a terminal event ends it."""
        held.row = row
        if held.role == "assistant":
            _take_over(held, row, (name for name in _PLAIN if name not in _LOGGED))
            if not held.ended and row["status"] not in ENDED:
                held.status = row["status"]
        else:
            _take_over(held, row, _PLAIN)
            held.applied = row.get("content") or ""
            held.show(None)
        self.messages.remove(held)
        self._place(held)

    def _replace(self, message: LiveMessage) -> None:
        """A row stands right after its parent: what is between the two has given way to it."""
        parent = self._by_id.get(message.parent_id or "")
        if parent is None and (message.role != "user" or message.parent_id is not None):
            return  # it is on a page that is not here
        after = parent.ordinal if parent else 0
        gone = [other for other in self.messages if after < other.ordinal < message.ordinal]
        for other in gone:
            self.messages.remove(other)
            del self._by_id[other.id]
            self._replaced.add(other.id)

    def _rename(self, event: Event) -> None:
        if event["rev"] > self.conversation.get("rev", 0):
            self.conversation |= {"title": event["title"], "rev": event["rev"]}

    def _stub(self, event: Event) -> LiveMessage | None:
        """Events of a message that nobody has told of yet; None where it may be an old one."""
        if event.get("offset") != 0 and event["type"] != "start":
            return None
        message = LiveMessage(id=event["message_id"])
        self._place(message)
        return message


# --- what an event does to its message; False where a hole shows --------------------------------------------------------


def _start(message: LiveMessage, event: Event) -> bool:
    _active(message)
    message.attempt, message.model = event["attempt"], event.get("model")
    return True


def _active(message: LiveMessage) -> None:
    message.status, message.retry = "streaming", None


def _chunk(message: LiveMessage, event: Event) -> bool:
    _active(message)
    text = _joined(message.applied, event)
    if text is not None:
        message.applied = text
        message.grown()
    return text is not None


def _reasoning(message: LiveMessage, event: Event) -> bool:
    _active(message)
    text = _joined(message.reasoning, event)
    if text is not None:
        message.reasoning = text
    return text is not None


def _joined(held: str, event: Event) -> str | None:
    """The text with the event's piece, of which an overlap is dropped; None: the piece does not fit."""
    offset, content, units = event.get("offset"), event.get("content"), utf16_length(held)
    if not isinstance(offset, int) or not isinstance(content, str) or not 0 <= offset <= units:
        return None
    try:
        known = cut(content, min(units - offset, utf16_length(content)))
    except ValueError:  # inside a character: what is held says something else
        return None
    return held + content[len(known) :]


def _call(message: LiveMessage, event: Event) -> bool:
    _active(message)
    held = next(
        (call for call in message.tool_calls if call.get("tool_call_id") == event["tool_call_id"]),
        None,
    )
    if held is None:
        held = {"tool_call_id": event["tool_call_id"], "name": event["name"]}
        message.tool_calls.append(held)
    held |= {name: event[name] for name in ("status", "arguments", "result") if name in event}
    return True


def _source(message: LiveMessage, event: Event) -> bool:
    _active(message)
    if all(
        held["url"] != event["url"] for held in message.sources
    ):  # after a resync the log may tell of one again
        message.sources.append(event)
    return True


def _retry(message: LiveMessage, event: Event) -> bool:
    message.status, message.attempt = "retrying", event["attempt"]
    message.retry = {name: event[name] for name in ("code", "delay_ms", "try", "max_tries")}
    return True


def _reset(message: LiveMessage, event: Event) -> bool:
    try:
        message.applied, message.reasoning = (
            cut(message.applied, event["keep"]),
            cut(message.reasoning, event["keep_reasoning"]),
        )
    except ValueError:
        return False
    message.tool_calls = [call for call in message.tool_calls if "result" in call]
    message.show(None)
    return True


def _ended(message: LiveMessage, event: Event) -> bool:
    message.status, message.retry, message.usage = event["type"], None, event.get("usage")
    message.finish_reason, message.by = event.get("finish_reason"), event.get("by")
    message.seams = list(event.get("seams") or ())
    if message.status == "error":
        message.error = {name: event[name] for name in ("code", "error", "retryable")}
    message.show(None)
    return True


_CHANGES: Mapping[str, Callable[[LiveMessage, Event], bool]] = {
    "start": _start,
    "chunk": _chunk,
    "reasoning": _reasoning,
    "tool_call": _call,
    "tool_result": _call,
    "source": _source,
    "file": _source,
    "retry": _retry,
    "reset": _reset,
    "complete": _ended,
    "error": _ended,
    "cancelled": _ended,
}


# --- after a close ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Next:
    """What follows a close: dial again, ask for a token first, read the conversation first, or stop."""

    then: Literal["reconnect", "token", "resync", "stop"]
    delay_seconds: float = 0.0


def after_close(code: int, failures: int, random: Callable[[], float]) -> Next:
    """`code`: a close code, the status of a failed request, or 0. `failures`: attempts in a row that came to nothing."""
    back_off = random() * min(30.0, 0.5 * 2 ** min(failures, 10))
    if code in _FOR_GOOD:
        return Next("stop")
    if code == 4401:
        return Next("token", back_off if failures else 0.0)
    if code == 4410:
        return Next("resync", max(random() * 2.0, back_off if failures > 1 else 0.0))
    if code in (1001, 1012):
        return Next("reconnect", max(random() * 3.0, back_off if failures > 1 else 0.0))
    return Next("reconnect", back_off)
