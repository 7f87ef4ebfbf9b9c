"""Tool calls in every form: whole or in pieces, identified by id, index or order."""

import json
import re

import pytest

from tests.unit.providers.bodies import ANTHROPIC, CHAT, GEMINI, OLLAMA, RESPONSES, read, sse
from tokenwire.providers.base import Delta, ToolCallArguments, ToolCallStart
from tokenwire.providers.content import input_of
from tokenwire.providers.dialects import decoder_of
from tokenwire.providers.history import CallPart
from tokenwire.providers.tool_calls import ToolCalls


def chat_calls(*deltas: str) -> bytes:
    return sse(
        *(f'{{"choices":[{{"delta":{{"tool_calls":[{delta}]}}}}]}}' for delta in deltas),
        '{"choices":[{"finish_reason":"tool_calls"}]}',
    )


@pytest.mark.parametrize(
    ("api", "body", "calls"),
    [
        (
            CHAT,
            chat_calls('{"index":0,"id":"a","function":{"name":"f","arguments":""}}'),
            [("f", "{}")],
        ),
        (
            CHAT,
            chat_calls('{"index":0,"id":"a","function":{"name":"f","arguments":{"x":1}}}'),
            [("f", '{"x": 1}')],
        ),
        (
            CHAT,
            chat_calls(
                '{"id":"a","function":{"name":"f","arguments":"{\\"x\\""}}',
                '{"function":{"arguments":":1}"}}',
            ),
            [("f", '{"x":1}')],
        ),
        (
            CHAT,
            chat_calls(
                '{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}},{"index":0,'
                '"id":"b","function":{"name":"g","arguments":"{}"}}'
            ),
            [("f", "{}"), ("g", "{}")],
        ),
        (
            CHAT,
            chat_calls(
                '{"index":0,"id":"a","function":{"name":"f","arguments":""}}',
                '{"index":1,"id":"b","function":{"name":"g","arguments":""}}',
                '{"index":0,"id":"","function":{"arguments":"[1]"}}',
                '{"index":1,"id":null,"function":{"arguments":"[2]"}}',
            ),
            [("f", "[1]"), ("g", "[2]")],
        ),
        (
            CHAT,
            sse(
                '{"choices":[{"delta":{"function_call":{"name":"f","arguments":"{}"}},'
                '"finish_reason":"function_call"}]}'
            ),
            [("f", "{}")],
        ),
        (
            OLLAMA,
            (
                b'{"message":{"tool_calls":[{"function":{"name":"f","arguments":{"a":1}}},'
                b'{"function":{"name":"f"}}]},"done":true}'
            ),
            [("f", '{"a": 1}'), ("f", "{}")],
        ),
        (
            RESPONSES,
            sse(
                '{"type":"response.output_item.done","output_index":0,'
                '"item":{"type":"function_call","call_id":"c","name":"f",'
                '"arguments":"[1]"}}',
                '{"type":"response.completed","response":{"status":"completed"}}',
            ),
            [("f", "[1]")],
        ),
        (
            GEMINI,
            sse(
                '{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f",'
                '"willContinue":true}}]}}]}',
                '{"candidates":[{"content":{"parts":[{"functionCall":{"partialArgs":[{"jsonPath"'
                ':"$.a.b[1]","stringValue":"x"}],"willContinue":true}}]}}]}',
                '{"candidates":[{"content":{"parts":[{"functionCall":{}}]},'
                '"finishReason":"STOP"}]}',
            ),
            [("f", '{"a": {"b": [null, "x"]}}')],
        ),
        (
            GEMINI,
            sse(
                '{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f",'
                '"willContinue":true}}]}}]}',
                '{"candidates":[{"content":{"parts":[{"functionCall":{"partialArgs":[{"jsonPath"'
                ':"$.a","numberValue":1}],"willContinue":true}}]},'
                '"finishReason":"STOP"}]}',
            ),
            [("f", '{"a": 1}')],
        ),
        (
            GEMINI,
            sse(
                '{"candidates":[{"content":{"parts":[{"functionCall":{"id":"1","name":"f",'
                '"args":{},'
                '"partialArgs":[{"jsonPath":"city","stringValue":"San '
                '","willContinue":true}]}}]}}]}',
                '{"candidates":[{"content":{"parts":[{"functionCall":{"id":"1","name":"f",'
                '"partialArgs":[{"jsonPath":"city","stringValue":"José"}]}}]}}]}',
                '{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f",'
                '"args":{"n":1}}}]},"finishReason":"STOP"}]}',
            ),
            [("f", '{"city": "San José"}'), ("f", '{"n": 1}')],
        ),
        (
            "cohere.chat",
            sse(
                '{"type":"message-start","id":"m"}',
                '{"type":"tool-call-start","index":0,"delta":{"message":{"tool_calls":{"id":"a",'
                '"function":{"name":"f","arguments":""}}}}}',
                '{"type":"tool-call-delta","index":0,"delta":{"message":{"tool_calls":{"function'
                '":{"arguments":"[1]"}}}}}',
                '{"type":"message-end","delta":{"finish_reason":"TOOL_CALL",'
                '"usage":{"tokens":{"input_tokens":1,"output_tokens":2}}}}',
            ),
            [("f", "[1]")],
        ),
    ],
)
def test_tool_calls(api: str, body: bytes, calls: list[tuple[str, str]]) -> None:
    """Pieces find their call by id, index or order. No arguments are `{}`, objects become JSON, the
    reason is `tool_calls`.
    """
    result = read(api, body)
    assert [(call["name"], call["arguments"]) for call in result["tool_calls"]] == calls
    assert result["finish_reason"] == "tool_calls"


