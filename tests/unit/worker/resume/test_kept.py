"""What an answer holds beside its text: stored with its place, given back to the provider that made it."""

from typing import Any

import pytest

from tests.unit.providers.recordings import Recording, own
from tokenwire.models.tables import Message as Row
from tokenwire.providers import base
from tokenwire.providers.dialects import DIALECTS, decoder_of
from tokenwire.providers.history import KeptPart, TextPart
from tokenwire.providers.registry import presets
from tokenwire.providers.spec import ModelSpec
from tokenwire.worker import context
from tokenwire.worker.attempt.draft import Draft
from tokenwire.worker.resume.continuation import Attachment, Held, Run, still_kept
from tokenwire.worker.resume.kept import KeptItems

API = "anthropic.messages"
USE = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "x"}}
RESULT = {"type": "web_search_tool_result", "tool_use_id": "s1", "content": []}


def item(kind: str, value: dict[str, Any]) -> base.KeptDelta:
    return base.KeptDelta(API, kind, value)


def row(**fields: Any) -> Row:
    return Row(
        **{
            "id": "a",
            "conversation_id": "c",
            "ordinal": 2,
            "status": "complete",
            "created_at": 0,
            "updated_at": 0,
            **fields,
        }
    )


def recorded(name: str) -> Recording:
    return next(recording for recording in own() if recording.name == name)


def taken(name: str) -> tuple[str, list[dict[str, Any]]]:
    """The text and the kept entries of a recorded answer, as a worker stores them."""
    decoder = decoder_of(API)()
    draft = Draft("a", 1, Held())
    body = recorded(name).body
    draft.take([*decoder.feed(body), *decoder.close()])
    draft.batch()
    draft.acknowledged(1)
    kept = draft.kept()
    assert kept is not None
    return draft.held().text, kept


def answer_of(text: str, entries: list[dict[str, Any]]) -> base.HistoryMessage:
    """The row as it is sent back."""
    of_row = row(role="assistant", content=text, model="m", kept=entries)
    return context.messages([of_row], None, "m")[0]


def sent(*messages: base.HistoryMessage) -> Any:
    spec = ModelSpec("m", "anthropic", "claude")
    body: Any = DIALECTS[API].build(base.Request(messages), spec, presets()["anthropic"]).body
    return body


def test_items_keep_their_place_in_the_text() -> None:
    """Counted in characters, after what was said before; an answer that begins anew keeps nothing of the first."""
    draft = Draft("a", 1, Held("héllo"))
    draft.take([base.TextDelta(" 🎈"), item("server_tool_use", USE)])
    assert draft.kept() == [{"at": 7, "dialect": API, "kind": "server_tool_use", "value": USE}]
    draft.take([base.Restart()])
    assert draft.kept() == []


def test_all_or_nothing_is_stored() -> None:
    """More than the limit, or nested deeper than a database takes: none, and that is told apart from nothing."""
    assert KeptItems(max_bytes=0).stored() == []
    items = KeptItems(max_bytes=1000)
    items.add(0, item("image", {"data": "x" * 100}))
    assert items.stored()
    items.add(0, item("image", {"data": "x" * 900}))
    assert items.stored() is None
    deep: dict[str, Any] = {}
    for _ in range(500):
        deep = {"a": deep}
    items = KeptItems()
    items.add(0, item("deep", deep))
    assert items.stored() is None
    items.clear()
    assert items.stored() == []


def test_nothing_is_held_beyond_the_limit() -> None:
    """What will not be stored is let go of as soon as that is known, and what comes after it is not even looked at."""
    items = KeptItems(max_bytes=1000)
    for number in range(50):
        items.add(0, item("image", {"data": "x" * 100, "number": number}))
        assert sum(len(str(entry)) for entry in items._entries) <= 1000
    assert (items.stored(), [entry["kind"] for entry in items.checkpointed()]) == (
        None,
        ["incomplete"],
    )
    items.saved(items.checkpointed())
    items.add(0, item("image", {"data": object()}))
    assert not items.changed, "the row is told once"


def test_what_a_run_says_again_is_kept_once() -> None:
    """Each saved entry stands for one repetition; without a run that is attached to, an equal item is another one."""
    entry = {"at": 0, "dialect": API, "kind": "server_tool_use", "value": USE}
    again = KeptItems([entry], [entry], said_again=True)
    again.add(0, item("server_tool_use", USE))
    assert (again.stored(), again.changed) == ([entry], False)
    again.add(0, item("server_tool_use", USE))
    assert (again.stored(), again.changed) == ([entry, entry], True)
    anew = KeptItems([entry], [entry])
    anew.add(0, item("server_tool_use", USE))
    assert anew.stored() == [entry, entry]


@pytest.mark.parametrize(
    ("held", "count"),
    [(Held("abcd", "r"), 2), (Held("abc", "rr"), 1), (Held("xabc", "r"), 0), (Held("ab", "r"), 0)],
)
def test_entries_belong_to_the_text_that_viewers_hold(held: Held, count: int) -> None:
    """What came after text that nobody holds does not count; where the row's text was withdrawn, nothing does."""
    entries = [{"at": at, "dialect": API, "kind": "k", "value": {}} for at in (3, 4)]
    assert len(still_kept(entries, Held("abc", "r"), held)) == count
    assert still_kept(None, Held(), Held()) == []


def test_a_checkpoint_does_not_put_new_items_beside_old_text() -> None:
    """Until readers are told of the reset, the row keeps what it has."""
    draft = Draft("a", 1, Held("old"), kept=KeptItems([{"at": 0}], [{"at": 0}]))
    draft.take([base.Restart(), item("server_tool_use", USE)])
    draft.batch()
    assert (draft.uncheckpointed, draft.checkpoint_kept()) == (0, None)
    draft.acknowledged(1)
    assert draft.uncheckpointed
    kept = draft.checkpoint_kept()
    assert kept == [{"at": 0, "dialect": API, "kind": "server_tool_use", "value": USE}]
    draft.saved(kept)
    assert draft.checkpoint_kept() is None


