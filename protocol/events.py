"""Pure: the event union and its JSON codec. PROTOCOL.md, section 1, defines shapes and meanings.

An event has no `seq` of its own: the log assigns it at the append. So `encode` gives the JSON
object without a seq, and `stamp` puts the seq in front, exactly as the append script does; `decode`
reads a stamped event. Offsets and lengths count UTF-16 code units (`text.py`).
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, Protocol, get_args

import msgspec

CompleteReason = Literal[
    "stop", "length", "tool_calls", "content_filter", "refusal", "paused", "unknown"
]
MAX_EVENT_TEXT_BYTES = 64 * 1024
"""No single event carries more text than this (UTF-8): longer text travels as several events."""


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tokens as the provider billed them, for all requests of the answer; `estimated` if any of
    them was not reported. `cost`: in the currency of the catalogue's prices, exact to a billionth;
    None if any of the requests has no price.
    """

    input_tokens: int
    output_tokens: int
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    cache_write_tokens: int | None = None
    cost: float | None = None
    estimated: bool = msgspec.field(
        default_factory=bool
    )  # a factory, so that `false` is written out


TOKEN_FIELDS: Final = tuple(name for name in Usage.__struct_fields__ if name.endswith("_tokens"))
"""The counts of a `Usage`."""


class Entry(NamedTuple):
    """One event of the log: `data` is the stamped JSON object, relayed byte for byte."""

    seq: int
    data: bytes


class Sendable(Protocol):
    """An event as it is relayed: an `Entry` of a page, or a `RingEntry` of the hub."""

    @property
    def seq(self) -> int:
        """The number of the event in its log."""
        ...

    @property
    def data(self) -> bytes:
        """The event as JSON, with its seq."""
        ...


