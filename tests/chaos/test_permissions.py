"""What counts as a run without a permission, and what the scripted model refuses."""

from typing import Any

import pytest

from tests.chaos.load import Stream, judge_tools
from tests.chaos.people import APPROVE
from tests.chaos.permissions import executions, judge_calls, judge_keys
from tests.chaos.rounds import ROUNDS, Rounds, WrongRequest, question
from tests.chaos.script import script

CALL = {"number": 1, "name": "send", "key": "k", "runs": 1, "state": "done", "result": "k/1"}
SEND = {**CALL, "repeatable": False}
LOST = {**SEND, "runs": 2, "state": "unknown", "result": None}
PAY = {**SEND, "name": "pay"}


ORDER = {**SEND, "name": "order"}
PICK = {**SEND, "name": "pick", "runs_at": "client", "runs": 0, "result": "found"}


def decision(kind: str, runs: int = 0, value: Any = None) -> dict[str, Any]:
    return {"number": 1, "runs": runs, "decision": kind, "value": value}


@pytest.mark.parametrize(
    ("call", "decisions", "ran", "logged"),
    [
        pytest.param(SEND, [], [1], {"state": "done", "result": "k/1"}, id="once"),
        pytest.param({**LOST, "repeatable": True}, [], [1, 2], None, id="repeatable"),
        pytest.param(LOST, [decision("repeat", 1)], [1, 2], None, id="a person said so"),
        pytest.param(PAY, [decision("approve")], [1], None, id="approved"),
        pytest.param(PICK, [decision("result", 0, "found")], [], None, id="a client's"),
    ],
)
def test_runs_with_their_permissions(
    call: dict[str, Any], decisions: Any, ran: list[int], logged: dict[str, Any] | None
) -> None:
    """Nothing is wrong with them."""
    assert not list(judge_calls([call], decisions, {"k": ran}, {1: logged} if logged else {}))


@pytest.mark.parametrize(
    ("call", "decisions", "ran", "fault"),
    [
        pytest.param(LOST, [], [1, 2], "with 1 permissions", id="repeated"),
        pytest.param(SEND, [], [1, 1], "of 1 claims", id="one claim, two runs"),
        pytest.param(PAY, [decision("deny")], [1], "0 permissions", id="denied"),
        pytest.param(ORDER, [], [1], "0 permissions", id="a service, not approved"),
        pytest.param(
            PICK, [decision("result", 0, "no")], [], "nobody gave it", id="given by nobody"
        ),
        pytest.param(
            PICK, [decision("result", 0, "found")], [1], "of a client's", id="ran, and at a client"
        ),
        pytest.param(
            {**PAY, "state": "denied"}, [decision("approve")], [], "and denied", id="not applied"
        ),
        pytest.param(PAY, [decision("deny")], [], "denied, and done", id="denied, and done"),
        pytest.param(SEND, [], [], "that of no run", id="a result of nothing"),
        pytest.param({**SEND, "state": "running"}, [], [1], "not ended", id="left behind"),
        pytest.param(
            PAY, [decision("approve"), decision("deny")], [1], "2 decisions", id="decided twice"
        ),
    ],
)
def test_what_is_wrong(call: dict[str, Any], decisions: Any, ran: list[int], fault: str) -> None:
    """It is reported with the call."""
    found = " ".join(judge_calls([call], decisions, {"k": ran}, {}))
    assert fault in found
    assert "call 1" in found


def test_a_log_that_lacks_a_result() -> None:
    """The row has it."""
    (found,) = judge_calls([SEND], [], {"k": [1]}, {1: {"state": "running"}})
    assert found == "call 1 (send): its row is done, its log running"


def test_an_approval_that_was_taken_back() -> None:
    """Whatever a person has approved is not withdrawn, unless the answer is stopped."""
    call = {**PAY, "state": "withdrawn", "result": None}
    stream = Stream(script(1, 10), "prefix", row={"status": "complete"}, calls=[call])
    stream.decisions, stream.applied = [decision("approve")], [(1, APPROVE)]
    assert "approved, and withdrawn: (1, 'approve')" in judge_tools(stream, {})
    stream.row = {"status": "cancelled"}
    assert not judge_tools(stream, {})
    stream.decisions = []
    assert judge_tools(stream, {}) == ["not stored: (1, 'approve')"]


