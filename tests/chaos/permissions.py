"""Pure: whether each run of a tool had its permission, and the calls of an answer are as its log
and its decisions say.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tests.chaos.tools import result

ENDED = ("done", "failed", "denied", "withdrawn", "unknown", "invalid")
Row = Mapping[str, Any]


def judge_calls(
    calls: Sequence[Row],
    decisions: Sequence[Row],
    ran: Mapping[str, Sequence[int]],
    logged: Mapping[int, Row],
) -> Iterator[str]:
    """What is wrong. `ran`: of each key, the runs that began; `logged`: the calls of a log that
    holds them all.
    """
    questions = Counter((each["number"], each["runs"]) for each in decisions)
    for (number, _), count in questions.items():
        if count > 1:
            yield f"call {number}: {count} decisions about one question"
    for call in calls:
        said = [each["decision"] for each in decisions if each["number"] == call["number"]]
        faults = [*_runs(call, said, ran.get(call["key"], ())), *_log(call, logged)]
        if call["state"] not in ENDED:
            faults.append("it has not ended")
        yield from (f"call {call['number']} ({call['name']}): {fault}" for fault in faults)


def _runs(call: Row, said: Sequence[str], began: Sequence[int]) -> Iterator[str]:
    if len(began) != len(set(began)) or len(began) > call["runs"]:
        yield f"runs {began} of {call['runs']} claims"
    allowed = said.count("repeat") + (call["name"] != "pay" or "approve" in said)
    if not call["repeatable"] and len(began) > allowed:
        yield f"runs {began} with {allowed} permissions ({said})"
    if call["state"] == "done" and call["result"] not in [result(call["key"], n) for n in began]:
        yield f"its result {call['result']} is that of no run ({began})"


def _log(call: Row, logged: Mapping[int, Row]) -> Iterator[str]:
    part = logged.get(call["number"])
    if part is not None and (part.get("state"), part.get("result")) != (
        call["state"],
        call["result"],
    ):
        yield f"its row is {call['state']}, its log {part.get('state')}"


def counted(
    calls: Iterable[Row], decisions: Iterable[Row], ran: Mapping[str, Sequence[int]], late: int
) -> str:
    """One line of the report. `late`: decisions that were refused because another came first."""
    calls = list(calls)
    states = Counter(call["state"] for call in calls)
    kinds = Counter(each["decision"] for each in decisions)
    runs = [len(ran.get(call["key"], ())) for call in calls]
    return (
        f"{len(calls)} calls: "
        + ", ".join(f"{state} {count}" for state, count in sorted(states.items()))
        + f"; {sum(runs)} runs, {sum(count > 1 for count in runs)} calls ran again; decisions: "
        + ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))
        + f", too late {late}"
    )
