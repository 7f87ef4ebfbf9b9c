"""The fold and its inverse, over any history that a worker may write."""

import zlib
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import many
from tests.unit.protocol.histories import ENDS, HISTORIES, ID, OPS, Model, Op, Writer, written
from tokenwire.protocol import events
from tokenwire.protocol.events import Entry
from tokenwire.protocol.fold import Answer, Hole, Unproven, from_view
from tokenwire.protocol.frames import merge
from tokenwire.protocol.replay import begins, catch_up
from tokenwire.protocol.states import ENDED
from tokenwire.protocol.text import cut, utf16_length

AnyHistory = tuple[list[Op], str | None]
LIMIT = 64 * 1024


def folded(told: Iterable[events.AnyEvent], answer: Answer | None = None) -> Answer:
    """`told` applied to the answer, or to a new one."""
    answer = answer or Answer(ID)
    for event in told:
        answer.apply(event)
    return answer


def seen(answer: Answer) -> dict[str, Any]:
    """Everything that a reader can see of its parts and its end."""
    return {
        "parts": [(part.type, dict(part.fields), part.text, part.start) for part in answer.parts],
        "layout": answer.layout(),
        "content": answer.content,
        "reasoning": answer.reasoning,
        "open": (answer.open_text, answer.open_reasoning),
        "proof": answer.proof(),
        "waits": answer.status == "waiting",
        "end": (answer.status, answer.error, answer.usage, answer.by) if answer.ended else None,
    }


def of_model(answer: Answer) -> Model:
    """The answer in the model's terms."""
    parts = [{"type": part.type, "text": part.text, "fields": part.fields} for part in answer.parts]
    return Model(parts, answer.status if answer.ended else None, answer.status == "waiting")


def view(answer: Answer) -> dict[str, Any]:
    """The wire form of its row."""
    usage = answer.usage
    return {
        "id": answer.id,
        "status": answer.status,
        "content": answer.content,
        "reasoning": answer.reasoning,
        "parts": answer.layout(),
        "error": answer.error,
        "usage": usage and {"input_tokens": usage.input_tokens, "output_tokens": 2},
        "by": answer.by,
    }


@given(HISTORIES)
def test_the_fold_gives_what_the_worker_meant(history: AnyHistory) -> None:
    """After each event: parts, texts, fields and end."""
    log, answer = written(history), Answer(ID)
    for event, model in zip(log.events, log.models, strict=True):
        answer.apply(event)
        assert of_model(answer) == model
        assert answer.content == model.of("text")
        assert answer.reasoning == model.of("reasoning")
        assert answer.proof().length == utf16_length(model.of("text"))


@given(HISTORIES)
def test_only_touched_parts_change(history: AnyHistory) -> None:
    """`apply` returns the numbers of new, changed and removed parts."""
    answer = Answer(ID)
    for event in written(history).events:
        before = [(part.view(), part.text) for part in answer.parts]
        touched = answer.apply(event)
        after = [(part.view(), part.text) for part in answer.parts]
        length = max(len(before), len(after))
        assert all(before[n : n + 1] == after[n : n + 1] for n in range(length) if n not in touched)
        if isinstance(event, events.Reset):
            assert list(touched) == list(range(len(after), len(before)))


@given(HISTORIES)
def test_a_row_gives_the_same_as_the_log(history: AnyHistory) -> None:
    """The events of catch_up give that answer to a reader with any state."""
    answer = folded(written(history).events)
    assert seen(folded(catch_up(None, answer, 3))) == seen(answer)
    assert seen(folded(catch_up(Answer(ID), answer, 3))) == seen(answer)
    other = folded([events.Chunk(ID, 1, 0, "another answer", 0)])
    assert seen(folded(catch_up(None, answer, 3), other)) == seen(answer)


@settings(max_examples=many(300))
@given(HISTORIES, st.data())
def test_any_answer_of_a_history_becomes_any_other(history: AnyHistory, data: Any) -> None:
    """Forwards (a fork's lost events are appended again) and backwards; no events between equal
    ones.
    """
    log = written(history)
    many = st.integers(0, len(log.events))
    have, want = (folded(log.events[: data.draw(many)]) for _ in range(2))
    if have.ended:
        assert catch_up(have, want, 3) == []
        return
    needed = catch_up(have, want, 3)
    same = seen(have) == seen(want)
    assert seen(folded(needed, have.copy())) == seen(want)
    assert (needed == []) == same
    withdrawn = [event for event in needed if isinstance(event, events.Reset)]
    assert begins(have, want) == all(event.keep_parts == len(have.parts) for event in withdrawn)


