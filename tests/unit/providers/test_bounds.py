"""What an answer may cost its reader: limits, and work that grows in proportion to the answer."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from annotated_types import Le

from tests.steps import steps
from tokenwire.config.settings import Settings
from tokenwire.providers import decoding, llamacpp, tool_calls
from tokenwire.providers.base import (
    AnswerTooLarge,
    Delta,
    Interrupted,
    KeptDelta,
    ProviderError,
    SourceDelta,
    TextDelta,
    ToolCallArguments,
    ToolCallStart,
    Unavailable,
)
from tokenwire.providers.decoding import MAX_SOURCE_TEXT_CHARS
from tokenwire.providers.dialects import decoder_of
from tokenwire.providers.fields import Accumulator, Unreadable, json_object
from tokenwire.providers.framing import RAW, JsonSplitter
from tokenwire.providers.hints import retry_after
from tokenwire.providers.json_path import PathValues

CHAT, RESPONSES, ANTHROPIC, GEMINI = (
    "openai.chat",
    "openai.responses",
    "anthropic.messages",
    "gemini.generateContent",
)
Frames = Callable[[int], Iterator[Any]]
PIECE = "x" * 20


def delta(**fields: Any) -> dict[str, Any]:
    return {"choices": [{"delta": fields}]}


def arguments(number: int, **fields: Any) -> dict[str, Any]:
    return delta(tool_calls=[{"index": number, "function": {"arguments": "{}"}, **fields}])


def block(number: int, kind: str) -> dict[str, Any]:
    return {"type": "content_block_start", "index": number, "content_block": {"type": kind}}


def partial(number: int, path: str = "$.a") -> dict[str, Any]:
    call = {
        "name": "f",
        "willContinue": True,
        "partialArgs": [{"jsonPath": path, "stringValue": PIECE}],
    }
    return {"candidates": [{"content": {"parts": [{"functionCall": call}]}}], "n": number}


SHAPES: dict[str, tuple[str, Frames]] = {
    "text": (CHAT, lambda n: (delta(content=PIECE) for _ in range(n))),
    "audio": (CHAT, lambda n: (delta(audio={"data": PIECE}) for _ in range(n))),
    "a second choice": (CHAT, lambda n: ({"choices": [{"index": at % 2,
        "delta": {"content": PIECE}}]} for at in range(n))),
    "choices": (CHAT, lambda n: ({"choices": [{"index": at, "delta": {}}]} for at in range(n))),
    "choices in one event": (CHAT, lambda n: iter([{"choices": [{"index": at, "delta": {}}
        for at in range(n)]}])),
    "calls": (CHAT, lambda n: (arguments(at, id=f"c{at}", function={"name": "f",
        "arguments": "{}"}) for at in range(n))),
    "calls without ids": (CHAT, lambda n: (arguments(at, function={"name": "f", "arguments": "{}"})
        for at in range(n))),
    "pieces of one call": (CHAT, lambda n: (arguments(0, id="c", function={"name": "f",
        "arguments": "1"}) for _ in range(n))),
    "arguments without a name": (CHAT, lambda n: (arguments(0) for _ in range(n))),
    "fields that nobody knows": (CHAT, lambda n: ({f"f{at}": PIECE} for at in range(n))),
    "sources": (CHAT, lambda n: ({"choices": [], "citations": [f"https://e.org/{at}"]}
        for at in range(n))),
    "nothing": (CHAT, lambda n: ({"choices": []} for _ in range(n))),
    "an unknown block": (
        ANTHROPIC,
        lambda n: iter([
            block(0, "odd"),
            *({"type": "content_block_delta", "index": 0, "delta": {"type": "odd", "data": PIECE}}
                for _ in range(n)),
        ]),
    ),
    "blocks": (ANTHROPIC, lambda n: (block(at, "odd") for at in range(n))),
    "items": (RESPONSES, lambda n: ({"type": "response.output_item.added", "output_index": at,
        "item": {}} for at in range(n))),
    "texts of items": (RESPONSES, lambda n: ({"type": "response.output_text.delta",
        "output_index": at, "delta": "x"} for at in range(n))),
    "partial arguments": (GEMINI, lambda n: (partial(at) for at in range(n))),
    "partial arguments in a list": (GEMINI, lambda n: (partial(at, f"$.a[{at}]")
        for at in range(n))),
}  # fmt: skip


def read(api: str, frames: Iterator[Any]) -> tuple[list[Delta], decoding.Decoder]:
    decoder = decoder_of(api)()
    deltas: list[Delta] = []
    for frame in frames:
        deltas += decoder.feed(b"data: " + json.dumps(frame).encode() + b"\n\n")
    return [*deltas, *decoder.close()], decoder


@pytest.mark.parametrize("shape", SHAPES)
def test_twice_the_pieces_are_twice_the_work(shape: str) -> None:
    """Whatever part of an answer is repeated."""
    api, frames = SHAPES[shape]
    few, many = steps(lambda: read(api, frames(200))), steps(lambda: read(api, frames(400)))
    assert few > 200
    assert many < 2.3 * few


def test_pieces_are_joined_once() -> None:
    """No piece is copied before the end, or a long value would be copied again with each piece."""
    pieces = [f"{number} " * 10 for number in range(100)]
    text, entries, field = Accumulator(), Accumulator(), Accumulator()
    for piece in pieces:
        text.add(piece)
        entries.add([piece])
        field.add({"id": "a", "data": {"b64": piece}})
        held: list[Any] = [text._held, entries._held]
        assert held[0][-1] is piece
        assert entries._held[-1] is piece
    assert text._held == pieces
    assert text.whole() == "".join(pieces)
    assert entries.whole() == pieces
    assert field.whole() == {"id": "a", "data": {"b64": "".join(pieces)}}


def test_pieces_at_a_path_are_joined_once() -> None:
    """Gemini's arguments; fields that came whole may be extended."""
    values = PathValues()
    values.update({"a": "x"})
    for path, value in (
        ("$.a", "y"),
        ("a", "z"),
        ("$.b[0].c", "1"),
        ("$.b[0].c", "2"),
        ("$.n", 1),
        ("$.n", 2),
    ):
        values.put(path, value)
    assert values.whole() == {"a": "xyz", "b": [{"c": "12"}], "n": 2}
    for path, wrong in (
        ("$.a", 1),
        ("$.b", "x"),
        ("$", 1),
        ("$.b[500]", 1),
        ("$" + ".a" * 100, 1),
        ("$.a.c", 1),
    ):
        with pytest.raises((ValueError, AttributeError)):
            values.put(path, wrong)


