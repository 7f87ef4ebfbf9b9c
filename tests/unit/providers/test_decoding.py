"""Damage inside a 200, in every form that has been seen, and which answers count as complete."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.providers.bodies import ANTHROPIC, CHAT, GEMINI, OLLAMA, RESPONSES, read, sse
from tokenwire.providers.base import TextDelta
from tokenwire.providers.classify import NO_WORDS
from tokenwire.providers.dialects import DIALECTS, decoder_of
from tokenwire.providers.fields import Accumulator, Unreadable
from tokenwire.providers.framing import Framer

HI = '{"choices":[{"delta":{"content":"Hi"}}]}'
STOP = '{"choices":[{"finish_reason":"stop"}]}'
BEGUN = (
    '{"type":"message_start","message":{"id":"m","model":"c","usage":{"input_tokens":3}}}',
    '{"type":"content_block_start","index":0,"content_block":{"type":"text","text":"A"}}',
)


def beside(content: str, message: Any, **more: Any) -> str:
    return json.dumps({"choices": [{"delta": {"content": content}, "message": message, **more}]})


def test_a_message_that_repeats_the_whole_answer_with_each_piece() -> None:
    """It adds nothing, and an empty one means nothing."""
    one, two = beside("One", {"content": "One"}), beside(" two", {"content": "One two"})
    end = json.dumps({"choices": [{"message": {"content": "One two"}, "finish_reason": "stop"}]})
    for body in (
        sse(one, two, end),
        sse(one, beside(" two", None), end),
        sse(one, beside(" two", {"content": ""}), end),
    ):
        found = read(CHAT, body)
        assert (found["text"], found["error"]) == ("One two", None)


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        ([beside(" two", {"content": "One two"})], ""),
        (
            [beside("One", {"content": "One"}), beside(" three", {"content": "One two three"})],
            "One",
        ),
        (
            [beside("One", {"content": "One"}), '{"choices":[{"message":{"content":"One two"}}]}'],
            "One",
        ),
        ([HI, '{"choices":[{"message":{"content":"Hi there"}}]}'], "Hi"),
        ([HI, beside("", 5)], "Hi"),
    ],
)
def test_a_message_that_contradicts_the_pieces_is_damage(pieces: list[str], text: str) -> None:
    """A piece is lost or broken: what follows is dropped, and the answer is not complete."""
    found = read(CHAT, sse(*pieces, STOP))
    assert (found["text"], found["complete"]) == (text, False)
    assert found["error"]["class"] == ("Interrupted" if text else "Unavailable")


@pytest.mark.parametrize(
    ("api", "body", "error"),
    [
        (CHAT, sse('{"error":{"message":"boom","type":"server_error"}}'), "Unavailable"),
        (CHAT, sse('{"error":{"message":"boom","type":"server_error"}}', "[DONE]"), "Unavailable"),
        (CHAT, sse(HI, '{"error":{"message":"boom","type":"server_error"}}'), "Interrupted"),
        (CHAT, sse('{"error":"Internal error"}', "[DONE]"), "Unavailable"),
        (
            CHAT,
            sse(
                HI,
                '{"error":{"code":502,"message":"x"},"choices":[{"delta":{},'
                '"finish_reason":"length"}]}',
                "[DONE]",
            ),
            "Interrupted",
        ),
        (
            CHAT,
            sse(
                HI,
                '{"choices":[{"error":{"message":"x","code":502},"finish_reason":"error"}]}',
                "[DONE]",
            ),
            "Interrupted",
        ),
        (
            CHAT,
            (
                b'event: error\ndata: {"type":"error","code":"rate_limit_exceeded",'
                b'"message":"slow"}\n\n'
            ),
            "RateLimited",
        ),
        (CHAT, b"event: error\ndata: something broke\n\n", "Unavailable"),
        (
            CHAT,
            b'error: {"code":500,"message":"Context size has been exceeded."}\n\n',
            "ContextLengthExceeded",
        ),
        (CHAT, sse(HI) + b'{"error":{"code":503,"message":"slow"}}', "Interrupted"),
        (CHAT, sse(HI, STOP) + b'{\n "error": {\n  "code": 503\n }\n}', "Interrupted"),
        (
            CHAT,
            b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head></html>",
            "Unavailable",
        ),
        (CHAT, b'{"error":{"message":"no","code":"invalid_api_key"}}', "AuthenticationFailed"),
        (
            CHAT,
            b'[{"error":{"message":"no","code":400,"details":[{"reason":"API_KEY_INVALID"}]}}]',
            "AuthenticationFailed",
        ),
        (CHAT, b'{"detail":"Unauthorized"}', "AuthenticationFailed"),
        (CHAT, sse('{"object":"error","message":"wrong","code":400}', "[DONE]"), "InvalidRequest"),
        (CHAT, sse("[DONE]"), "Unavailable"),
        (
            CHAT,
            sse('{"choices":[{"delta":{"role":"assistant","content":""}}]}', "[DONE]"),
            "Unavailable",
        ),
        (CHAT, sse('{"choices":null}', "[DONE]"), "Unavailable"),
        (CHAT, b"", "Unavailable"),
        (CHAT, b": keep-alive\n\n", "Unavailable"),
        (CHAT, sse(HI), "Interrupted"),
        (
            RESPONSES,
            sse('{"type":"error","code":"server_error","message":"x","param":null}'),
            "Unavailable",
        ),
        (
            RESPONSES,
            sse('{"type":"error","error":{"type":"insufficient_quota","message":"x"}}'),
            "QuotaExhausted",
        ),
        (
            RESPONSES,
            sse(
                '{"type":"response.failed","response":{"id":"r","status":"failed",'
                '"error":{"code":"rate_limit_exceeded"}}}'
            ),
            "RateLimited",
        ),
        (RESPONSES, b'{"code":"invalid-argument","error":"bad model"}', "InvalidRequest"),
        (
            ANTHROPIC,
            sse(
                '{"type":"error","error":{"details":null,"type":"overloaded_error",'
                '"message":"Overloaded"}}'
            ),
            "RateLimited",
        ),
        (
            ANTHROPIC,
            sse(*BEGUN, '{"type":"error","error":{"type":"api_error","message":"Internal"}}'),
            "Interrupted",
        ),
        (
            ANTHROPIC,
            sse(*BEGUN, '{"type":"message_start","message":{"id":"another"}}'),
            "Interrupted",
        ),
        (ANTHROPIC, sse(*BEGUN), "Interrupted"),
        (ANTHROPIC, sse('{"type":"message_stop"}'), "Unavailable"),
        (
            GEMINI,
            sse('{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"x"}}'),
            "RateLimited",
        ),
        (
            GEMINI,
            (
                b'[{"candidates":[{"content":{"parts":[{"text":"a"}]}}]}\r\n,'
                b'\r\n{"error":{"code":503,"message":"x"}}]'
            ),
            "Interrupted",
        ),
        (
            GEMINI,
            b'[{"candidates":[{"content":{"parts":[{"text":"a"}]}}]}\r\n,\r\n{"candidates":[{"cont',
            "Interrupted",
        ),
        (
            OLLAMA,
            b'{"message":{"content":"a"},"done":false}\n{"error":"an error was encountered"}\n',
            "Interrupted",
        ),
        (OLLAMA, b'{"message":{"content":"a"},"done":false}\n', "Interrupted"),
        (OLLAMA, b'{"done":true,"done_reason":"error"}\n', "Unavailable"),
    ],
)
def test_errors_with_status_200(api: str, body: bytes, error: str) -> None:
    """The class depends on what was seen before; the answer is never complete."""
    result = read(api, body)
    assert result["error"]["class"] == error
    assert result["error"]["message"]
    assert not result["complete"]


@pytest.mark.parametrize(
    ("api", "body", "text", "finish"),
    [
        (CHAT, sse(HI, STOP, "[DONE]"), "Hi", "stop"),
        (CHAT, sse(HI, STOP), "Hi", "stop"),
        (CHAT, sse(HI, "[DONE]"), "Hi", "unknown"),
        (CHAT, sse(STOP), "", "stop"),
        (CHAT, sse(HI, '{"choices":[{"finish_reason":"weird"}]}'), "Hi", "unknown"),
        (CHAT, sse(HI, '{"choices":[{"finish_reason":"length"}]}', STOP), "Hi", "length"),
        (
            CHAT,
            (
                b'data: {"choices":[{"delta":{"content":"Hi"}}]}\ndata: '
                b'{"choices":[{"finish_reason":"stop"}]}\ndata: [DONE]\n'
            ),
            "Hi",
            "stop",
        ),
        (
            CHAT,
            b'{"id":"x","choices":[{"message":{"content":"Hello"},"finish_reason":"stop"}]}',
            "Hello",
            "stop",
        ),
        (
            CHAT,
            sse(HI, '{"choices":[{"delta":{},"message":{"content":"Hi"},"finish_reason":"stop"}]}'),
            "Hi",
            "stop",
        ),
        (
            CHAT,
            b'data: {"choices":[{"delta":{"content":"a\tb\xff"},"finish_reason":"stop"}]}\n\n',
            "a\tb\ufffd",
            "stop",
        ),
        (ANTHROPIC, sse(*BEGUN, BEGUN[0], '{"type":"message_stop"}'), "A", "unknown"),
        (
            ANTHROPIC,
            sse(*BEGUN, '{"type":"message_delta","delta":{"stop_reason":"pause_turn"}}'),
            "A",
            "paused",
        ),
        (
            ANTHROPIC,
            (
                b'{"id":"m","type":"message","content":[{"type":"text","text":"Hi"}],'
                b'"stop_reason":"refusal"}'
            ),
            "Hi",
            "refusal",
        ),
        (
            RESPONSES,
            sse(
                '{"type":"response.incomplete","response":{"status":"incomplete",'
                '"incomplete_details":{"reason":"max_output_tokens"},'
                '"output":[{"type":"message","content":[{"type":"output_text","text":"x"}]}]}}'
            ),
            "x",
            "length",
        ),
        (GEMINI, sse('{"promptFeedback":{"blockReason":"SAFETY"}}'), "", "content_filter"),
        (GEMINI, sse('{"candidates":[{"finishReason":"NEW_REASON"}]}'), "", "unknown"),
        (GEMINI, sse('{"candidates":[{"finishReason":"MALFORMED_FUNCTION_CALL"}]}'), "", "error"),
        (OLLAMA, b'{"message":{"content":"a"},"done":true}', "a", "stop"),
        (OLLAMA, b'{"message":{"content":"a"},"done":true,"done_reason":"load"}', "a", "unknown"),
    ],
)
def test_which_answers_are_complete(api: str, body: bytes, text: str, finish: str) -> None:
    """Each provider has its own proof; an unknown reason is never `stop`."""
    result = read(api, body)
    assert (result["complete"], result["text"], result["finish_reason"]) == (True, text, finish)


def test_an_unreadable_piece_is_a_lost_piece() -> None:
    """The rest is not passed off as the whole. A piece that the end cuts off is no such loss."""
    result = read(CHAT, sse(HI, '{"choices":[{"del', STOP, "[DONE]"))
    assert (result["text"], result["complete"], result["error"]["code"]) == (
        "Hi",
        False,
        "unreadable",
    )
    assert read(CHAT, sse(HI, STOP) + b'data: {"usa')["complete"]


SAID = "the test of 3 May was positive"


@pytest.mark.parametrize(
    ("api", "body"),
    [
        (CHAT, sse(HI, f'{{"choices":[{{"delta":{{"content":"{SAID}"}}}}', STOP)),
        (CHAT, sse(HI) + f'"content":"{SAID}"}}\n\n'.encode() + sse(HI)),
        (CHAT, sse(HI) + f'{{"choices":[{{"delta":{{"content":"{SAID}'.encode()),
        (CHAT, sse(HI) + f"<html>{SAID}".encode()),
        (CHAT, sse(HI, SAID)),
        (CHAT, SAID.encode()),
        (CHAT, f'{{"response":"{SAID}","done":true}}'.encode()),
        (CHAT, f'event: error\ndata: {{"message":"{SAID}\n\n'.encode()),
        (OLLAMA, f'{{"message":{{"content":"{SAID}'.encode()),
        (
            GEMINI,
            sse(
                f'{{"candidates":[{{"finishReason":"STOP","content":{{"parts":[{{"text":"{SAID}'
            ).strip(),
        ),
    ],
)
def test_an_error_never_quotes_the_answer(api: str, body: bytes) -> None:
    """Errors are logged. They give the length of the unreadable part and its offset in the body."""
    result = read(api, body)
    assert result["error"]
    assert not any(word in str(result["error"]) for word in SAID.split() if len(word) > 3)


def test_an_error_names_its_offset() -> None:
    """So that it can be compared with a recording."""
    broken = f'{{"choices":[{{"delta":{{"content":"{SAID}"}}}}'
    first = sse(HI, broken)
    decoder = decoder_of(CHAT)()
    decoder.feed(first)
    decoder.feed(sse(STOP))
    assert decoder.failure is not None
    assert (
        f"{len(broken)} bytes among the first {len(first)} of the body" in decoder.failure.message
    )


def test_a_page_instead_of_an_answer_is_quoted() -> None:
    """A proxy wrote it, and it says what is wrong."""
    page = b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head></html>"
    assert read(CHAT, page)["error"]["message"].endswith(": 502 Bad Gateway")


def partial(*entries: str) -> bytes:
    parts = (
        f'{{"functionCall":{{"name":"f","partialArgs":[{entry}],"willContinue":true}}}}'
        for entry in entries
    )
    return sse(
        *(f'{{"candidates":[{{"content":{{"parts":[{part}]}}}}]}}' for part in parts),
        '{"candidates":[{"finishReason":"STOP"}]}',
    )


def whole(content: str) -> str:
    return (
        f'{{"object":"chat.completion","choices":[{{"message":{{"content":"{content}"}},'
        f'"finish_reason":"stop"}}]}}'
    )


SAN = '{"jsonPath":"$.city","stringValue":"San "}'


@pytest.mark.parametrize(
    ("api", "body"),
    [
        (GEMINI, partial(SAN, '{"jsonPath":"$.city","stringValue":true}')),
        (GEMINI, partial(SAN, '{"jsonPath":"$.city","numberValue":"7"}')),
        (GEMINI, partial(SAN, '{"jsonPath":"$.city","numberValue":7}')),
        (GEMINI, partial(SAN, '{"jsonPath":"$.city","nullValue":null}')),
        (
            ANTHROPIC,
            sse(
                BEGUN[0],
                '{"type":"content_block_start","index":0,"content_block":{"type":"compaction",'
                '"content":null}}',
                '{"type":"content_block_delta","index":0,"delta":{"type":"compaction_delta",'
                '"content":"Summary: "}}',
                '{"type":"content_block_delta","index":0,"delta":{"type":"compaction_delta",'
                '"content":0}}',
                '{"type":"message_delta","delta":{"stop_reason":"compaction"}}',
                '{"type":"message_stop"}',
            ),
        ),
        (CHAT, f"{whole('All at once')}{whole('Al at once')}".encode()),
    ],
)
def test_contradicting_values_are_damage(api: str, body: bytes) -> None:
    """A piece of another type, or a second, different answer: one of the two is damaged, and
    nothing tells which.
    """
    result = read(api, body)
    assert (result["complete"], result["error"]["code"]) == (False, "unreadable")


def test_empty_and_equal_values_replace_nothing() -> None:
    """The end of a text without a value, or a whole answer twice, as a gateway's retry sends it."""
    assert (
        read(GEMINI, partial(SAN, '{"jsonPath":"$.city"}'))["tool_calls"][0]["arguments"]
        == '{"city": "San "}'
    )
    twice = read(CHAT, f"{whole('All at once')}{whole('All at once')}".encode())
    assert (twice["complete"], twice["text"]) == (True, "All at once")


