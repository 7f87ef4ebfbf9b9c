"""What a run found, as a table; and whether it is good."""

import contextlib
import json
import sqlite3
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import psycopg

from tests.chaos.checks import percentiles
from tests.chaos.load import Stream, judge, judge_tools, resets, terminals
from tests.chaos.permissions import counted, executions, judge_keys

CLEAR_BEFORE_SECONDS, CLEAR_AFTER_SECONDS = 5.0, 5.0
_QUERY = """
SELECT id, status, content, attempt, tries, deaths, error, terminal_announced, seams,
  enqueued_at, due_at, updated_at, ended_at, cancel_by, parent_id, parts
FROM messages WHERE role = 'assistant'
"""
_CALLS = "SELECT message_id, number, name, key, runs, state, result, repeatable, runs_at FROM calls"
_DECISIONS = "SELECT message_id, number, runs, decision, value FROM decisions"
_DEATHS = "SELECT MAX(deaths) AS deaths FROM messages WHERE ended_at IS NULL"
_STEERED = "SELECT id, steers FROM messages WHERE steers IS NOT NULL"


def rows(database_url: str) -> dict[str, dict[str, Any]]:
    """All answers as SQL holds them, by id, asked past all of Tokenwire."""
    found = _asked(database_url, _QUERY)
    return {row["id"]: {**row, "parts": _value(row["parts"])} for row in found}


def steered(database_url: str) -> dict[str, str]:
    """Messages of people that an answer took in, and that answer, in the same way."""
    return {row["id"]: row["steers"] for row in _asked(database_url, _STEERED)}


def calls(database_url: str) -> list[dict[str, Any]]:
    """All tool calls in the same way."""
    found = _asked(database_url, _CALLS)
    return [{**row, "result": _value(row["result"])} for row in found]


def decisions(database_url: str) -> list[dict[str, Any]]:
    """All decisions about tool calls in the same way."""
    found = _asked(database_url, _DECISIONS)
    return [{**row, "value": _value(row["value"])} for row in found]


def state_of(database_url: str, key: str) -> str | None:
    """The state of the call with this key, in the same way."""
    found = _asked(database_url, f"SELECT state FROM calls WHERE key = '{key}'")
    return found[0]["state"] if found else None


def most_deaths(database_url: str) -> int:
    """Of the answers that have not ended, the most workers that died in a row over one of them."""
    (found,) = _asked(database_url, _DEATHS)
    return found["deaths"] or 0


def _value(stored: Any) -> Any:
    # SQLite gives the JSON as text.
    return json.loads(stored) if isinstance(stored, str) and stored[:1] in ('"', "[") else stored


def _asked(database_url: str, query: str) -> list[dict[str, Any]]:
    connection: Any = (
        sqlite3.connect(database_url.removeprefix("sqlite:///"))
        if database_url.startswith("sqlite")
        else psycopg.connect(database_url)
    )
    with contextlib.closing(connection):
        cursor = connection.execute(query)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


