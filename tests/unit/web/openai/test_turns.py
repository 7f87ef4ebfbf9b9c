"""web/openai/turns.py: calls and results of a request become turns, and what does not fit is
refused.
"""

from typing import Any

import pytest

from tokenwire.models.responses import PastCall, PastTurn
from tokenwire.protocol.fold import Answer, from_view
from tokenwire.protocol.states import MAX_SENTENCE_CHARS
from tokenwire.web.openai import turns as reading
from tokenwire.web.openai.errors import OpenAIProblem
from tokenwire.web.openai.turns import Owed, owed_by, turns_of_messages

Item = dict[str, Any]
ASK: Item = {"role": "user", "content": "Add."}
MODEL: Item = {"role": "assistant", "content": "Wait."}


def turns_of_items(items: Any, owed: Owed) -> list[PastTurn]:
    return list(reading.turns_of_items(items, owed).turns)


def call(name: str = "c1", **more: Any) -> Item:
    return {"type": "function_call", "call_id": name, "name": "add", "arguments": "{}"} | more


def output(name: str = "c1", held: Any = "3") -> Item:
    return {"type": "function_call_output", "call_id": name, "output": held}


def server(**more: Any) -> Item:
    known = {"type": "mcp_call", "id": "mcp_1", "server_label": "tokenwire", "name": "add"}
    return known | {"arguments": "{}", "output": "3", "error": None} | more


def chat_call(name: str = "c1") -> Item:
    function = {"name": "add", "arguments": "{}"}
    return {"id": name, "type": "function", "function": function}


def said(*calls: str) -> Item:
    return {"role": "assistant", "content": None, "tool_calls": [*map(chat_call, calls)]}


def result(name: str = "c1") -> Item:
    return {"role": "tool", "tool_call_id": name, "content": "3"}


def left(*names: str, **more: Any) -> Answer:
    """An ended answer with these calls for its caller."""
    known = {"type": "tool_call", "name": "add", "state": "proposed", "input": "{}"}
    parts = [{**known, "id": name, "runs_at": "caller", **more} for name in names]
    ended = {"id": "m", "status": "complete", "finish_reason": "tool_calls", "parts": parts}
    return from_view({"content": "", "reasoning": "", **ended})


def shape(turns: list[PastTurn]) -> list[tuple[str, str, list[tuple[str, str]]]]:
    return [
        (turn.role, turn.content, [(one.id, one.state) for one in turn.calls]) for turn in turns
    ]


def test_calls_join_the_text_before_them() -> None:
    """In both dialects, and their results are a turn."""
    expected = [
        ("user", "Add.", []),
        ("assistant", "Wait.", [("c1", "proposed"), ("c2", "proposed")]),
        ("tool", "", [("c2", "done"), ("c1", "done")]),
    ]
    items = [ASK, MODEL, call(), {"type": "reasoning"}, call("c2"), output("c2"), output()]
    chat = [ASK, said("c1", "c2") | {"content": "Wait."}, result("c2"), result()]
    assert shape(turns_of_items(items, Owed())) == expected
    assert shape(turns_of_messages(chat)) == expected


def test_an_id_may_come_again_in_a_later_round() -> None:
    """Providers repeat them."""
    rounds = turns_of_items([ASK, call(), output(), call(), output()], Owed())
    assert [turn.role for turn in rounds] == ["user", "assistant", "tool", "assistant", "tool"]
    assert turns_of_messages([ASK, said("c1"), result(), said("c1"), result()]) == rounds


def test_a_text_behind_open_calls_belongs_to_their_turn() -> None:
    """Otherwise it would stand between a call and its result."""
    assert shape(turns_of_items([ASK, call(), MODEL, output()], Owed()))[1] == (
        "assistant",
        "Wait.",
        [("c1", "proposed")],
    )


def test_the_text_of_a_result_may_be_a_list() -> None:
    """Of texts alone."""
    parts = [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]
    (*_, last) = turns_of_items([ASK, call(), output("c1", parts)], Owed())
    assert last.calls[0].result == "ab"
    with pytest.raises(OpenAIProblem, match="input_image"):
        turns_of_items([ASK, call(), output("c1", [{"type": "input_image"}])], Owed())


def test_a_call_of_the_server_brings_its_result() -> None:
    """The next text is another turn."""
    items = [ASK, server(), server(id="mcp_2", output=None, error="No."), MODEL]
    turns = turns_of_items(items, Owed())
    assert shape(turns)[1:] == [
        ("assistant", "", [("mcp_1", "done"), ("mcp_2", "failed")]),
        ("assistant", "Wait.", []),
    ]
    assert [(one.result, one.error) for one in turns[1].calls] == [("3", None), (None, "No.")]
    with pytest.raises(OpenAIProblem, match="The only server here is tokenwire"):
        turns_of_items([ASK, server(server_label="other")], Owed())


def test_results_of_the_response_before_come_first() -> None:
    """They get the provider's id and the name of their call."""
    owed = owed_by(left("a", "a"))
    assert set(owed.open) == {"a", "a.1"}
    turns = turns_of_items([output("a"), output("a.1"), ASK], owed)
    assert turns[0] == PastTurn(
        "tool",
        "",
        (
            PastCall("a", "add", state="done", result="3"),
            PastCall("a", "add", state="done", result="3", shown_as="a.1"),
        ),
    )
    for items in ([output("a")], [output("a"), ASK], "Never mind."):
        with pytest.raises(OpenAIProblem, match="No tool output found for function call a"):
            turns_of_items(items, owed)


