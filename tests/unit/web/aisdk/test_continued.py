"""web.aisdk.continued: which decisions of a client's message apply."""

import json
from dataclasses import dataclass
from typing import Any

import pytest

from tokenwire.models.call_states import Decision
from tokenwire.web.aisdk.continued import BadDecision, Continued
from tokenwire.web.aisdk.requests import InputLimits, parse_chat

LIMITS = InputLimits(1000, 100_000)


@dataclass
class Row:
    """A call that waits for a person."""

    input: str = "{}"
    number: int = 0
    name: str = "pay"
    state: str = "awaiting_approval"
    runs_at: str = "server"
    approval: dict[str, Any] | None = None


def part(input_text: str = "{}", **more: Any) -> str:
    """The approval of the call as a client sends it, whose numbers JavaScript has written."""
    fields = {"type": "tool-pay", "toolCallId": "c", "state": "approval-responded"}
    fields |= {"approval": {"id": "c", "approved": True}} | more
    return json.dumps(fields)[:-1] + f', "input": {input_text}}}'


def decided(row: Row, *parts: str) -> list[tuple[int, Decision]]:
    held = f'{{"id": "m", "role": "assistant", "parts": [{", ".join(parts)}]}}'
    sent = parse_chat(f'{{"id": "chat", "messages": [{held}]}}'.encode(), LIMITS).continued
    assert sent is not None
    return Continued(sent, {"c": row}).decisions()


APPROVED = [(0, Decision("approve"))]
DENIAL = part(approval={"id": "c", "approved": False})
SAME = [
    ("18446744073709551615", "18446744073709552000"),
    ("-9223372036854775808", "-9223372036854776000"),
    ("9007199254740993", "9007199254740992"),
    ("18446744073709551616", '"18446744073709551616"'),  # so it was shown
    ("1" + "0" * 400, '"1' + "0" * 400 + '"'),
    ("1.0", "1"),
    ("-0.0", "0"),
]


@pytest.mark.parametrize(("written", "sent"), SAME)
def test_numbers_as_javascript_has_them(written: str, sent: str) -> None:
    """A page that shows the model's number may approve it."""
    assert decided(Row(f'{{"n": [{written}]}}'), part(f'{{"n": [{sent}]}}')) == APPROVED


OTHER = [
    ("18446744073709551615", "18446744073709560000"),
    ("18446744073709551616", '"18446744073709551617"'),
    ("5", '"5"'),
    ("1", "true"),
    ("1", "1" + "0" * 400),
    ("1", "1e300"),
    ("1", '"x"'),
    ("1", "null"),
]


@pytest.mark.parametrize(("written", "sent"), OTHER)
def test_other_arguments_are_refused(written: str, sent: str) -> None:
    with pytest.raises(BadDecision, match="Edited arguments"):
        decided(Row(f'{{"n": [{written}]}}'), part(f'{{"n": [{sent}]}}'))


@pytest.mark.parametrize(
    "named", [{"type": "tool-ok"}, {"type": "dynamic-tool"}, {"toolName": "pay", "type": "tool-"}]
)
def test_an_approval_of_another_tool_is_refused(named: dict[str, Any]) -> None:
    """What the person saw is not what would run."""
    with pytest.raises(BadDecision, match="is one of pay"):
        decided(Row(), part(**named))


def test_a_dynamic_part_names_its_tool() -> None:
    assert decided(Row(), part(type="dynamic-tool", toolName="pay")) == APPROVED


@pytest.mark.parametrize("parts", [(part(), DENIAL), (DENIAL, part())])
def test_two_decisions_about_one_call_are_refused(parts: tuple[str, str]) -> None:
    """Neither of them counts; the same one twice is one."""
    with pytest.raises(BadDecision, match="contradict"):
        decided(Row(), *parts)
    assert decided(Row(), part(), part()) == APPROVED


def test_history_is_not_compared() -> None:
    """Parts of calls that ended decide nothing, whatever they name."""
    row = Row(state="done", approval={"decision": "approved"})
    assert decided(row, part(type="tool-ok"), DENIAL) == []