@dataclass
class Report:
    """The table. `good` decides the exit code."""

    streams: Sequence[Stream]
    faults: Sequence[tuple[float, str]]
    continues: Mapping[str, bool]
    besides: Sequence[str]
    """What went wrong with no stream of its own."""
    handovers: Sequence[float] = ()
    ran: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Key of a tool call -> the runs that began."""
    keys: Mapping[tuple[str, int], Collection[str]] = field(default_factory=dict)
    """An answer and a call in it -> the keys of its runs."""
    lost: int = 0
    repeated: int = 0
    failures: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for stream in self.streams:
            lost, repeated, wrong = judge(stream, self.continues[stream.model])
            wrong += judge_tools(stream, self.ran)
            self.lost, self.repeated = self.lost + lost, self.repeated + repeated
            if lost or repeated:
                wrong.append(f"{lost} characters lost, {repeated} repeated")
            self.failures += [
                f"text {stream.script.number} ({stream.model}, {stream.message_id}): {fault}"
                for fault in wrong
            ]
        known = {(call["message_id"], call["key"]) for each in self.streams for call in each.calls}
        self.failures += [*judge_keys(self.keys, known), *self.besides]

    @property
    def good(self) -> bool:
        return not (self.lost or self.repeated or self.failures)

    def lines(self) -> list[str]:
        """The table, one line a fact."""
        streams, kinds = self.streams, Counter(kind for _, kind in self.faults)
        watchers = [watcher for stream in streams for watcher in stream.watchers]
        ended = Counter(stream.row.get("status", "no row") for stream in streams)
        in_rows = sum(len(stream.row.get("content", "")) for stream in streams)
        takeovers = [takeover for stream in streams for takeover in stream.takeovers()]
        counts = Counter(len(terminals(stream)) for stream in streams)
        facts = {
            "faults": f"{len(self.faults)}: "
            + ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items())),
            "streams": f"{len(streams)}: "
            + ", ".join(f"{status} {count}" for status, count in sorted(ended.items())),
            "by model": ", ".join(
                f"{model} {count}"
                for model, count in sorted(Counter(stream.model for stream in streams).items())
            ),
            "attempts": str(sum(stream.row.get("attempt", 0) for stream in streams)),
            "readers": f"{len(watchers)}, {sum(watcher.connections for watcher in watchers)} "
            f"connections",
            "characters": f"{sum(len(watcher.text) for watcher in watchers)} in readers, "
            f"{in_rows} in rows",
            "lost": str(self.lost),
            "repeated": str(self.repeated),
            "resets": ", ".join(f"{model} {count}" for model, count in self._resets().items())
            or "0",
            "tools": counted(
                [call for stream in streams for call in stream.calls],
                [decision for stream in streams for decision in stream.decisions],
                self.ran,
                sum(stream.too_late for stream in streams),
            ),
            "executions": executions(
                [call for stream in streams for call in stream.calls], self.ran
            ),
            "remarks": self._remarks(),
            "resyncs": str(sum(watcher.resyncs for watcher in watchers)),
            "takeover": percentiles([seconds for _, seconds in takeovers]),
            "  nothing else": percentiles(
                [seconds for died, seconds in takeovers if self._alone(died)]
            ),
            "next attempt": percentiles(self.handovers),
            "longest silence": percentiles(
                [watcher.silence for watcher in watchers if watcher.heard_at]
            ),
            "cancel": percentiles(
                [
                    s.closed_at_cancel
                    for s in streams
                    if s.closed_at_cancel is not None and s.cancel_calls == 1
                ]
            ),
            "  end is seen": percentiles(self._cancels(frozen=False)),
            "  frozen worker": percentiles(self._cancels(frozen=True)),
            "terminal events": ", ".join(
                f"{count} streams with {events}" for events, count in sorted(counts.items())
            ),
        }
        return [f"{name:16} {value}" for name, value in facts.items()] + [
            f"FAILED {failure}" for failure in self.failures
        ]

    def _remarks(self) -> str:
        remarks = [stream.remark for stream in self.streams if stream.remark is not None]
        taken = sum(remark.steers is not None for remark in remarks)
        return f"{len(remarks)}: taken in {taken}, answered next {len(remarks) - taken}"

    def _cancels(self, *, frozen: bool) -> list[float]:
        seen = [
            stream.cancelled_within()
            for stream in self.streams
            if stream.frozen == frozen and stream.cancel_calls == 1
        ]
        return [seconds for seconds in seen if seconds is not None]

    def _alone(self, died: float) -> bool:
        """No other fault was near: neither its successor nor the needed servers were affected
        meanwhile.
        """
        return (
            sum(
                died - CLEAR_BEFORE_SECONDS < at < died + CLEAR_AFTER_SECONDS
                for at, _ in self.faults
            )
            == 1
        )

    def _resets(self) -> dict[str, int]:
        found: Counter[str] = Counter()
        for stream in self.streams:
            found[stream.model] += resets(stream)
        return {model: count for model, count in sorted(found.items()) if count}

    def story(self) -> list[str]:
        """Every fault and, for each takeover of more than 5 s, what happened to the stream."""
        told = [(at, kind) for at, kind in self.faults]
        for stream in self.streams:
            name = f"text {stream.script.number} {stream.message_id}"
            told += [(died, f"    {name} loses its worker") for died in stream.killed]
            told += [
                (died + seconds, f"    {name} goes on after {seconds:.2f} s")
                for died, seconds in stream.takeovers()
            ]
        offset = time.time() - time.monotonic()
        return [
            f"{datetime.fromtimestamp(at + offset, UTC):%H:%M:%S.%f} {what}"
            for at, what in sorted(told)
        ]

    def as_json(self) -> str:
        """For machines."""
        return json.dumps(
            {
                "lost": self.lost,
                "repeated": self.repeated,
                "failures": self.failures,
                "faults": len(self.faults),
            },
            indent=1,
        )