def test_an_item_of_an_attached_run_has_its_place_in_the_run() -> None:
    """Not behind all that readers hold already."""
    draft = Draft("a", 2, Held("abcd"), attached=Attachment(Run("run", 1, 2), known_text=2))
    draft.take([base.TextDelta("c"), item("server_tool_use", USE)])
    kept = draft.kept()
    assert kept is not None
    assert [entry["at"] for entry in kept] == [3]


def test_what_changes_while_it_is_saved_is_due_again() -> None:
    """The row holds what was asked of it then, not what came since."""
    items = KeptItems()
    items.add(0, item("server_tool_use", USE))
    saving = items.checkpointed()
    items.add(0, item("web_search_tool_result", RESULT))
    items.saved(saving)
    assert items.changed
    items.saved(items.checkpointed())
    assert not items.changed


def test_an_answer_that_begins_anew_has_all_of_the_room() -> None:
    """However often it does: what was withdrawn takes none."""
    items = KeptItems(max_bytes=200)
    for _ in range(5):
        items.clear()
        items.add(0, item("server_tool_use", USE))
        assert items.stored() is not None


def test_an_answer_that_begins_anew_repeats_nothing() -> None:
    """Of a run that was attached to, what equals an entry of the first text is another one now."""
    entries = [{"at": 0, "dialect": API, "kind": "server_tool_use", "value": USE}]
    items = KeptItems(entries, entries, said_again=True)
    items.clear()
    items.add(0, item("server_tool_use", USE))
    assert items.stored() == entries


def test_values_are_made_storable() -> None:
    """What no database takes is mended as everywhere."""
    items = KeptItems()
    items.add(0, item("k\0", {"a": "\ud800", "b": float("inf")}))
    assert items.stored() == [
        {"at": 0, "dialect": API, "kind": "k\ufffd", "value": {"a": "\ufffd", "b": "Infinity"}}
    ]


def test_they_go_back_to_the_model_that_made_them() -> None:
    """And to no other."""
    entries = [{"at": 0, "dialect": API, "kind": "server_tool_use", "value": USE}]
    mine = row(role="assistant", content="yes", model="m", kept=entries)
    kept = KeptPart(API, "server_tool_use", USE)
    assert context.messages([mine], None, "m")[0].parts == (kept, TextPart("yes"))
    assert context.messages([mine], None, "another")[0].parts == (TextPart("yes"),)
    silent = row(role="assistant", content="", model="m", kept=entries)
    assert len(context.messages([silent], None, "m")) == 1
    assert context.messages([silent], None, "another") == []


def test_a_tool_round_of_the_provider_goes_back_as_it_came() -> None:
    """Text, use, result and text in their order; what was cited only stood beside them."""
    text, entries = taken("anthropic.messages/web-search.sse")
    answer = answer_of(text, entries)
    content = sent(
        base.HistoryMessage("user", "?"), answer, base.HistoryMessage("user", "and now?")
    )["messages"][1]["content"]
    assert [block["type"] for block in content] == [
        "text",
        "server_tool_use",
        "web_search_tool_result",
        "text",
    ]
    assert content[0]["text"] == "I will search."
    assert content[1]["input"] == {"query": "oslo"}


def test_a_paused_turn_can_be_resumed() -> None:
    """As the last message it goes back whole, with its container; before another question a tool that never ended is left out."""
    text, entries = taken("anthropic.messages/paused.sse")
    answer = answer_of(text, entries)
    body = sent(base.HistoryMessage("user", "?"), answer)
    assert [block["type"] for block in body["messages"][-1]["content"]] == [
        "text",
        "server_tool_use",
    ]
    assert body["messages"][-1]["content"][1]["input"] == {"command": "sleep 600"}
    assert body["container"] == "container_1"
    later = sent(base.HistoryMessage("user", "?"), answer, base.HistoryMessage("user", "go on"))
    assert [block["type"] for block in later["messages"][1]["content"]] == ["text"]


def test_thoughts_go_back_with_their_signature() -> None:
    """Before the text that followed them."""
    text, entries = taken("anthropic.messages/thinking.sse")
    answer = answer_of(text, entries)
    content = sent(base.HistoryMessage("user", "?"), answer, base.HistoryMessage("user", "and?"))[
        "messages"
    ][1]["content"]
    assert [block["type"] for block in content] == ["thinking", "redacted_thinking", "text"]
    assert content[0]["signature"] == "EqQB"


@pytest.mark.parametrize(
    "value",
    [
        "x" * 2000,
        ["x"] * 1000,
        {"y" * 2000: 1},
        [[]] * 1000,
        {"a": [{"b": "x" * 2000}]},
        ("x", "y" * 2000),
    ],
)
def test_what_is_far_too_long_is_not_even_written(
    monkeypatch: pytest.MonkeyPatch, value: object
) -> None:
    """To find out by its JSON that there is too much of it would take as long as storing it."""
    monkeypatch.setattr("tokenwire.worker.resume.kept.storable_json", pytest.fail)
    kept = KeptItems(max_bytes=1000)
    kept.add(0, item("odd", {"value": value}))
    assert kept.stored() is None


@pytest.mark.parametrize("value", ["x" * 900, ["x"] * 150, {"a": 1}, "é" * 100])
def test_what_fits_is_not_taken_for_too_long(value: object) -> None:
    kept = KeptItems(max_bytes=1000)
    kept.add(0, item("odd", {"value": value}))
    assert kept.stored() is not None
