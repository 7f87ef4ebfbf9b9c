"""What counts as a run without a permission, and what the scripted model refuses."""

from typing import Any

import pytest

from tests.chaos.permissions import judge_calls
from tests.chaos.rounds import ROUNDS, Rounds, WrongRequest
from tests.chaos.script import script

CALL = {"number": 1, "name": "send", "key": "k", "runs": 1, "state": "done", "result": "k/1"}
SEND = {**CALL, "repeatable": False}
LOST = {**SEND, "runs": 2, "state": "unknown", "result": None}
PAY = {**SEND, "name": "pay"}


def decision(kind: str, runs: int = 0) -> dict[str, Any]:
    return {"number": 1, "runs": runs, "decision": kind}


@pytest.mark.parametrize(
    ("call", "decisions", "ran", "logged"),
    [
        pytest.param(SEND, [], [1], {"state": "done", "result": "k/1"}, id="once"),
        pytest.param({**LOST, "repeatable": True}, [], [1, 2], None, id="repeatable"),
        pytest.param(LOST, [decision("repeat", 1)], [1, 2], None, id="a person said so"),
        pytest.param(PAY, [decision("approve")], [1], None, id="approved"),
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
    assert calls == ROUNDS[0]
    whole = ("".join(first), ROUNDS[0], "r")
    second, calls = rounds.next(wanted, messages(whole))
    assert calls == ROUNDS[1]
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
    assert calls == ()