@pytest.mark.parametrize(
    ("new", "result"), [(None, "a"), ("", "a"), ("b", "ab"), ([], "a"), ({}, "a")]
)
def test_empty_values_add_nothing(new: object, result: str) -> None:
    """Some servers write an empty list for no text."""
    growing = Accumulator("a")
    growing.add(new)
    assert growing.whole() == result


@pytest.mark.parametrize("new", [0, False, 1.5, ["b"], {"b": 1}])
def test_a_piece_of_another_type_is_damage(new: object) -> None:
    """Even a number that is false."""
    with pytest.raises(Unreadable):
        Accumulator("a").add(new)


def test_the_name_of_the_event_ends_an_answer() -> None:
    """If the type inside is lost, the event's name counts; what follows is no part of the
    answer.
    """
    decoder = decoder_of(ANTHROPIC)()
    deltas = decoder.feed(
        sse(*BEGUN) + b'event: message_stop\ndata: {"tpe":"message_stop"}\n\n' + sse(BEGUN[1])
    )
    assert decoder.done
    assert TextDelta("A") in deltas
    assert len(decoder.unread) == 1


def test_an_event_under_the_wrong_name_is_read() -> None:
    """A piece of text can be named a citation if it lost its type and was joined to the next
    event.
    """
    piece = '{"index":0,"delta":{"message":{"content":{"text":" there"}}}}'
    end = '{"type":"message-end","delta":{"finish_reason":"COMPLETE"}}'
    result = read(
        "cohere.chat",
        f"event: content-delta\ndata: {piece}\nevent: citation-start\ndata: {piece}\n\n".encode()
        + sse(end),
    )
    assert [item["value"] for item in result["items"]] == [
        {"message": [{"content": {"text": " there"}}]}
    ]
    assert result["finish_reason"] == "unknown"