def test_objects_in_pieces_have_a_nesting_limit() -> None:
    """Each open level costs a stack frame at the end."""
    deep: dict[str, Any] = {"a": 1}
    for _ in range(200):
        deep = {"a": deep}
    growing = Accumulator(deep)
    assert growing.whole() == deep
    with pytest.raises(Unreadable):
        growing.add(deep)


@pytest.mark.parametrize(
    "shape",
    [
        "audio",
        "a second choice",
        "fields that nobody knows",
        "an unknown block",
        "blocks",
        "items",
        "sources",
    ],
)
def test_what_a_decoder_holds_until_the_end_is_bounded(
    monkeypatch: pytest.MonkeyPatch, shape: str
) -> None:
    """The answer ends with an error code of its own, and nothing more is read."""
    monkeypatch.setattr(decoding, "MAX_HELD_BYTES", 5000)
    api, frames = SHAPES[shape]
    deltas, decoder = read(api, frames(400))
    assert decoder.failure is not None
    assert decoder.failure.code == "too_large"
    assert len(deltas) < 400
    assert decoder._held_bytes < 5200


def test_an_event_counts_once_towards_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of sources is no longer than its event, however many it holds."""
    monkeypatch.setattr(decoding, "MAX_HELD_BYTES", 5000)
    sources = {"choices": [], "citations": [f"https://e.org/{at}" for at in range(100)]}
    deltas, decoder = read(
        CHAT, iter([sources, {"choices": [{"delta": {"content": "x"}, "finish_reason": "stop"}]}])
    )
    assert (decoder.failure, sum(isinstance(each, SourceDelta) for each in deltas)) == (None, 100)
    assert decoder._held_bytes == len(json.dumps(sources))


@pytest.mark.parametrize("shape", ["calls", "calls without ids", "arguments without a name"])
def test_calls_are_bounded(monkeypatch: pytest.MonkeyPatch, shape: str) -> None:
    """In number, and in the bytes that wait for a name."""
    monkeypatch.setattr(tool_calls, "MAX_CALLS", 20)
    monkeypatch.setattr(tool_calls, "MAX_WAITING_CHARS", 20)
    api, frames = SHAPES[shape]
    deltas, decoder = read(api, frames(100))
    assert isinstance(decoder.failure, AnswerTooLarge)
    assert sum(isinstance(delta, ToolCallStart | ToolCallArguments) for delta in deltas) <= 40


def test_arguments_that_were_passed_on_no_longer_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound covers the calls that still wait for a name, not those before them."""
    monkeypatch.setattr(tool_calls, "MAX_WAITING_CHARS", 20)
    given: list[Delta] = []
    calls = tool_calls.ToolCalls(given.append)
    for number in range(10):
        calls.piece(number, None, None, "x" * 15)
        calls.piece(number, f"call_{number}", "f", None)
    assert sum(isinstance(delta, ToolCallArguments) for delta in given) == 10


