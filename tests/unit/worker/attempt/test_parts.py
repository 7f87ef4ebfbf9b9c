"""worker.attempt.parts: deltas become events of parts, within limits, and nothing is lost in
silence.
"""

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.answers import answer
from tokenwire.config.terms import AnswerTerms
from tokenwire.protocol import events
from tokenwire.protocol.fold import Answer
from tokenwire.protocol.kept import LOST, SearchBudget
from tokenwire.protocol.text import storable_json
from tokenwire.providers import base
from tokenwire.providers.history import KeptPart, ReasoningPart
from tokenwire.worker.attempt import parts, sizes
from tokenwire.worker.attempt.parts import DraftItem, KeptOfPart, PartsTaken
from tokenwire.worker.history import history_of


def told(taken: PartsTaken, *deltas: base.Delta) -> list[DraftItem]:
    return [item for delta in deltas for item in taken.take(delta)]


def layout(*deltas: base.Delta, **options: Any) -> list[dict[str, Any]]:
    """The parts that these deltas make, of an answer that ends with them."""
    taken = PartsTaken(Answer("m"), 1, **options)
    told(taken, *deltas)
    list(taken.flush())
    return taken.answer.layout()


def call(*pieces: str, index: int = 0) -> list[base.Delta]:
    inputs = [base.ToolCallArguments(index, piece) for piece in pieces]
    return [base.ToolCallStart(index, "c", "f"), *inputs, base.ToolCallEnd(index)]


def kept(size: int = 1, kind: str = "k") -> base.Kept:
    return base.Kept("d", kind, {"x": "y" * size})


# --- texts ---


def test_text_and_reasoning_are_parts_in_their_order() -> None:
    """Each ends the other; pieces of one kind that touch are one part."""
    made = layout(
        base.ReasoningDelta("h"),
        base.ReasoningDelta("m"),
        base.TextDelta("a"),
        base.ReasoningDelta("so"),
        base.TextDelta("b"),
    )
    assert [(part["type"], part["length"]) for part in made] == [
        ("reasoning", 2),
        ("text", 1),
        ("reasoning", 2),
        ("text", 1),
    ]


def test_half_a_character_does_not_survive_a_restart() -> None:
    """Neither alone, nor as a half of another one."""
    for after, text in (("x", "x"), ("\ude00x", "\ufffdx")):
        made = layout(base.TextDelta("abc\ud83d"), base.Restart(), base.TextDelta(after))
        assert [part["length"] for part in made] == [len(text)]


def test_reasoning_that_its_provider_ended_is_another_part() -> None:
    """Each has the value that it came with, also where there is no text."""
    taken = PartsTaken(Answer("m"), 1)
    told(
        taken,
        base.ReasoningDelta("hm"),
        base.ReasoningEnd(kept(1, "first")),
        base.ReasoningDelta("aha"),
        base.ReasoningEnd(),
        base.ReasoningEnd(kept(1, "alone")),
    )
    found = [(part.text, part.kept and part.kept["kind"]) for part in taken.answer.parts]
    assert found == [("hm", "first"), ("aha", None), ("", "alone")]


def test_reasoning_about_how_to_go_on_does_not_split_the_text() -> None:
    """A word that was cut off goes on in its part."""
    taken = PartsTaken(answer("Hel"), 2, continues=True)
    told(taken, base.ReasoningDelta("Hmm"), base.TextDelta("lo"), base.ReasoningDelta("."))
    list(taken.flush())
    assert taken.answer.layout() == [
        {"type": "text", "length": 5},
        {"type": "reasoning", "at": 3, "length": 4},
    ]


def test_a_model_that_changes_its_mind_at_each_token_does_not_use_up_the_parts() -> None:
    """Beyond a number of parts reasoning stands inside the text: all of both is there."""
    taken = PartsTaken(Answer("m"), 1)
    pair = (base.ReasoningDelta("r"), base.TextDelta("t"))
    told(taken, *pair * parts.MAX_PARTS)
    assert not taken.at_limit
    assert taken.answer.content == "t" * parts.MAX_PARTS
    assert taken.answer.reasoning == "r" * parts.MAX_PARTS
    assert len(taken.answer.parts) <= parts.MAX_PARTS - parts.SPARE_PARTS + 1