@pytest.mark.parametrize(
    "body",
    [
        b"error:\n\n",
        b"error: \n\n",
        b"event: error\ndata:\n\n",
        sse('{"error":{"message":" ","code":500}}'),
    ],
)
def test_an_error_without_words_has_a_message(body: bytes) -> None:
    """The message is never empty."""
    assert read(CHAT, body)["error"]["message"] == NO_WORDS


REASONED = '{"candidates":[{"content":{"parts":[{"text":"a"}]},"finishReason":"STOP"}]}'


@pytest.mark.parametrize(
    ("api", "body"),
    [
        (CHAT, sse(HI, STOP) + f"data: {HI}{HI}\n\n".encode().rstrip()),
        (GEMINI, sse(REASONED) + f"data: {REASONED}".encode() + b'{"error":{"code":503}}'),
        (GEMINI, sse(REASONED) + b"data: " + REASONED.encode()[:-9]),
        (GEMINI, b"[" + REASONED.encode() + b",\r\n" + REASONED.encode()[:-9]),
    ],
)
def test_a_last_line_that_holds_a_piece(api: str, body: bytes) -> None:
    """Two objects in it prove that it was not cut. Where every chunk has a reason, a cut one may
    hold text.
    """
    result = read(api, body)
    assert (result["complete"], result["error"]["code"]) == (False, "unreadable")


