"""protocol/upgrade.py: logs and rows without parts fold to what they meant."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenwire.protocol import events
from tokenwire.protocol.fold import Answer, Hole
from tokenwire.protocol.replay import catch_up
from tokenwire.protocol.text import checksum, cut, utf16_length
from tokenwire.protocol.upgrade import answer_of, upgraded

ID = "m1"
WORDS = st.text(st.sampled_from("ab é👋"), min_size=1, max_size=5)
OPS = st.one_of(
    st.tuples(st.just("text"), WORDS),
    st.tuples(st.just("text"), WORDS),
    st.tuples(st.just("think"), WORDS),
    st.tuples(st.just("call"), st.sampled_from(['{"a":1}', "{}", "no object"])),
    st.tuples(st.just("source"), st.sampled_from("xyz")),
    st.tuples(st.just("reset"), st.integers(0, 40)),
)
Ops = list[tuple[str, Any]]


@dataclass
class Old:
    """A worker without parts: its log, and its row in wire form."""

    content: str = ""
    reasoning: str = ""
    calls: list[dict[str, Any]] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)
    log: list[events.AnyEvent] = field(default_factory=list)

    def do(self, name: str, value: Any) -> None:
        getattr(self, name)(value)

    def text(self, word: str) -> None:
        self.log.append(events.Chunk(ID, 1, utf16_length(self.content), word))
        self.content += word

    def think(self, word: str) -> None:
        self.log.append(events.Reasoning(ID, 1, utf16_length(self.reasoning), word))
        self.reasoning += word

    def call(self, text: str) -> None:
        arguments: Any = {"a": 1} if text[:2] == '{"' else {} if text == "{}" else text
        status: Any = "error" if isinstance(arguments, str) else "pending"
        call_id = f"call_{len(self.log)}"
        self.log.append(events.ToolCall(ID, 1, call_id, "n", arguments, status))
        call = {"tool_call_id": call_id, "name": "n", "arguments": arguments, "status": status}
        self.calls.append(call)

    def source(self, url: str) -> None:
        self.log.append(events.Source(ID, 1, url))
        if url not in self.urls:
            self.urls.append(url)

    def reset(self, place: int) -> None:
        """Texts are cut anywhere; calls without a result are dropped, and so are sources that are
        not kept.
        """
        keeps = [place % (utf16_length(text) + 1) for text in (self.content, self.reasoning)]
        try:
            self.content, self.reasoning = (
                cut(text, keep)
                for text, keep in zip((self.content, self.reasoning), keeps, strict=True)
            )
        except ValueError:
            return
        self.calls = []
        self.log.append(events.Reset(ID, 2, *keeps))

    def row(self, status: str = "streaming") -> dict[str, Any]:
        return {
            "id": ID,
            "status": status,
            "content": self.content,
            "reasoning": self.reasoning,
            "tool_calls": self.calls,
            "attempt": 1,
        }


def old(ops: Ops) -> Old:
    worker = Old()
    for name, value in ops:
        worker.do(name, value)
    return worker


def folded(log: list[events.AnyEvent], answer: Answer | None = None) -> Answer:
    answer = answer or Answer(ID)
    for event in log:
        for new in upgraded(answer, event):
            answer.apply(new)
    return answer


def calls_of(answer: Answer) -> list[tuple[Any, str, Any]]:
    return [
        (part.fields["id"], part.text, part.fields["state"])
        for part in answer.parts
        if part.type == "tool_call"
    ]


def calls_in(worker: Old) -> list[tuple[Any, str, Any]]:
    texts = {'{"a":1}': {"a": 1}, "{}": {}}
    return [
        (
            call["tool_call_id"],
            next(
                (text for text, value in texts.items() if value == call["arguments"]), "no object"
            ),
            "invalid" if call["status"] == "error" else "proposed",
        )
        for call in worker.calls
    ]


@settings(max_examples=300)
@given(st.lists(OPS, max_size=20))
def test_an_upgraded_log_gives_what_the_worker_meant(ops: Ops) -> None:
    """Text, reasoning and calls, with a proven end."""
    worker = old(ops)
    answer = folded(worker.log)
    assert (answer.content, answer.reasoning) == (worker.content, worker.reasoning)
    assert calls_of(answer) == calls_in(worker)
    proof = utf16_length(worker.content), checksum(worker.content)
    answer.apply(events.Complete(ID, 1, "stop", None, *proof, []))
    assert answer.ended


@given(st.lists(OPS, max_size=20))
def test_an_upgraded_log_folds_to_the_upgraded_row(ops: Ops) -> None:
    """If parts come in the order of a row: reasoning, text, calls."""
    order = ["think", "text", "call"]
    sorted_ops = sorted([op for op in ops if op[0] in order], key=lambda op: order.index(op[0]))
    worker = old(sorted_ops)
    row, log = answer_of(worker.row()), folded(worker.log)
    assert row.layout() == log.layout()
    assert (row.content, row.reasoning) == (log.content, log.reasoning)


@given(st.lists(OPS, max_size=20), st.integers(0, 30), st.integers(0, 30))
def test_a_row_keeps_the_order_of_the_log(ops: Ops, first: int, last: int) -> None:
    """A reader of any part of the log gets the news of a row, and nothing is withdrawn."""
    ops = [op for op in ops if op[0] != "reset"]
    have = folded(old(ops[:first]).log)
    worker = old(ops[:last])
    want = answer_of(worker.row(), have)
    needed = catch_up(have, want, 1)
    assert not any(isinstance(event, events.Reset) for event in needed)
    if first < last:
        grown = folded(needed, have)
        assert (grown.content, grown.reasoning) == (worker.content, worker.reasoning)
        assert calls_of(grown) == calls_in(worker)
    else:
        assert needed == []


@given(st.lists(OPS, max_size=12), st.lists(OPS, max_size=12))
def test_a_different_row_counts(one: Ops, other: Ops) -> None:
    """An ended row is the truth, whatever was shown."""
    have, worker = folded(old(one).log), old(other)
    want = answer_of(worker.row("cancelled"), have)
    assert (want.content, want.reasoning) == (worker.content, worker.reasoning)
    held = have.copy()
    for event in catch_up(have, want, 1):
        held.apply(event)
    assert (held.content, held.reasoning, held.ended) == (worker.content, worker.reasoning, True)


@given(st.lists(OPS, max_size=20), st.integers(0, 20))
def test_repetitions_change_nothing(ops: Ops, again: int) -> None:
    """Rows are ahead of a log that forked."""
    worker = old([op for op in ops if op[0] != "reset"])
    answer = folded(worker.log)
    before = answer.layout()
    for event in worker.log[again:]:
        for new in upgraded(answer, event):
            answer.apply(new)
    assert answer.layout() == before


def test_events_with_parts_pass_as_they_are() -> None:
    """A log may hold both."""
    answer = Answer(ID)
    told: list[events.AnyEvent] = [
        events.Start(ID, 1, "demo"),
        events.Chunk(ID, 1, 0, "a", 0),
        events.PartEvent(ID, 1, 1, {"type": "source", "url": "x", "at": 1}),
        events.Reset(ID, 1, 1, 0, 1),
    ]
    for event in told:
        assert upgraded(answer, event) == [event]
        answer.apply(event)
    assert answer.layout() == [{"type": "text", "length": 1}]


def test_other_messages_give_nothing() -> None:
    """Their parts have other numbers."""
    answer = folded([events.Chunk(ID, 1, 0, "a")])
    for event in (events.Source("m2", 1, "x"), events.ToolCall("m2", 1, "c", "n", {}, "pending")):
        assert upgraded(answer, event) == []


def test_a_reset_beyond_the_end_is_a_hole() -> None:
    """The fold reports it."""
    answer = folded([events.Chunk(ID, 1, 0, "a")])
    (event,) = upgraded(answer, events.Reset(ID, 1, 5, 0))
    with pytest.raises(Hole):
        answer.apply(event)


def test_results_and_waiting_calls() -> None:
    """States that nobody writes any more."""
    call = events.ToolCall(ID, 1, "c", "n", {"a": 1}, "waiting")
    answer = folded([call, events.ToolResult(ID, 1, "c", "n", 4, "ok")])
    assert answer.parts[0].fields["state"] == "done"
    assert answer.parts[0].fields["result"] == 4
    assert upgraded(answer, events.ToolResult(ID, 1, "c", "n", 5, "ok")) == []
    row = {"tool_call_id": "c", "name": "n", "arguments": {"a": 1}, "status": "ok", "result": 4}
    stored = answer_of({"id": ID, "tool_calls": [row]})
    assert stored.parts[0].fields == answer.parts[0].fields
    assert folded([call]).parts[0].fields["state"] == "awaiting_approval"


def test_a_row_with_parts_is_read_as_it_is() -> None:
    """Its order is its own."""
    row = {"id": ID, "content": "ab", "parts": [{"type": "text", "length": 1}], "tool_calls": [{}]}
    assert [part.type for part in answer_of(row).parts] == ["text", "text"]


def test_files() -> None:
    """Once, under their name."""
    file = events.File(ID, 1, "https://x/a.png", "a.png", "image/png")
    (entry,) = folded([file, file]).layout()
    assert entry == {
        "type": "file",
        "url": "https://x/a.png",
        "name": "a.png",
        "media_type": "image/png",
    }
