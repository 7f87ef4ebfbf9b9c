"""Pure: events in order, messages kept up to date, and what to do after a close (PROTOCOL.md).

`Order` puts events into the order of `seq`. `Transcript` applies them to the rows that were read:
an event changes an answer by the fold (`protocol/fold.py`), and the rules of a conversation are
here, such as which rows replace others. `after_close` decides how to go on.
Nothing here waits or knows of a socket. Offsets and lengths are UTF-16 code units, as on the wire.
"""

import bisect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from tokenwire.protocol import events
from tokenwire.protocol.cursors import Cursor
from tokenwire.protocol.fold import Answer, Part, Unproven, from_view
from tokenwire.protocol.frames import Advice, CloseCode, Step
from tokenwire.protocol.states import ENDED
from tokenwire.protocol.values import brought_by

PENDING_MAX = 512
"""The most events that wait for a missing one."""

EventObject = Mapping[str, Any]
MessageObject = Mapping[str, Any]


# --- order --------------------------------------------------------------------------------------


class Order:
    """Puts events into the order of `seq`: repeats vanish, early ones wait.

    A merged chunk stands for `from_seq` to `seq`.
    """

    def __init__(self, cursor: Cursor) -> None:
        self.epoch, self.seq = cursor
        self._pending: list[EventObject] = []

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
        """Whether so much waits for a missing event that it will never come."""
        return len(self._pending) > PENDING_MAX

    def fork(self, epoch: str) -> None:
        """The log continues under another epoch. Events that wait may not be part of it."""
        self.epoch = epoch
        self._pending.clear()

    def push(self, event: EventObject) -> list[EventObject]:
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

    def _take(self, event: EventObject) -> bool:
        if event["seq"] <= self.seq or _first(event) > self.seq + 1:
            return False
        self.seq = event["seq"]
        return True

    def _hold(self, event: EventObject) -> None:
        at = bisect.bisect_right(self._pending, _first(event), key=_first)
        if at == 0 or self._pending[at - 1]["seq"] != event["seq"]:
            self._pending.insert(at, event)


def _first(event: EventObject) -> int:
    return int(event.get("from_seq", event["seq"]))


# --- messages -----------------------------------------------------------------------------------

if TYPE_CHECKING:  # a message has the fields of an answer
    _Fields = Answer
else:
    _Fields = object