def test_an_answer_of_too_many_parts_is_full() -> None:
    """It ends as `length`, as one of too many characters does."""
    terms = AnswerTerms(max_answer_bytes=10**9)
    taken = PartsTaken(Answer("m"), 1, terms)
    told(taken, *[base.KeptDelta("d", "k", {}) for _ in range(parts.MAX_PARTS)])
    assert not taken.at_limit
    assert told(taken, base.KeptDelta("d", "k", {})) == []
    assert taken.at_limit
    assert len(taken.answer.parts) == parts.MAX_PARTS


# --- calls ---


def test_input_leaves_in_pieces_of_some_size() -> None:
    """A log has room for so many events; but another event never overtakes it."""
    taken = PartsTaken(Answer("m"), 1)
    begun = told(taken, base.ToolCallStart(0, "c", "f"))
    assert begun == [
        events.PartEvent(
            "m", 1, 0, {"type": "tool_call", "id": "c", "name": "f", "state": "streaming"}
        )
    ]
    pieces = [base.ToolCallArguments(0, "x" * 20)] * (parts.INPUT_CHARS // 20)
    assert told(taken, *pieces) == []
    assert told(taken, pieces[0]) == [events.ToolInput("m", 1, 0, "x" * 520, 0)]
    assert told(taken, pieces[0]) == []
    source = base.SourceDelta("https://a")
    assert [type(item) for item in told(taken, source)] == [events.ToolInput, events.PartEvent]
    assert taken.answer.parts[0].units == 540


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ('{"a":1}', "proposed"),
        ("", "proposed"),
        (r'{"a": "\u0000\ud800"}', "proposed"),
        ('{"a":', "invalid"),
        ("[1]", "invalid"),
        ('{"x": NaN}', "invalid"),
        ('{"x": 1e999}', "invalid"),
        ('{"a":' * 2000 + "1" + "}" * 2000, "invalid"),
        ('{"x": ' + "9" * 40 + "}", "proposed"),
    ],
)
def test_a_call_is_proposed_if_its_input_is_an_object(text: str, state: str) -> None:
    """As the model wrote it; no input at all is an empty object."""
    made = layout(*call(text[:3], text[3:]))
    assert [(part["state"], part["input"]) for part in made] == [(state, text or "{}")]


def test_input_is_made_storable_across_its_pieces() -> None:
    """Half a character waits for the other; what no database takes is replaced."""
    made = layout(*call('{"a":"\ud83d', '\ude00","b":"\x00"}'))
    assert made[0]["input"] == '{"a":"😀","b":"\ufffd"}'


@pytest.mark.parametrize("size", [1, 999, 10**6])
def test_input_that_no_event_could_carry_is_cut(size: int) -> None:
    """In pieces or not: its beginning is told, and an object that lacks its end is never run."""
    text = json.dumps({"text": "x" * 70_000})
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    made = layout(*call(*pieces) if size > 1 else call(text))
    assert made[0]["state"] == "invalid"
    assert made[0]["input"] == text[: events.MAX_EVENT_TEXT_BYTES]


def test_calls_at_once_are_parts_of_their_own() -> None:
    """Their pieces may come in turns."""
    made = layout(
        base.ToolCallStart(0, "a", "f"),
        base.ToolCallStart(1, "b", "g"),
        base.ToolCallArguments(1, '{"n":'),
        base.ToolCallArguments(0, "{}"),
        base.ToolCallArguments(1, "2}"),
        base.ToolCallEnd(1),
        base.ToolCallEnd(0),
    )
    found = [(part["id"], part["input"], part["state"]) for part in made]
    assert found == [("a", "{}", "proposed"), ("b", '{"n":2}', "proposed")]


def test_a_call_without_an_end_is_invalid() -> None:
    """The stream was whole, the call was not: nothing may run."""
    assert layout(base.ToolCallStart(0, "c", "f"), base.ToolCallArguments(0, "{}"))[0] == {
        "type": "tool_call",
        "id": "c",
        "name": "f",
        "state": "invalid",
        "length": 2,
        "input": "{}",
    }


# --- sources, files, items ---