def test_pieces_of_calls_that_have_only_ids() -> None:
    """Without an index, alternating pieces belong to the call with their id, not to the latest
    one.
    """
    told: list[Delta] = []
    calls = ToolCalls(told.append)
    calls.piece(None, "call_a", "one", '{"x":')
    calls.piece(None, "call_b", "two", '{"y":')
    calls.piece(None, "call_a", None, "1}")
    calls.piece(None, "call_b", None, "2}")
    calls.end_all()
    arguments = {
        index: "".join(
            d.json for d in told if isinstance(d, ToolCallArguments) and d.index == index
        )
        for index in (0, 1)
    }
    assert [d.id for d in told if isinstance(d, ToolCallStart)] == ["call_a", "call_b"]
    assert arguments == {0: '{"x":1}', 1: '{"y":2}'}


def test_an_ollama_server_may_give_a_call_its_id() -> None:
    """Newer servers give one; otherwise we make one up."""
    call = '{"message":{"tool_calls":[{%s"function":{"name":"f","arguments":{}}}]},"done":true}\n'
    starts = [
        delta
        for given in ('"id":"call_7",', "")
        for delta in decoder_of(OLLAMA)().feed((call % given).encode())
        if isinstance(delta, ToolCallStart)
    ]
    assert (starts[0].id, starts[0].made_up) == ("call_7", False)
    assert starts[1].made_up


def anthropic_calls(*calls: tuple[str, str, str]) -> bytes:
    """A body with (id, name, arguments) of each call."""
    items = []
    for index, (id_, name, arguments) in enumerate(calls):
        block = {"type": "tool_use", "id": id_, "name": name, "input": {}}
        delta = {"type": "input_json_delta", "partial_json": arguments}
        items += [
            {"type": "content_block_start", "index": index, "content_block": block},
            {"type": "content_block_delta", "index": index, "delta": delta},
            {"type": "content_block_stop", "index": index},
        ]
    items += [
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}},
        {"type": "message_stop"},
    ]
    return sse(*map(json.dumps, items))