def test_each_call_has_one_key() -> None:
    """Whatever run it is, and that of a call that is stored."""
    known = {("m", "k")}
    assert not list(judge_keys({("m", 100): {"k"}}, known))
    (two, strange) = judge_keys({("m", 100): {"k", "l"}}, known)
    assert "with the keys ['k', 'l']" in two
    assert "keys of no call: ['l']" in strange
    assert list(judge_keys({("n", 100): {"k"}}, known))


def test_executions_are_counted_by_what_tools_wrote() -> None:
    """Apart for those that may run again; without those of clients."""
    note = {**SEND, "key": "n", "repeatable": True}
    found = executions([SEND, {**SEND, "key": "l"}, note, PICK], {"k": [1], "n": [1, 2]})
    assert found == (
        "not repeatable: 1 calls 0 times, 1 calls 1 times; repeatable: 1 calls 2 times"
    )


def messages(*turns: tuple[str, tuple[str, ...], str]) -> list[dict[str, Any]]:
    """Texts with the tools called behind them, and what each tool returned."""
    found: list[dict[str, Any]] = []
    for text, names, returned in turns:
        asked = [{"function": {"name": name}} for name in names]
        found.append({"role": "assistant", "content": text, "tool_calls": asked})
        found += [{"role": "tool", "content": returned} for _ in names]
    return found


def test_the_scripted_model_wants_its_turns_and_results_back() -> None:
    """Each unchanged, in every later request."""
    rounds, wanted = Rounds(), script(1, 30)
    first, calls = rounds.next(wanted, [])
    assert calls == list(zip(ROUNDS[0], (100, 101, 102), strict=True))
    whole = ("".join(first), ROUNDS[0], "r")
    second, calls = rounds.next(wanted, messages(whole))
    assert calls == list(zip(ROUNDS[1], (103, 104), strict=True))
    assert wanted.text.startswith("".join([*first, *second]))
    for wrong in (
        messages((whole[0][1:], *whole[1:])),
        messages((whole[0], ROUNDS[0][:1], "r")),
        messages((*whole[:2], "another result")),
        messages(whole)[:-1],
    ):
        with pytest.raises(WrongRequest):
            rounds.next(wanted, wrong)
    last, calls = rounds.next(wanted, messages(whole, ("".join(second), ROUNDS[1], "s")))
    assert "".join([*first, *second, *last]) == wanted.text
    assert calls == []


def test_the_scripted_model_wants_remarks_where_they_came() -> None:
    """Behind the results of one round, once, in every later request."""
    rounds, wanted = Rounds(), script(1, 30)
    first, _ = rounds.next(wanted, [])
    whole = messages(("".join(first), ROUNDS[0], "r"))
    remark = {"role": "user", "content": script(50_001, 20).question}
    second, _ = rounds.next(wanted, [*whole, remark])
    for wrong in (whole, [*whole, remark, remark], [remark, *whole]):
        with pytest.raises(WrongRequest):
            rounds.next(wanted, wrong)
    later = [*messages(("".join(second), ROUNDS[1], "s"))]
    rounds.next(wanted, [*whole, remark, *later])
    assert rounds.remarks[50_001] == (1, 3)


@pytest.mark.parametrize(
    ("roles", "found"),
    [
        ("user", 0),
        ("system user assistant tool tool", 1),
        ("user assistant tool user", 0),
        ("user assistant tool user user assistant tool", 0),
        ("user assistant tool user assistant user", 5),
        ("user assistant tool assistant user assistant tool user", 4),
    ],
)
def test_what_steers_is_not_the_question(roles: str, found: int) -> None:
    """A message behind results steers, one behind an answer asks."""
    assert question(roles.split()) == found


def test_a_remark_that_is_answered_names_itself() -> None:
    """Behind an answer that failed in a round, its request looks like one of that answer."""
    roles = ["user", "assistant", "tool", "user"]
    texts = [script(1, 30).question, "", "r", script(50_001, 20).question]
    assert question(roles, texts) == 0
    assert question(roles, texts, seed=50_001) == 3
    assert question(roles, texts, seed=7) == 0