class Event(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type"):
    """The base class of all events."""


class MessageEvent(Event, frozen=True, tag="message"):
    """A row is new or changed; `message` is the wire form of the row (models.views)."""

    message: dict[str, Any]


class Start(Event, frozen=True, tag="start"):
    message_id: str
    attempt: int
    model: str


class Chunk(Event, frozen=True, tag="chunk"):
    """A piece of the answer's text. `part`: the text part that it belongs to."""

    message_id: str
    attempt: int
    offset: int
    content: str
    part: int


class Reasoning(Event, frozen=True, tag="reasoning"):
    """A piece of its reasoning."""

    message_id: str
    attempt: int
    offset: int
    content: str
    part: int


class ToolInput(Event, frozen=True, tag="tool_input"):
    """A piece of the input of one call: the JSON as the model wrote it."""

    message_id: str
    attempt: int
    offset: int
    content: str
    part: int


class PartEvent(Event, frozen=True, tag="part"):
    """Opens a part, or sets fields of a held one (null removes one)."""

    message_id: str
    attempt: int
    part: int
    value: dict[str, Any]


class Retry(Event, frozen=True, tag="retry"):
    """The attempt failed in a way that is retried; the next one is due in `delay_ms`."""

    message_id: str
    attempt: int
    code: str
    delay_ms: int
    try_: int = msgspec.field(name="try")
    max_tries: int


class Wait(Event, frozen=True, tag="wait"):
    """The answer waits for a decision; its calls say for which. Any later event ends that."""

    message_id: str
    attempt: int


class Reset(Event, frozen=True, tag="reset"):
    """Only `keep_parts` parts remain: `keep` units of text, `keep_reasoning` of reasoning."""

    message_id: str
    attempt: int
    keep: int
    keep_reasoning: int
    keep_parts: int


class Complete(Event, frozen=True, tag="complete"):
    """`parts`, `parts_crc32`: how many parts the answer has, and their checksum."""

    message_id: str
    attempt: int
    finish_reason: CompleteReason
    usage: Usage | None
    length: int
    crc32: int
    seams: list[int]
    parts: int
    parts_crc32: int


INTERNAL_ERROR: Final[dict[str, Any]] = {
    "code": "internal_error",
    "error": "Something went wrong on our side.",
    "retryable": False,
}
"""What an `error` event says of a fault of ours, and where nothing else is known."""


class Error(Event, frozen=True, tag="error"):
    message_id: str
    attempt: int
    code: str
    error: str
    retryable: bool
    usage: Usage | None
    length: int
    crc32: int
    parts: int
    parts_crc32: int


class Cancelled(Event, frozen=True, tag="cancelled"):
    message_id: str
    attempt: int
    by: str
    usage: Usage | None
    length: int
    crc32: int
    parts: int
    parts_crc32: int


class Title(Event, frozen=True, tag="title"):
    title: str
    rev: int


AnyEvent = (
    MessageEvent
    | Start
    | Chunk
    | Reasoning
    | ToolInput
    | PartEvent
    | Retry
    | Wait
    | Reset
    | Complete
    | Error
    | Cancelled
    | Title
)
Piece = Chunk | Reasoning | ToolInput
"""The events that carry text of a part."""
Terminal = Complete | Error | Cancelled
TERMINAL: tuple[type[Event], ...] = get_args(Terminal)

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(AnyEvent)
_TYPES: Mapping[str, type[AnyEvent]] = {
    str(member.__struct_config__.tag): member for member in get_args(AnyEvent)
}


_WORKING = re.compile(
    rb'\{"seq":\d+,"type":"(?:%b)"'
    % b"|".join(
        kind.encode()
        for kind, member in _TYPES.items()
        if "attempt" in member.__struct_fields__ and member not in (Wait, *TERMINAL)
    )
)


class _EventHead(msgspec.Struct):
    seq: int
    type: str


_head = msgspec.json.Decoder(_EventHead)


def encode(event: AnyEvent) -> bytes:
    """`{"type": ...}`: UTF-8 JSON, `type` first, no seq."""
    return _encoder.encode(event)


def stamp(seq: int, body: bytes) -> bytes:
    """An encoded event with its seq in front: the form of the log and of every reader, byte for
    byte.
    """
    return b'{"seq":%d,%b' % (seq, body[1:])


def has_stamp(seq: int, data: bytes) -> bool:
    """Whether this is what `stamp` made under that seq."""
    return data.startswith(b'{"seq":%d,' % seq)


def decode(data: bytes) -> tuple[int, AnyEvent | None]:
    """(seq, event) of a stamped event; the event is None for an unknown type, which clients must
    ignore.

    Raises ValueError (msgspec.DecodeError) for anything else.
    """
    head = _head.decode(data)
    return head.seq, _decoder.decode(data) if head.type in _TYPES else None


def event_in(data: bytes) -> AnyEvent | None:
    """The event that `decode` returns, without its seq."""
    try:
        event: AnyEvent = _decoder.decode(data)
    except msgspec.ValidationError:  # nearly always of a type that is not known
        return decode(data)[1]
    return event


def convert(event: Mapping[str, Any]) -> AnyEvent | None:
    """The event of a parsed JSON object; None if its type is not known.

    Raises ValueError (msgspec.ValidationError) if it does not have the shape of its type.
    """
    kind = _TYPES.get(event["type"])
    return None if kind is None else msgspec.convert(event, kind)  # a union costs ten times that


def events_of(message_id: str, entries: Iterable[Sendable]) -> Iterator[tuple[int, AnyEvent]]:
    """The events of one answer, each with its seq."""
    for entry in entries:
        event = event_in(entry.data)
        if event is not None and getattr(event, "message_id", None) == message_id:
            yield entry.seq, event


def begins_anew(event: AnyEvent) -> bool:
    """Whether the answer is empty before this event, or nothing of it counts any more."""
    match event:
        case Start(attempt=1) | Reset(keep_parts=0):
            return True
        case _:
            return False


def is_terminal(event: AnyEvent) -> bool:
    """Whether the event seals its answer."""
    return isinstance(event, Terminal)


def shows_work(data: bytes) -> bool:
    """Whether a stamped event comes from an attempt that goes on: an answer is running.

    Every event of an attempt says so but `wait` and a terminal one. It is not decoded for that.
    """
    return _WORKING.match(data) is not None


def check_batch(events: Sequence[AnyEvent]) -> bool:
    """Whether the batch is a terminal event. Raises ValueError for an empty batch and for a
    terminal event with others.
    """
    if not events:
        raise ValueError("a batch holds at least one event")
    terminal = any(is_terminal(event) for event in events)
    if terminal and len(events) > 1:
        raise ValueError("a terminal event travels alone")
    return terminal