class LiveMessage(_Fields):
    """A message, kept up to date.

    It has every field of an answer (`protocol.fold.Answer`), as the log has made them: `status`,
    `attempt`, `model`, `finish_reason`, `error` ({code, error, retryable}), `by` (who stopped it),
    `seams` (offsets at which another request continued a broken answer), `retry` ({code, delay_ms,
    try, max_tries} while another attempt is awaited), `ended`. `parts`, `content` and `reasoning`
    are what is shown. `proven`: whether the terminal event attests what is held; None if no such
    event was seen. `row`: the row as it was read last, with the fields that have no attribute here.
    """

    def __init__(self, row: MessageObject, before: "LiveMessage | None" = None) -> None:
        """`before`: shown for this message until now. It stays while the row begins it."""
        self.id: str = row["id"]
        self.seq: int = row.get("seq") or 0
        self.proven: bool | None = None
        self._logged = from_view(row)  # by the row and the log
        self._longer: Answer | None = None
        self._take(row)
        if before is not None:
            self._keep(before.shown)

    def _take(self, row: MessageObject) -> None:
        self.row = row
        self.role: str = row["role"]
        self.ordinal: float = row["ordinal"]
        self.rev: int = row.get("rev") or 0
        self.parent_id: str | None = row.get("parent_id")

    @property
    def shown(self) -> Answer:
        """The text to show: that of the log, or a longer one that was shown before."""
        return self._longer or self._logged

    @property
    def parts(self) -> Sequence[Part]:  # type: ignore[override]  # to be read only
        """The parts in order, with `type`, `text` (of text, reasoning and input) and `fields`."""
        return self.shown.parts

    @property
    def content(self) -> str:
        """The texts of all text parts together."""
        return self.shown.content

    @property
    def reasoning(self) -> str:
        """The texts of all reasoning parts together."""
        return self.shown.reasoning

    @property
    def usage(self) -> Mapping[str, Any] | None:  # type: ignore[override]  # the wire form
        """{input_tokens, output_tokens, ...} when it has ended, if they are known."""
        usage: Mapping[str, Any] | None = msgspec.to_builtins(self._logged.usage)
        return usage

    def __getattr__(self, name: str) -> Any:
        """What the log says of it: the fields of `Answer` that are not defined here."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._logged, name)

    def brings(self, message_id: str) -> bool:
        """Whether this user's message reached the model at a step of this answer."""
        return self._step_with(message_id) is not None

    def text_for(self, message_id: str) -> str:
        """The text behind the step that brought this user's message; all text if none did."""
        behind = self.parts[self._step_with(message_id) or 0 :]
        return "".join(part.text for part in behind if part.type == "text")

    def _step_with(self, message_id: str) -> int | None:
        steps = enumerate(self.parts)
        return next((n for n, part in steps if message_id in brought_by(part.fields)), None)

    @property
    def running(self) -> bool:
        """Whether it is an answer that is yet to end."""
        return self.role == "assistant" and not self.ended

    def apply(self, event: EventObject, *, believe: bool = False) -> None:  # type: ignore[override]
        """Fold the next event. `believe` an end that attests something else.

        Raises Unproven, ValueError (a hole, or not the shape of its type); nothing has changed.
        """
        decoded = events.convert(event)
        if decoded is None:
            return
        self._logged.apply(decoded, believe=believe)
        if self.ended:
            self.proven = not believe
        self._keep(None if isinstance(decoded, events.Reset) else self._longer)

    def revise(self, row: MessageObject) -> None:
        """Take a newer row. Only events change the parts of an answer, and end it."""
        self._take(row)
        if self.role != "assistant":
            self._logged = from_view(row)
            return
        self._logged.attempt, self._logged.model = row.get("attempt") or 0, row.get("model")
        if not self.ended and row["status"] not in ENDED:
            self._logged.status = row["status"]

    def release(self) -> None:
        """Everything is here: show what is held, also where more was shown before."""
        self._longer = None

    def _keep(self, longer: Answer | None) -> None:
        """Keep what was shown until the log has caught up, or differs."""
        keep = longer is not None and not self.ended and _begins(self._logged.parts, longer.parts)
        self._longer = longer if keep else None


def _begins(parts: Sequence[Part], longer: Sequence[Part]) -> bool:
    """Whether `longer` begins with these parts: the same types, and texts that begin so.

    A weaker rule than `replay.begins`, and small enough for every client: it decides only what is
    shown until the log has caught up.
    """
    return len(parts) <= len(longer) and all(
        part.type == other.type and other.text.startswith(part.text)
        for part, other in zip(parts, longer, strict=False)
    )


@dataclass(frozen=True, slots=True)
class PostResult:
    """The rows that a post has made. `cursor`: before the post; None while the log is away."""

    user_message: LiveMessage
    assistant_message: LiveMessage
    cursor: str | None