SAME_ID = {
    "with an index": (
        CHAT,
        chat_calls(
            '{"index":0,"id":"x","function":{"name":"f","arguments":"{\\"a\\""}}',
            '{"index":0,"function":{"arguments":":1}"}}',
            '{"index":1,"id":"x","function":{"name":"g","arguments":"{\\"b\\""}}',
            '{"index":1,"id":"x","function":{"arguments":":2}"}}',
        ),
    ),
    "and the same name": (
        CHAT,
        chat_calls(
            '{"index":0,"id":"x","function":{"name":"f","arguments":"{\\"a\\":1}"}}',
            '{"index":1,"id":"x","function":{"name":"f","arguments":"{\\"b\\":2}"}}',
        ),
    ),
    "without an index": (
        CHAT,
        chat_calls(
            '{"id":"x","function":{"name":"f","arguments":"{\\"a\\":1}"}}',
            '{"id":"x","function":{"name":"g","arguments":"{\\"b\\""}}',
            '{"id":"x","function":{"arguments":":2}"}}',
        ),
    ),
    "at one index": (
        CHAT,
        chat_calls(
            '{"index":0,"id":"x","function":{"name":"f","arguments":"{\\"a\\":1}"}}',
            '{"index":0,"id":"x","function":{"name":"g","arguments":"{\\"b\\":2}"}}',
        ),
    ),
    "in a whole message": (
        CHAT,
        (
            b'{"choices":[{"message":{"tool_calls":['
            b'{"id":"x","function":{"name":"f","arguments":"{\\"a\\":1}"}},'
            b'{"id":"x","function":{"name":"f","arguments":"{\\"b\\":2}"}}'
            b']},"finish_reason":"tool_calls"}]}'
        ),
    ),
    "of anthropic": (
        ANTHROPIC,
        anthropic_calls(("x", "f", '{"a":1}'), ("x", "g", '{"b":2}')),
    ),
    "of ollama": (
        OLLAMA,
        (
            b'{"message":{"tool_calls":[{"id":"x","function":{"name":"f","arguments":{"a":1}}},'
            b'{"id":"x","function":{"name":"f","arguments":{"b":2}}}]},"done":true}\n'
        ),
    ),
    "of gemini": (
        GEMINI,
        sse(
            '{"candidates":[{"content":{"parts":['
            '{"functionCall":{"id":"x","name":"f","args":{"a":1}}},'
            '{"functionCall":{"id":"x","name":"g","args":{"b":2}}}'
            ']},"finishReason":"STOP"}]}'
        ),
    ),
    "of responses": (
        RESPONSES,
        sse(
            '{"type":"response.output_item.done","output_index":0,"item":{"type":"function_call",'
            '"id":"i0","call_id":"x","name":"f","arguments":"{\\"a\\":1}"}}',
            '{"type":"response.output_item.done","output_index":1,"item":{"type":"function_call",'
            '"id":"i1","call_id":"x","name":"g","arguments":"{\\"b\\":2}"}}',
            '{"type":"response.completed","response":{"status":"completed"}}',
        ),
    ),
}


@pytest.mark.parametrize("case", SAME_ID)
def test_calls_of_one_id(case: str) -> None:
    """Each keeps its name and its arguments; the later one gets an id of ours, so ids are
    unique in the history that goes back.
    """
    api, body = SAME_ID[case]
    decoder = decoder_of(api)()
    deltas = [*decoder.feed(body), *decoder.close()]
    starts = [delta for delta in deltas if isinstance(delta, ToolCallStart)]
    arguments = [
        json.loads(
            "".join(
                delta.json
                for delta in deltas
                if isinstance(delta, ToolCallArguments) and delta.index == start.index
            )
        )
        for start in starts
    ]
    assert decoder.done
    assert arguments == [{"a": 1}, {"b": 2}]
    assert [start.name for start in starts] in (["f", "g"], ["f", "f"])
    assert (starts[0].id, starts[0].made_up) == ("x", False)
    assert starts[1].made_up
    assert re.fullmatch(r"call_[0-9a-f]{24}", starts[1].id)


@pytest.mark.parametrize("depth", [65, 990, 100_000])
def test_input_that_is_nested_too_deeply_goes_back_as_text(depth: int) -> None:
    """Python can parse some objects that it cannot encode within a request."""
    text = '{"a":' * depth + "1" + "}" * depth
    assert input_of(CallPart("c", "f", text)) == {"unreadable": text}


@pytest.mark.parametrize("text", ["", '{"n": %s, "k": "\\u0000"}' % ("9" * 40)])
def test_other_input_goes_back_as_it_is(text: str) -> None:
    assert input_of(CallPart("c", "f", text)) == json.loads(text or "{}")