@given(HISTORIES, HISTORIES)
def test_an_answer_becomes_one_of_another_history(one: AnyHistory, other: AnyHistory) -> None:
    """Their common part stays; the rest is withdrawn and sent."""
    have, want = folded(written((one[0], None)).events), folded(written(other).events)
    assert seen(folded(catch_up(have, want, 3), have.copy())) == seen(want)


@given(HISTORIES, st.data())
def test_nothing_is_withdrawn_while_the_log_continues(history: AnyHistory, data: Any) -> None:
    """Without a reset every earlier answer begins every later one."""
    log = [event for event in written(history).events if not isinstance(event, events.Reset)]
    ops = ([op for op in history[0] if op[0] != "reset"], history[1])
    log = written(ops).events
    earlier = folded(log[: data.draw(st.integers(0, len(log)))])
    assert begins(earlier, folded(log))


@given(HISTORIES, st.data())
def test_a_repeated_suffix_changes_nothing(history: AnyHistory, data: Any) -> None:
    """Rows are ahead of a log that forked. A suffix from before a reset may be a hole instead."""
    log = written((history[0], None)).events
    answer = folded(log)
    before, start = seen(answer), data.draw(st.integers(0, len(log)))
    try:
        folded(log[start:], answer)
    except Hole:
        last = max(n for n, event in enumerate(log) if isinstance(event, events.Reset))
        assert start < last
        return
    assert seen(answer) == before


@given(HISTORIES, st.data())
def test_pieces_may_be_cut_anywhere_and_repeated(history: AnyHistory, data: Any) -> None:
    """Each piece begins earlier within its part, and comes a second time; nothing is doubled."""
    log, answer = written(history), Answer(ID)
    for event in log.events:
        if isinstance(event, events.Chunk | events.Reasoning | events.ToolInput):
            held = answer.parts[event.part].text if event.part < len(answer.parts) else ""
            back = held[data.draw(st.integers(0, len(held))) :]
            earlier = event.offset - utf16_length(back)
            answer.apply(type(event)(ID, 1, earlier, back + event.content, event.part))
        answer.apply(event)
        if not isinstance(event, events.Reset):
            answer.apply(event)
    assert seen(answer) == seen(folded(log.events))


@given(HISTORIES)
def test_merged_events_give_the_same(history: AnyHistory) -> None:
    """Pieces of different parts never become one event."""
    log = written(history).events
    stamped = [Entry(n, events.stamp(n, events.encode(event))) for n, event in enumerate(log, 1)]
    merged = [events.decode(entry.data)[1] for entry in merge(stamped)]
    assert seen(folded(event for event in merged if event)) == seen(folded(log))


@given(st.lists(OPS, max_size=25), ENDS.filter(bool), st.data())
def test_lost_text_is_noticed(ops: list[Op], end: str, data: Any) -> None:
    """A missing piece is a hole, or the end is not proven. The answer never lacks it silently."""
    log = written((ops, end)).events
    texts = [n for n, event in enumerate(log) if getattr(event, "content", "")]
    if not texts:
        return
    lost = data.draw(st.sampled_from(texts))
    answer = Answer(ID)
    try:
        folded([*log[:lost], *log[lost + 1 :]], answer)
    except (Hole, Unproven):
        assert not answer.ended
        return
    assert seen(answer) == seen(folded(log))  # a reset had withdrawn it


def sequences(told: Sequence[events.AnyEvent]) -> tuple[list[int], dict[int, list[Any]], list[int]]:
    """The order in which parts open, what happens to each, and where inner ones open."""
    answer, opened, steps, places = Answer(ID), [], {}, []
    for event in told:
        held = len(answer.parts)
        for number in answer.apply(event):
            if number == held:
                opened.append(number)
                at = answer.parts[number].fields.get("at")
                places += [] if at is None else [utf16_length(answer.content) - at]
            mine = steps.setdefault(number, [])
            # the end of the answer also ends the input of a call
            if isinstance(event, events.Terminal):
                mine += ["ended"] if answer.parts[number].type == "tool_call" else []
            elif not isinstance(event, events.PartEvent):
                mine.append("text")
            elif event.value.get("state", "streaming") != "streaming":
                mine.append("ended")
    joined = {
        number: [step for step, before in pairwise([*mine, None]) if step != before]
        for number, mine in steps.items()
    }
    return opened, joined, places


@given(HISTORIES)
def test_rows_open_parts_in_the_log_s_order(history: AnyHistory) -> None:
    """The same order, the same sequence within each part, inner parts at their place."""
    log = written(([op for op in history[0] if op[0] != "reset"], history[1])).events
    opened, steps, places = sequences(log)
    again = catch_up(Answer(ID), folded(log), 1)
    assert (opened, steps, places) == sequences(again)
    assert all(place == 0 for place in places)


