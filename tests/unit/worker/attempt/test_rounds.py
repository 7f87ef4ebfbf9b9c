"""What the log lacks of the calls of an answer."""

from types import SimpleNamespace
from typing import Any

from tokenwire.protocol.events import PartEvent
from tokenwire.protocol.fold import Answer
from tokenwire.worker.attempt.rounds import RoundCalls, differences


def row(number: int, **fields: Any) -> Any:
    names = ("title", "result", "error", "expires_at", "approval", "ran_with")
    absent = dict.fromkeys(names)
    return SimpleNamespace(number=number, **absent | {"runs_at": "server"} | fields)


def held() -> Answer:
    answer = Answer("m1")
    fields = {"type": "tool_call", "id": "c", "name": "send", "state": "streaming"}
    answer.apply(PartEvent("m1", 1, 0, fields))
    answer.apply(PartEvent("m1", 1, 0, {"type": "tool_call", "state": "proposed"}))
    return answer


def test_what_the_log_lacks() -> None:
    """The fields of the row that its part has not; once applied, nothing more."""
    answer, calls = held(), [row(0, state="done", result=3)]
    ((part, fields),) = differences(answer, calls)
    assert (part, fields) == (0, {"state": "done", "runs_at": "server", "result": 3})
    answer.apply(PartEvent("m1", 1, part, {"type": "tool_call", **fields}))
    assert not list(differences(answer, calls))


def test_calls_of_a_newer_attempt() -> None:
    """An attempt that counted as dead and wakes up reads calls of parts that it does not have."""
    newer = [row(0, state="proposed"), row(2, state="running")]
    assert [part for part, _ in differences(held(), newer)] == [0]


def test_calls_that_wait_for_a_place_keep_no_other_from_beginning() -> None:
    """They were begun, and rows still say `proposed`: there is room for others behind them."""
    calls = RoundCalls([row(number, state="proposed") for number in range(5)], rev=0)
    assert [call.number for call in calls.next({0, 1}, 4)] == [2, 3]
    assert [call.number for call in calls.next({0, 1, 2, 3}, 4)] == []
    assert [call.number for call in calls.next((), 4)] == [0, 1, 2, 3]