def test_two_answers_in_one_stream() -> None:
    """A gateway's splice is noticed when it happens, not when the body ends."""
    decoder = decoder_of(ANTHROPIC)()
    decoder.feed(sse(*BEGUN, '{"type":"message_start","message":{"id":"another"}}'))
    assert decoder.failure is not None
    assert decoder.failure.code == "spliced"


@pytest.mark.parametrize(
    "pieces", [[b"data: " + b"x" * 200], [b"data: x\n" * 10, b"data: " + b"y" * 90]]
)
def test_an_event_beyond_the_limit_is_a_failure(pieces: list[bytes]) -> None:
    """Even if only the end of the body shows it."""
    decoder = decoder_of(CHAT)()
    decoder._framer = Framer(max_frame_bytes=100)
    for piece in pieces:
        decoder.feed(piece)
    decoder.close()
    assert decoder.failure is not None
    assert decoder.failure.code == "too_large"


@given(st.sampled_from(sorted(DIALECTS)), st.lists(st.binary(max_size=60), max_size=8))
def test_no_bytes_make_a_decoder_raise(api: str, pieces: list[bytes]) -> None:
    """Any input ends as a proof or a failure."""
    decoder = decoder_of(api)()
    for piece in pieces:
        decoder.feed(piece)
    decoder.close()
    assert decoder.done != (decoder.failure is not None)