@pytest.mark.parametrize(
    "fields", [{"id": "c" * 2000}, {"id": "c", "function": {"name": "f" * 2000}}]
)
def test_names_of_calls_are_bounded(fields: dict[str, Any]) -> None:
    """A longer name is damage."""
    _, decoder = read(CHAT, iter([arguments(0, **fields)]))
    assert decoder.failure is not None
    assert decoder.failure.code == "unreadable"


def test_a_source_with_an_endless_address_is_kept_as_it_is() -> None:
    """It is not sent to readers; nothing is lost."""
    address = "data:" + "x" * 10_000
    deltas, _ = read(CHAT, iter([{"choices": [], "citations": [address, "https://e.org"]}]))
    assert [delta.url for delta in deltas if isinstance(delta, SourceDelta)] == ["https://e.org"]
    assert [delta.value["url"] for delta in deltas if isinstance(delta, KeptDelta)] == [address]


def test_a_long_title_is_cut_and_kept_whole() -> None:
    """Readers see its beginning. A part of an address would lead elsewhere, so that is left out."""
    note = {"type": "url_citation", "url": "https://e.org", "title": "t" * 10_000}
    added = {"type": "response.output_text.annotation.added", "output_index": 0}
    events = [{**added, "annotation": {**note, **fields}} for fields in ({}, {"url": "u" * 10_000})]
    deltas, _ = read(RESPONSES, iter(events))
    cut, unlinked = [delta for delta in deltas if isinstance(delta, SourceDelta)]
    assert (cut.url, cut.title) == ("https://e.org", "t" * MAX_SOURCE_TEXT_CHARS)
    assert (unlinked.url, unlinked.title) == (None, "t" * MAX_SOURCE_TEXT_CHARS)
    assert [made.kept and made.kept.value for made in (cut, unlinked)] == [
        event["annotation"] for event in events
    ]


def test_a_long_event_in_small_reads_of_a_resumable_run() -> None:
    """Each read searches only the new bytes for the end."""
    decoder = llamacpp.ResumableDecoder("r", 7)
    for at, byte in enumerate(b"data: {}\n\ndata: {"):
        decoder.feed(bytes([byte]))
        assert len(decoder._last) <= 1
        assert decoder.cursor == (7 if at < 9 else 17)


# --- one event ------------------------------------------------------------------------------------


def event(text: bytes) -> bytes:
    return b"data: " + text + b"\n\n"


def encoded(value: Any) -> bytes:
    return event(json.dumps(value).encode())


