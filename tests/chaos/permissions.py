"""Pure: whether each run of a tool had its permission, and the calls of an answer are as its log
and its decisions say.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from tests.chaos.tools import result

ENDED = ("done", "failed", "denied", "withdrawn", "unknown", "invalid")
APPROVED = ("pay", "order")
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
    # One question, one decision: each approval is applied once.
    questions = Counter((each["number"], each["runs"]) for each in decisions)
    for (number, _), count in questions.items():
        if count > 1:
            yield f"call {number}: {count} decisions about one question"
    for call in calls:
        about = [each for each in decisions if each["number"] == call["number"]]
        faults = [*_runs(call, about, ran.get(call["key"], ())), *_log(call, logged)]
        if call["state"] not in ENDED:
            faults.append("it has not ended")
        yield from (f"call {call['number']} ({call['name']}): {fault}" for fault in faults)


def _runs(call: Row, about: Sequence[Row], began: Sequence[int]) -> Iterator[str]:
    said = [each["decision"] for each in about]
    if len(began) != len(set(began)) or len(began) > call["runs"]:
        yield f"runs {began} of {call['runs']} claims"
    allowed = said.count("repeat") + (call["name"] not in APPROVED or "approve" in said)
    if not call["repeatable"] and len(began) > allowed:
        yield f"runs {began} with {allowed} permissions ({said})"
    if began and call.get("runs_at") == "client":
        yield f"runs {began} of a client's call"
    given = [each.get("value") for each in about if each["decision"] == "result"]
    results = given or [result(call["key"], run) for run in began]
    if call["state"] == "done" and call["result"] not in results:
        yield f"its result {call['result']} is that of no run ({began}), and nobody gave it {given}"
    if "approve" in said and call["state"] == "denied":
        yield f"approved, and {call['state']}"
    if "deny" in said and call["state"] != "denied":
        yield f"denied, and {call['state']}"


def _log(call: Row, logged: Mapping[int, Row]) -> Iterator[str]:
    part = logged.get(call["number"])
    if part is not None and (part.get("state"), part.get("result")) != (
        call["state"],
        call["result"],
    ):
        yield f"its row is {call['state']}, its log {part.get('state')}"


def judge_keys(
    keys: Mapping[tuple[str, int], Collection[str]], known: Collection[tuple[str, str]]
) -> Iterator[str]:
    """What is wrong. `keys`: of an answer and a call in it, those that its runs had; `known`: all
    answers, each with the key of a call.
    """
    for (message_id, place), used in keys.items():
        if len(used) > 1:
            yield f"call {place} of {message_id} ran with the keys {sorted(used)}"
        if strange := {key for key in used if (message_id, key) not in known}:
            yield f"call {place} of {message_id} ran with keys of no call: {sorted(strange)}"


def executions(calls: Iterable[Row], ran: Mapping[str, Sequence[int]]) -> str:
    """One line of the report: how many calls were executed how often, by what the tools wrote."""
    found: dict[str, Counter[int]] = {"not repeatable": Counter(), "repeatable": Counter()}
    for call in calls:
        kind = "repeatable" if call["repeatable"] else "not repeatable"
        if call.get("runs_at") != "client":
            found[kind][len(ran.get(call["key"], ()))] += 1
    return "; ".join(
        f"{kind}: "
        + (", ".join(f"{count} calls {times} times" for times, count in sorted(each.items())))
        for kind, each in found.items()
    )


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