def test_results_of_calls_that_nobody_asked_for_may_be_missing() -> None:
    """A provider gets a sentence in their place."""
    owed = owed_by(left("a", runs_at=None))
    assert shape(turns_of_items([output("a")], owed)) == [("tool", "", [("a", "done")])]
    assert shape(turns_of_items("Go on.", owed)) == [("user", "Go on.", [])]
    with pytest.raises(OpenAIProblem, match="No tool call found"):
        turns_of_items([ASK, output("a")], owed)


def test_a_result_of_an_invalid_call_is_ignored() -> None:
    """Its model was told already. Results of the server's calls are refused."""
    assert shape(turns_of_items([output("a"), ASK], owed_by(left("a", state="invalid")))) == [
        ("user", "Add.", [])
    ]
    with pytest.raises(OpenAIProblem, match="No tool call found"):
        turns_of_items([output("a"), ASK], owed_by(left("a", state="done", runs_at="server")))


@pytest.mark.parametrize(
    ("items", "param", "reason"),
    [
        ([ASK, output()], "input[1]", "No tool call found"),
        ([ASK, call(), output("other")], "input[2]", "No tool call found"),
        ([ASK, call(), output(), output()], "input[3]", "No tool call found"),
        ([ASK, call()], "input", "No tool output found"),
        ([ASK, call(), ASK, output()], "input[2]", "No tool output found"),
        ([ASK, call(), call("c2"), output(), call("c3")], "input[4]", "No tool output found"),
        ([ASK, call(), call()], "input[2]", "Two calls of one turn"),
        ([ASK, call(arguments={})], "input[1].arguments", "no text"),
        ([ASK, call("")], "input[1].call_id", "no text"),
        ([ASK, {"type": "function_call"}], "input[1].name", "no text"),
        ([ASK, {"type": "custom_tool_call"}], "input[1]", "'custom_tool_call'"),
        ([{"type": "mcp_approval_response"}], "input[0]", "approve is true or"),
    ],
)
def test_refused_items(items: list[Item], param: str, reason: str) -> None:
    """By place."""
    with pytest.raises(OpenAIProblem, match=reason) as refused:
        turns_of_items(items, Owed())
    assert (refused.value.status, refused.value.body["error"]["param"]) == (400, param)


def test_the_reason_of_a_decision_is_as_long_as_over_the_api() -> None:
    """A longer one is refused, and not cut. What became history was accepted before."""
    asked = {"m_0": PastCall("m_0", "pay", "{}", asked_in=("m", 0))}
    decision = {"type": "mcp_approval_response", "approval_request_id": "m_0", "approve": False}
    longest = decision | {"reason": "x" * MAX_SENTENCE_CHARS}
    [decided] = reading.turns_of_items([longest], Owed(requests=asked)).decided
    assert decided.reason == longest["reason"]
    longer = decision | {"reason": "x" * (MAX_SENTENCE_CHARS + 1)}
    with pytest.raises(OpenAIProblem, match="at most 2000 characters") as refused:
        turns_of_items([longer], Owed(requests=asked))
    assert refused.value.body["error"]["param"] == "input[0].reason"
    history = [ASK, longer, server(approval_request_id="m_0"), ASK]
    assert reading.turns_of_items(history, Owed()).decided == []


@pytest.mark.parametrize(
    ("messages", "param", "reason"),
    [
        ([ASK, result()], "messages[1]", "No tool call found"),
        ([ASK, said("c1"), ASK], "messages[2]", "No tool output found"),
        ([ASK, said("c1")], "messages", "No tool output found"),
        ([ASK, said("c1", "c1")], "messages[1].tool_calls[1]", "Two calls of one turn"),
        ([ASK | {"tool_calls": [{}]}], "messages[0].tool_calls", "only an assistant"),
        ([ASK, MODEL | {"tool_calls": [5]}], "messages[1].tool_calls", "a list of objects"),
        (
            [ASK, MODEL | {"tool_calls": [{"type": "custom"}]}],
            "messages[1].tool_calls[0]",
            "custom",
        ),
        ([ASK, MODEL | {"function_call": {"name": "f"}}], "messages[1]", "use tools"),
    ],
)
def test_refused_messages(messages: list[Item], param: str, reason: str) -> None:
    """By place."""
    with pytest.raises(OpenAIProblem, match=reason) as refused:
        turns_of_messages(messages)
    assert (refused.value.status, refused.value.body["error"]["param"]) == (400, param)


def test_a_turn_has_a_thousand_calls_at_most() -> None:
    """Ids of calls cost more, the more there are."""
    names = [f"c{number}" for number in range(1001)]
    with pytest.raises(OpenAIProblem, match="more than 1000 calls") as refused:
        turns_of_messages([ASK, said(*names)])
    assert refused.value.body["error"]["param"] == "messages[1].tool_calls[1000]"
    turns = turns_of_messages([ASK, said(*names[:1000]), *map(result, names[:1000])])
    assert [len(turn.calls) for turn in turns] == [0, 1000, 1000]