def test_what_stands_inside_a_text_does_not_end_it() -> None:
    """Sources and items of the provider say where they stand; files are on their own."""
    made = layout(
        base.TextDelta("Oslo is cold"),
        base.SourceDelta("https://a", "A", cites=(4, 0)),
        base.KeptDelta("d", "k", {}),
        base.TextDelta("."),
        base.FileDelta("image/png", url="https://i"),
        base.SourceDelta("https://b"),
        base.TextDelta("!"),
    )
    assert made == [
        {"type": "text", "length": 13},
        {"type": "source", "url": "https://a", "title": "A", "cites": [8, 12], "at": 12},
        {"type": "provider", "dialect": "d", "kind": "k", "at": 12},
        {"type": "file", "media_type": "image/png", "url": "https://i"},
        {"type": "source", "url": "https://b"},
        {"type": "text", "length": 1},
    ]


def test_a_source_is_told_once_for_each_passage() -> None:
    """Some providers repeat all of them with each piece of text."""
    again = base.SourceDelta("https://a")
    made = layout(
        base.TextDelta("ab"),
        again,
        again,
        base.SourceDelta("https://a", cites=(1, 0)),
        base.SourceDelta("https://a", cites=(1, 0)),
        base.SourceDelta("https://b"),
        base.SourceDelta(title="nowhere"),
    )
    found = [(part["url"], part.get("cites")) for part in made if part["type"] == "source"]
    assert found == [("https://a", None), ("https://a", [1, 2]), ("https://b", None)]


@pytest.mark.parametrize("url", ["https://a", "javascript:alert(1)"])
def test_a_source_that_an_earlier_attempt_told_is_not_told_again(url: str) -> None:
    """A model that goes on may name it once more."""
    taken = PartsTaken(answer("ab"), 1)
    told(taken, base.SourceDelta(url))
    later = PartsTaken(taken.answer, 2, continues=True)
    assert told(later, base.SourceDelta(url)) == []


def test_an_address_that_is_no_link_is_text() -> None:
    """Nothing of it is lost, and what is kept of the answer still goes back."""
    trap = "javascript:alert(1)"
    taken = PartsTaken(Answer("m"), 1)
    told(taken, base.SourceDelta(trap, "T"), base.FileDelta("image/png", url="https://u:p@h/"))
    assert taken.answer.layout() == [
        {"type": "source", "address": trap, "title": "T"},
        {"type": "file", "media_type": "image/png", "address": "https://u:p@h/"},
    ]
    assert told(taken, base.KeptDelta("d", "k", {}))[-1] == KeptOfPart(
        2, {"dialect": "d", "kind": "k", "value": {}}
    )


def test_a_file_has_the_address_of_its_bytes() -> None:
    """They wait to be stored; the event gives no byte of them."""
    taken = PartsTaken(Answer("m"), 1)
    [event] = told(taken, base.FileDelta("image/png", b"abc"))
    assert isinstance(event, events.PartEvent)
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert event.value == {
        "type": "file",
        "media_type": "image/png",
        "url": f"/api/messages/m/files/{digest}",
        "size": 3,
    }
    assert taken.files == {0: parts.FileOfPart("image/png", b"abc")}


def test_fields_are_made_storable_and_short() -> None:
    """A title is cut. Half an address would lead elsewhere: the part says that it is dropped."""
    long = "https://a/" + "x" * sizes.MAX_FIELD_CHARS
    made = layout(base.SourceDelta("http://x/\0", "\ud83d" * 9000), base.SourceDelta(long, "T"))
    assert (made[0]["address"], made[0]["title"]) == (
        "http://x/\ufffd",
        "\ufffd" * sizes.MAX_FIELD_CHARS,
    )
    assert made[1] == {"type": "source", "title": "T", "dropped": True}


# --- what is kept ---