class Transcript:
    """The messages of a conversation, in order."""

    def __init__(self) -> None:
        self.conversation: dict[str, Any] = {}
        self.messages: list[LiveMessage] = []
        self.next: int | None = None
        """The `before` of older messages; None: there are none."""
        self._by_id: dict[str, LiveMessage] = {}
        self._doubted: set[str] = set()  # the rows were read again for it: now it is believed
        self._replaced: set[str] = set()  # no longer part of the conversation

    def get(self, message_id: str) -> LiveMessage | None:
        """The message of this id."""
        return self._by_id.get(message_id)

    def brought(self, message_id: str) -> LiveMessage | None:
        """The answer that took this user's message in at a step."""
        return next((held for held in self.messages if held.brings(message_id)), None)

    @property
    def running(self) -> bool:
        """Whether an answer is yet to end."""
        return any(message.running for message in self.messages)

    def load(self, snapshot: Mapping[str, Any]) -> None:
        """Begin (again) with what `GET /api/conversations/{id}` gave.

        Older pages that were read before stay.
        """
        rows, before = snapshot["messages"], self._by_id
        first = before.get(rows[0]["id"]) if rows else None
        earlier = self.messages[: self.messages.index(first)] if first else []
        self.conversation = dict(snapshot["conversation"])
        self.messages, self._by_id = [], {}
        if not earlier:
            self.next = snapshot.get("next")
        for message in [*earlier, *(LiveMessage(row, before.get(row["id"])) for row in rows)]:
            self._place(message)

    def prepend(self, page: Mapping[str, Any]) -> None:
        """An older page."""
        self.next = page.get("next")
        for row in page["messages"]:
            if row["id"] not in self._by_id:
                self._place(LiveMessage(row))

    def admit(self, row: MessageObject) -> LiveMessage | None:
        """Take a new or changed row.

        Its `seq` may be of another epoch, so it does not count. An answer's row that comes without
        its parts does not end it: the events that follow do.
        """
        if row["id"] in self._replaced:
            return None
        held = self._by_id.get(row["id"])
        if held is None:
            bare = row["role"] == "assistant" and not row.get("content") and not row.get("parts")
            status = "queued" if bare and row["status"] in ENDED else row["status"]
            held = LiveMessage({**row, "seq": 0, "status": status})
            self._place(held)
        elif row["rev"] > held.rev:
            held.revise(row)
            self.messages.remove(held)
            self._place(held)
        self._replace(held)  # also if held: older events may have brought back what it replaced
        return held

    def release(self) -> None:
        """Everything is here: what was kept until the log had caught up is not kept any more."""
        for message in self.messages:
            message.release()

    def forked(self, seq: int) -> None:
        """The log is another one behind `seq`: what a row says of later events does not hold."""
        for message in self.messages:
            message.seq = min(message.seq, seq)

    def apply(self, event: EventObject) -> bool:
        """Apply the next event.

        False: what is held cannot be right, the conversation must be read again.
        """
        match event["type"]:
            case "message":
                self.admit(event["message"])
            case "title":
                self._rename(event)
            case _:
                message = self._addressed(event)
                return message is None or self._change(message, event)
        return True

    def _addressed(self, event: EventObject) -> LiveMessage | None:
        """The answer that an event changes. None: its row holds the event, or it is an old one."""
        message_id = event.get("message_id")
        if not isinstance(message_id, str) or message_id in self._replaced:
            return None
        message = self._by_id.get(message_id) or self._stub(event)
        if message is None or event["seq"] <= message.seq or message.ended:
            return None
        return message

    def _change(self, message: LiveMessage, event: EventObject) -> bool:
        believed = message.id in self._doubted
        # An answer without a row may have been replaced while the rows were read.
        if not believed and event["type"] in ENDED and message.ordinal == math.inf:
            return self._doubt(message)
        try:
            message.apply(event)
        except Unproven:
            if not believed:
                return self._doubt(message)
            message.apply(event, believe=True)
        except ValueError:
            return False
        return True

    def _doubt(self, message: LiveMessage) -> bool:
        self._doubted.add(message.id)
        return False

    def _place(self, message: LiveMessage) -> None:
        bisect.insort_right(self.messages, message, key=lambda held: held.ordinal)
        self._by_id[message.id] = message

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

    def _rename(self, event: EventObject) -> None:
        if event["rev"] > self.conversation.get("rev", 0):
            self.conversation |= {"title": event["title"], "rev": event["rev"]}

    def _stub(self, event: EventObject) -> LiveMessage | None:
        """A message whose row has not come yet. None: the event does not begin it.

        Any other event of a message that is not here is about one that was replaced. A `part` does
        not show whether it opens a part or changes one, so it begins nothing.
        """
        if event["type"] != "start":
            return None
        row = {"id": event["message_id"], "role": "assistant", "ordinal": math.inf}
        message = LiveMessage(row)
        self._place(message)
        return message


# --- after a close ------------------------------------------------------------------------------


_ADVICE: Mapping[int, Advice] = {int(code): code.advice for code in CloseCode}
_REFUSED = frozenset({400, 401, 403, 404})
"""Statuses of requests that would be refused again."""
_LONGEST_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class AfterClose:
    """What a client does after a close.

    Connect again (`reconnect`), ask for a token first (`token`), read the conversation first
    (`resync`), or `stop`.
    """

    then: Step
    delay_seconds: float = 0.0


def after_close(code: int, failures: int, random: Callable[[], float]) -> AfterClose:
    """`code`: a close code, the status of a failed request, or 0.

    `failures`: attempts in a row that came to nothing. The delay is a random part of the longest.
    """
    advice = Advice.STOP if code in _REFUSED else _ADVICE.get(code, Advice.BACK_OFF)
    if advice is Advice.STOP:
        return AfterClose("stop")
    longest, back_off = advice.within_seconds, min(_LONGEST_SECONDS, 0.5 * 2 ** min(failures, 10))
    if longest is None or failures:
        longest = max(longest or 0.0, back_off)
    return AfterClose(advice.then, random() * longest)