PARTS = [{"type": "odd", "x": 1}] * 6000
NESTED = [{"type": "thinking", "thinking": [{"text": "x"}] * 1000}] * 6
TOO_MUCH: dict[str, tuple[str, bytes]] = {
    "lists": (CHAT, event(b'{"x":[' + b"[]," * 200_000 + b"[]]}")),
    "members": (RESPONSES, event(b'{"x":{"a":[' + b"0," * 200_000 + b"0]}}")),
    "lists in a line": ("ollama.chat", b'{"x":[' + b"[]," * 200_000 + b"[]]}\n"),
    "braces without an end": ("ollama.chat", b'{"x":' * 300_000 + b"\n"),
    "lists behind a long text": (
        GEMINI,
        event(b'{"x":"' + b"y" * 300_000 + b'","z":[' + b"[]," * 200_000 + b"[]]}"),
    ),
    "strings": (CHAT, event(b'{"x":[' + b'"",' * 200_000 + b'""]}')),
    "quotes behind commas": (CHAT, event(b'{"x":"' + b"," * 200_000 + b'"' * 500_000)),
    "endless numbers": (CHAT, event(b'{"x":[' + (b"9" * 4000 + b",") * 100 + b"9]}")),
    "lines": (CHAT, b"data: x\n" * 10_001 + b"\n"),
    "objects in a line": ("ollama.chat", b"{}" * 10_001 + b"\n"),
    "unknown parts": (CHAT, encoded(delta(content=PARTS))),
    "parts of parts": (CHAT, encoded(delta(content=NESTED))),
    "choices": (CHAT, encoded({"choices": PARTS})),
    "sources": (
        CHAT,
        encoded({"choices": [], "citations": [f"https://e.org/{at}" for at in range(6000)]}),
    ),
    "notes": (CHAT, encoded(delta(annotations=PARTS))),
    "blocks": (
        ANTHROPIC,
        encoded({"type": "message", "id": "m", "content": PARTS, "stop_reason": "end_turn"}),
    ),
    "items": (
        RESPONSES,
        encoded({"type": "response.completed", "response": {"id": "r", "output": PARTS}}),
    ),
    "candidates": (GEMINI, encoded({"candidates": PARTS})),
    "parts of a candidate": (
        GEMINI,
        encoded({"candidates": [{"content": {"parts": [{"text": "x"}] * 6000}}]}),
    ),
    "calls": (
        "ollama.chat",
        json.dumps({"message": {"tool_calls": [{"function": {"name": "f"}}] * 6000}}).encode()
        + b"\n",
    ),
    "content": (
        "cohere.chat",
        encoded({"type": "message-start", "delta": {"message": {"content": PARTS}}}),
    ),
}


@pytest.mark.parametrize("shape", TOO_MUCH)
def test_the_size_of_one_event_is_bounded(shape: str) -> None:
    """A larger one would block its worker; what came before it is passed on."""
    api, body = TOO_MUCH[shape]
    decoder = decoder_of(api)()
    decoder.feed(body)
    assert isinstance(decoder.failure, AnswerTooLarge)
    assert (decoder.failure.code, decoder.failure.retryable) == ("too_large", False)


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize(
    ("data", "kind", "code"),
    [
        (b'{"choices":' + b"[" * 3000 + b"]" * 3000 + b"}", AnswerTooLarge, "too_large"),
        (b'{"choices":[{"delta":{"cont', Unavailable, "truncated"),
        (b'{"choices":[{"delta":]}', Unavailable, "unreadable"),
        (b'{"choices":[{"delta":{"content":7}}]}', Unavailable, "unreadable"),
    ],
)
def test_only_damage_is_tried_again(
    data: bytes, kind: type[ProviderError], code: str, *, begun: bool
) -> None:
    """Damage may be chance. What is beyond a limit would come again, and be billed again; also
    after text.
    """
    decoder = decoder_of(CHAT)()
    if begun:
        decoder.feed(encoded({"choices": [{"delta": {"content": "Hi"}}]}))
    decoder.feed(b"data: " + data + (b"" if code == "truncated" else b"\n\n"))
    decoder.close()
    assert decoder.failure is not None
    expected = Interrupted if begun and kind is Unavailable else kind
    assert (type(decoder.failure), decoder.failure.code) == (expected, code)