def test_a_kept_value_is_stored_without_the_text_of_its_part() -> None:
    """The signature of a long thought is short."""
    thought = "Let me think about it. " * 20
    taken = PartsTaken(Answer("m"), 1)
    value = {"thinking": thought, "signature": "EqQB"}
    items = told(taken, base.ReasoningDelta(thought), base.ReasoningEnd(base.Kept("d", "k", value)))
    stored = {"thinking": {"$text": [0, len(thought)]}, "signature": "EqQB"}
    assert items[-1] == KeptOfPart(0, {"dialect": "d", "kind": "k", "value": stored})


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    "value",
    [
        {"data": "x" * 2000},
        {"data": ["x"] * 1000},
        {"y" * 2000: 1},
        nested(500),
        {"data": "\ud800"},
        {"data": float("inf")},
        {"data": {1, 2}},
    ],
)
def test_what_cannot_be_kept_is_dropped_and_the_part_says_so(value: Any) -> None:
    """Too long, nested too deeply, or no JSON. Why is noted without the value."""
    taken = PartsTaken(Answer("m"), 1, AnswerTerms(max_kept_bytes=1000))
    told(taken, base.KeptDelta("d", "k", value))
    assert taken.answer.layout() == [
        {"type": "provider", "dialect": "d", "kind": "k", "dropped": True}
    ]
    assert taken.answer.parts[0].kept is None
    [(number, reason)] = taken.not_kept.items()
    assert number == 0
    assert reason in ("too large", "nested too deeply, or no JSON")
    taken.reset()
    assert not taken.not_kept, "the part is withdrawn"


def test_after_one_is_dropped_no_other_is_kept() -> None:
    """Half of them would make the provider refuse the conversation; of one that begins anew all."""
    taken = PartsTaken(Answer("m"), 1, AnswerTerms(max_kept_bytes=1000))
    many = [base.KeptDelta("d", "k", {"x": "y" * 300}) for _ in range(10)]
    items = told(taken, *many)
    assert sum(isinstance(item, KeptOfPart) for item in items) == 2
    assert [part.fields.get("dropped") for part in taken.answer.parts].count(True) == 1
    items = told(taken, base.Restart(), *many[:2])
    assert sum(isinstance(item, KeptOfPart) for item in items) == 2


@pytest.mark.parametrize("rest", ["\x00", 2**70])
def test_what_databases_refuse_is_kept(rest: Any) -> None:
    """It goes back as it came, and costs nothing else."""
    taken = PartsTaken(Answer("m"), 1)
    value = {"type": "k", "rest": rest}
    told(taken, base.KeptDelta("d", "k", value), base.ReasoningEnd(base.Kept("d", "t", {"a": 1})))
    kept = [part.kept for part in taken.answer.parts]
    assert storable_json(kept) == kept
    assert list(history_of(taken.answer.parts, {})) == [
        KeptPart("d", "k", value),
        ReasoningPart("", base.Kept("d", "t", {"a": 1})),
    ]


def test_another_turn_keeps_again() -> None:
    """What was lost before it does not count; what is lost in it does."""
    taken = PartsTaken(answer("ab"), 1, AnswerTerms(max_kept_bytes=1000))
    told(taken, base.KeptDelta("d", "k", {"x": "y" * 2000}))
    assert list(taken.end_turn()) == [KeptOfPart(1, {**LOST, "ends": True})]
    small, deep = base.KeptDelta("d", "k", {"n": 1}), base.KeptDelta("d", "k", nested(500))
    for one in (PartsTaken(taken.answer.copy(), 2), taken):
        told(one, small, deep, small)
        found = one.answer.parts
        assert [part.fields.get("dropped") for part in found] == [None, True, None, True, None]
        assert [bool(part.kept) for part in found[2:]] == [True, False, False]
    again = PartsTaken(taken.answer, 2)
    told(again, small)
    assert again.answer.parts[-1].kept is None, "the same turn"


def test_a_turn_of_which_nothing_is_kept_has_no_end() -> None:
    """Nothing could be lost of it, so no place is needed to note that."""
    taken = PartsTaken(answer("ab", "hm"), 1)
    assert list(taken.end_turn()) == []
    told(taken, base.KeptDelta("d", "k", {"n": 1}))
    [end] = taken.end_turn()
    assert end == KeptOfPart(2, {"dialect": "d", "kind": "k", "value": {"n": 1}, "ends": True})
    assert list(taken.end_turn()) == [], "it has ended"


def test_what_is_far_too_long_is_not_even_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """To find out by its JSON that there is too much of it would take as long as storing it."""
    monkeypatch.setattr("tokenwire.worker.attempt.parts.fold_out", pytest.fail)
    taken = PartsTaken(Answer("m"), 1, AnswerTerms(max_kept_bytes=1000))
    told(taken, base.KeptDelta("d", "k", {"a": [{"b": "x" * 2000}]}))
    assert taken.answer.parts[0].fields["dropped"] is True