WORDS = """type choices delta message content index id name function arguments tool_calls candidates
parts text functionCall usage item response output item_id finish_reason error code content_block
partial_json usageMetadata
done partialArgs jsonPath thinking"""
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.sampled_from(["", "x", "stop", "text", "tool_use", "function_call", "thinking"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(WORDS.split()), inner, max_size=4)
    ),
    max_leaves=25,
)
KINDS = """message_start content_block_start content_block_delta content_block_stop message_delta
message_stop message response.created response.completed response.output_item.added
response.output_item.done response.output_text.delta
response.function_call_arguments.delta error"""
ITEMS = st.lists(
    st.tuples(
        st.sampled_from(KINDS.split()),
        st.dictionaries(st.sampled_from(WORDS.split()), VALUES, max_size=6),
    ),
    max_size=6,
)


@given(st.sampled_from(sorted(DIALECTS)), ITEMS)
def test_no_json_makes_a_decoder_raise(api: str, items: list[tuple[str, dict[str, Any]]]) -> None:
    """Fields of a wrong shape are skipped; the deltas have the right types."""
    decoder = decoder_of(api)()
    deltas = []
    for kind, item in items:
        deltas += decoder.feed(b"data: " + msgspec.json.encode({"type": kind, **item}) + b"\n\n")
    deltas += decoder.close()
    assert decoder.done != (decoder.failure is not None)
    for delta in deltas:
        msgspec.convert(msgspec.to_builtins(delta), type(delta))


def test_a_response_cannot_be_resumed_within_an_item() -> None:
    """Behind each item that has ended, and before the first one, it can."""
    decoder = decoder_of(RESPONSES)()
    items = [{"type": "message", "id": "m", "content": []}, {"type": "web_search_call", "id": "w"}]
    told = [("added", 0), ("added", 1), ("done", 0), ("done", 1)]
    found = [decoder.midway]
    for kind, index in told:
        at = {"output_index": index, "item": items[index]}
        event = {"type": f"response.output_item.{kind}", **at}
        decoder.feed(sse(json.dumps(event)))
        found.append(decoder.midway)
    assert found == [False, True, True, True, False]