def test_the_longest_file_fits_into_an_event() -> None:
    """Otherwise MAX_FILE_BYTES would promise what no provider can send."""
    longest = next(
        limit.le
        for limit in Settings.model_fields["max_file_bytes"].metadata
        if isinstance(limit, Le)
    )
    image = {"type": "base64", "media_type": "image/png", "data": "A" * (longest * 4 // 3)}
    frame = {**block(0, "image"), "content_block": {"type": "image", "source": image}}
    _, decoder = read(ANTHROPIC, iter([frame]))
    assert decoder.failure is not None
    assert decoder.failure.code == "truncated"


LARGE: dict[str, str] = {
    "an image": "A" * 12_000_000,
    "a text": 'He said: "Well, [1], {2}", and then, "no".\n\\' * 100_000,
    "digits": "0123456789" * 400_000,
}


@pytest.mark.parametrize("shape", LARGE)
@pytest.mark.parametrize("api", [CHAT, "ollama.chat"])
def test_one_event_may_hold_one_long_text(api: str, shape: str) -> None:
    """Whatever characters the text has."""
    text = LARGE[shape]
    said = delta(content=text) if api == CHAT else {"message": {"content": text}}
    decoder = decoder_of(api)()
    given = decoder.feed(encoded(said) if api == CHAT else json.dumps(said).encode() + b"\n")
    assert decoder.failure is None
    assert [each.text for each in given if isinstance(each, TextDelta)] == [text]


def test_an_event_of_many_lines_is_read() -> None:
    """Some servers put no blank lines between their events."""
    body = (
        b'data: {"choices":[{"delta":{"content":"x"}}]}\n' * 5000
        + b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
    )
    decoder = decoder_of(CHAT)()
    given = decoder.feed(body)
    assert (sum(isinstance(each, TextDelta) for each in given), decoder.failure) == (5000, None)


def test_parts_are_counted_for_each_event() -> None:
    decoder = decoder_of(CHAT)()
    for _ in range(3):
        decoder.feed(encoded(delta(content=PARTS[:3000])))
    assert decoder.failure is None


def test_too_large_arguments_stay_text() -> None:
    """They came as one long string, perhaps in pieces, and no tool could be called with them."""
    text = '{"x":[' + "[]," * 200_000 + "[]]}"
    assert tool_calls.parsed_arguments(text) is text
    assert tool_calls.parsed_arguments(json.dumps({"x": text})) == {"x": text}


def test_a_string_is_skipped_in_one_step() -> None:
    """However many characters are escaped: JSON is split into objects brace by brace, not quote by
    quote.
    """
    line = json.dumps({"a": ['"\\{'] * 1000, "b": "\n\t" * 1000}).encode()
    framer = JsonSplitter()
    assert steps(lambda: framer.feed(line)) < 100
    assert JsonSplitter().feed(line) == [(RAW, line)]


def test_a_line_without_an_object_is_not_parsed() -> None:
    """A line that begins no object is recognised without parsing."""
    assert steps(lambda: json_object(b" x")) == steps(lambda: json_object(b"[1]")) == 2


def test_the_length_of_a_path_is_bounded() -> None:
    """It is measured before it is split."""
    path = "$" + ".a" * 100_000
    values = PathValues()

    def put() -> None:
        with pytest.raises(ValueError, match="a path of 200001 characters"):
            values.put(path, "x")

    assert steps(put) < 10


def test_the_finish_reason_is_bounded() -> None:
    """It is logged, and searched for secrets."""
    _, decoder = read(
        CHAT, iter([{"choices": [{"delta": {"content": "x"}, "finish_reason": "y" * 1000}]}])
    )
    assert decoder.finish_raw == "y" * decoding.MAX_REASON_CHARS
    _, decoder = read(GEMINI, iter([{"promptFeedback": {"blockReason": "y" * 1000}}]))
    assert decoder.finish_raw == "y" * decoding.MAX_REASON_CHARS


def test_few_details_of_an_error_are_read() -> None:
    """In the search for a delay."""
    details = [{"retryDelay": "1s"}] * 10_000
    assert steps(lambda: retry_after({}, {"error": {"details": details}})) < 2000