def test_all_kept_values_share_their_searches() -> None:
    """Else many small values could hold up the worker for as long as one with many strings."""
    taken = PartsTaken(Answer("m"), 1)
    taken._searches = SearchBudget(1)
    told(taken, base.TextDelta("begin " + "x" * 99 + " end"))
    values = [{"a": "x" * 99}, {"a": "x" * 99}]
    for value in values:
        told(taken, base.KeptDelta("d", "k", value))
    found = [part.kept and part.kept["value"]["a"] for part in taken.answer.parts[1:]]
    assert found == [{"$text": [6, 99]}, "x" * 99]


def test_kept_values_of_earlier_attempts_count() -> None:
    """They are in the same row."""
    terms = AnswerTerms(max_kept_bytes=500)
    first = PartsTaken(Answer("m"), 1, terms)
    told(first, base.KeptDelta("d", "k", {"x": "y" * 300}))
    second = PartsTaken(first.answer, 2, terms)
    told(second, base.KeptDelta("d", "k", {"x": "y" * 300}))
    assert second.answer.parts[1].fields["dropped"] is True


# --- whatever comes ---

WORDS = st.text(alphabet=st.characters(codec=None, exclude_categories=()), max_size=6)
KEPT = st.none() | st.builds(base.Kept, st.just("d"), WORDS, st.dictionaries(WORDS, WORDS))
INDEX = st.integers(0, 1)
DELTAS = st.lists(
    st.one_of(
        st.builds(base.TextDelta, WORDS),
        st.builds(base.RefusalDelta, WORDS),
        st.builds(base.ReasoningDelta, WORDS),
        st.builds(base.ReasoningEnd, KEPT),
        st.builds(base.SourceDelta, WORDS, WORDS, kept=KEPT),
        st.builds(base.KeptDelta, WORDS, WORDS, st.dictionaries(WORDS, WORDS)),
        st.builds(base.FileDelta, WORDS, st.binary(max_size=4), kept=KEPT),
        st.builds(base.ToolCallStart, INDEX, WORDS, WORDS),
        st.builds(base.ToolCallArguments, INDEX, WORDS),
        st.builds(base.ToolCallEnd, INDEX, KEPT),
        st.just(base.Restart()),
    ),
    max_size=40,
)


def possible(deltas: Iterable[base.Delta]) -> list[base.Delta]:
    """Without pieces and ends of calls that never began: no decoder gives them."""
    begun, found = set[int](), list[base.Delta]()
    for delta in deltas:
        match delta:
            case base.ToolCallStart(index=index):
                begun.add(index)
            case base.ToolCallArguments(index=index) | base.ToolCallEnd(index=index):
                if index not in begun:
                    continue
                if isinstance(delta, base.ToolCallEnd):
                    begun.remove(index)
            case base.Restart():
                begun.clear()
        found.append(delta)
    return found


@given(DELTAS, st.booleans())
def test_the_events_fold_to_what_was_taken(deltas: list[base.Delta], continues: bool) -> None:
    """Each can be encoded, is applied, and says all that there is."""
    taken = PartsTaken(answer("so far"), 1, continues=continues)
    reader = answer("so far")
    for delta in [*possible(deltas), None]:
        for item in taken.flush() if delta is None else taken.take(delta):
            if isinstance(item, KeptOfPart):
                json.dumps(item.value, allow_nan=False).encode()
                assert taken.answer.parts[item.part].kept == item.value
            else:
                assert len(events.encode(item)) < events.MAX_EVENT_TEXT_BYTES
                reader.apply(item)
    assert reader.layout() == taken.answer.layout()
    assert (reader.content, reader.reasoning) == (taken.answer.content, taken.answer.reasoning)
    assert not any(part.streams_input for part in reader.parts)


@given(DELTAS, st.integers(0, 3000))
def test_no_answer_outgrows_its_limit(deltas: list[base.Delta], limit: int) -> None:
    """Whatever it is made of; where it ends, calls have ended, too."""
    taken = PartsTaken(Answer("m"), 1, AnswerTerms.model_construct(max_answer_bytes=limit))
    told(taken, *possible(deltas))
    size = sum(len(part.text.encode()) for part in taken.answer.parts)
    assert size <= limit
    if taken.at_limit:
        assert not any(part.streams_input for part in taken.answer.parts)
        assert told(taken, base.TextDelta("more")) == []