@given(HISTORIES)
def test_a_simple_client_ends_with_the_same_text(history: AnyHistory) -> None:
    """It knows chunk, reset.keep, length and crc32, and ignores everything else."""
    log = written(history).events
    for told in (log, catch_up(None, folded(log), 1)):
        text = ""
        for event in told:
            if isinstance(event, events.Chunk):
                assert event.offset == utf16_length(text)
                text += event.content
            elif isinstance(event, events.Reset):
                text = cut(text, event.keep)
            elif isinstance(event, events.Terminal):
                assert (event.length, event.crc32) == (
                    utf16_length(text),
                    zlib.crc32(text.encode()),
                )
        assert text == folded(log).content


@given(HISTORIES)
def test_a_row_is_read_as_it_was_written(history: AnyHistory) -> None:
    """Layout, texts and open parts, from the wire form."""
    answer = folded(written(history).events)
    read = from_view(view(answer))
    assert read.layout() == answer.layout()
    assert seen(read) == seen(answer)


@given(HISTORIES, st.data())
def test_an_exception_leaves_the_answer_unchanged(history: AnyHistory, data: Any) -> None:
    """Any event either fits, or is a hole that changes nothing."""
    answer = folded(written((history[0], None)).events)
    small = st.integers(-2, 12)
    text = st.sampled_from(["", "a", "👋", "aé👋b"])
    value = st.sampled_from(
        [{}, {"type": "text"}, {"type": "reasoning", "at": 1}, {"type": 3}, {"type": "data"}]
    )
    odd = st.one_of(
        *(
            st.builds(kind, st.just(ID), st.just(1), small, text, small)
            for kind in (events.Chunk, events.Reasoning, events.ToolInput)
        ),
        st.builds(events.PartEvent, st.just(ID), st.just(1), small, value),
        st.builds(events.Reset, st.just(ID), st.just(1), small, small, small),
        st.builds(
            events.Cancelled, st.just(ID), st.just(1), st.just("u"), st.none(), small, small, small
        ),
    )
    for event in data.draw(st.lists(odd, max_size=8)):
        before, status = seen(answer), answer.status
        try:
            touched = answer.apply(event)
        except (Hole, Unproven):
            assert (seen(answer), answer.status) == (before, status)
        else:
            after = seen(answer) | {"waits": before["waits"]}  # a repeated event ends that, too
            assert touched or answer.ended or after == before
    assert seen(folded(catch_up(Answer(ID), answer, 1))) == seen(answer)


@given(HISTORIES)
def test_a_copy_is_independent(history: AnyHistory) -> None:
    """A change of one does not change the other."""
    log = written((history[0], None)).events
    answer = folded(log)
    before, other = seen(answer), answer.copy()
    for number, part in enumerate(other.parts):
        other.apply(events.PartEvent(ID, 1, number, {"type": part.type, "title": "another"}))
    other.apply(events.Chunk(ID, 1, utf16_length(other.content), "more", len(other.parts)))
    assert seen(answer) == before


@given(HISTORIES)
def test_an_ended_answer_does_not_change(history: AnyHistory) -> None:
    """Neither by its own log nor by another end, and nothing is checked."""
    answer = folded(written((history[0], "cancelled")).events)
    before = seen(answer)
    folded(written((history[0], "error")).events, answer)
    answer.apply(events.Complete(ID, 1, "stop", None, 99, 1, [], 5, 5))
    assert seen(answer) == before
    assert answer.status in ENDED


def events_until(told: Sequence[events.AnyEvent], state: str) -> list[events.AnyEvent]:
    """Up to the event that gives a call this state."""
    states = [getattr(event, "value", {}).get("state") for event in told]
    return list(told[: states.index(state) + 1])


def test_large_texts_and_values_are_sent_in_pieces() -> None:
    """No event carries more than 64 KiB of text, or of values. The state of a call comes last."""
    writer = Writer()
    writer.text(["é" * 100_000])
    writer.call(1)
    writer.input(0, "x" * LIMIT)
    writer.call_ends(0, "proposed")
    for name in ("result", "title", "data"):
        writer.set(1, name, "y" * 40_000)
    answer = folded(writer.events)
    needed = catch_up(Answer(ID), answer, 1)
    assert seen(folded(needed)) == seen(answer)
    assert max(len(getattr(event, "content", "").encode()) for event in needed) <= LIMIT
    whole = folded(events_until(needed, "proposed"))
    assert {"result", "title", "data"} <= set(whole.parts[1].fields)
    assert max(len(events.encode(event)) for event in needed) < LIMIT + 200
