"""What an answer holds beside its text: stored with its place, given back to the provider that made it."""

from typing import Any

from models.tables import Message as Row
from providers import base
from providers.dialects import DIALECTS, decoder_of
from providers.registry import presets
from tests.unit.providers.recordings import Recording, own
from worker import context
from worker.continuation import Held
from worker.generation import Generation
from worker.kept import KeptItems, restored

API = "anthropic.messages"
USE = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "x"}}
RESULT = {"type": "web_search_tool_result", "tool_use_id": "s1", "content": []}


def item(kind: str, value: dict[str, Any]) -> base.Item:
    return base.Item(API, kind, value)


def row(**fields: Any) -> Row:
    return Row(**{"id": "a", "conversation_id": "c", "ordinal": 2, "status": "complete", "created_at": 0, "updated_at": 0, **fields})


def recorded(name: str) -> Recording:
    return next(recording for recording in own() if recording.name == name)


def taken(name: str) -> tuple[str, list[dict[str, Any]]]:
    """The text and the kept entries of a recorded answer, as a worker stores them."""
    decoder = decoder_of(API)()
    generation = Generation("a", 1, Held())
    body = recorded(name).body
    generation.take([*decoder.feed(body), *decoder.close()])
    generation.batch()
    generation.acknowledged(1)
    kept = generation.kept(10_000)
    assert kept is not None
    return generation.held().text, kept


def sent(*messages: base.Message) -> Any:
    spec = base.ModelSpec("m", "anthropic", "claude")
    body: Any = DIALECTS[API].build(base.Request(messages), spec, presets()["anthropic"]).body
    return body


def test_items_keep_their_place_in_the_text() -> None:
    """Counted in characters, after what was said before; an answer that begins anew keeps nothing of the first."""
    generation = Generation("a", 1, Held("héllo"))
    generation.take([base.Text(" 🎈"), item("server_tool_use", USE)])
    assert generation.kept(10_000) == [{"at": 7, "dialect": API, "kind": "server_tool_use", "value": USE}]
    generation.take([base.Restart()])
    assert generation.kept(10_000) == []


def test_all_or_nothing_is_stored() -> None:
    """More than the limit, or nested deeper than a database takes: none, and that is told apart from nothing."""
    items = KeptItems()
    assert items.stored(0) == []
    items.add(0, item("image", {"data": "x" * 100}))
    assert items.stored(1000)
    assert items.stored(50) is None
    deep: dict[str, Any] = {}
    for _ in range(500):
        deep = {"a": deep}
    items.add(0, item("deep", deep))
    assert items.stored(10**9) is None


def test_values_are_made_storable() -> None:
    """What no database takes is mended as everywhere."""
    items = KeptItems()
    items.add(0, item("k\0", {"a": "\ud800", "b": float("inf")}))
    assert items.stored(1000) == [{"at": 0, "dialect": API, "kind": "k\ufffd", "value": {"a": "\ufffd", "b": "Infinity"}}]


def test_they_go_back_to_the_model_that_made_them() -> None:
    """And to no other."""
    entries = [{"at": 0, "dialect": API, "kind": "server_tool_use", "value": USE}]
    mine = row(role="assistant", content="yes", model="m", kept=entries)
    assert context.messages([mine], None, "m")[0].kept == restored(entries)
    assert context.messages([mine], None, "another")[0].kept == ()
    silent = row(role="assistant", content="", model="m", kept=entries)
    assert len(context.messages([silent], None, "m")) == 1
    assert context.messages([silent], None, "another") == []


def test_a_tool_round_of_the_provider_goes_back_as_it_came() -> None:
    """Text, use, result and text in their order; what was cited only stood beside them."""
    text, entries = taken("anthropic.messages/web-search.sse")
    answer = base.Message("assistant", text, kept=restored(entries))
    content = sent(base.Message("user", "?"), answer, base.Message("user", "and now?"))["messages"][1]["content"]
    assert [block["type"] for block in content] == ["text", "server_tool_use", "web_search_tool_result", "text"]
    assert content[0]["text"] == "I will search."
    assert content[1]["input"] == {"query": "oslo"}


def test_a_paused_turn_can_be_resumed() -> None:
    """As the last message it goes back whole, with its container; before another question a tool that never ended is left out."""
    text, entries = taken("anthropic.messages/paused.sse")
    answer = base.Message("assistant", text, kept=restored(entries))
    body = sent(base.Message("user", "?"), answer)
    assert [block["type"] for block in body["messages"][-1]["content"]] == ["text", "server_tool_use"]
    assert body["messages"][-1]["content"][1]["input"] == {"command": "sleep 600"}
    assert body["container"] == "container_1"
    later = sent(base.Message("user", "?"), answer, base.Message("user", "go on"))
    assert [block["type"] for block in later["messages"][1]["content"]] == ["text"]


def test_thoughts_go_back_with_their_signature() -> None:
    """Before the text that followed them."""
    text, entries = taken("anthropic.messages/thinking.sse")
    answer = base.Message("assistant", text, kept=restored(entries))
    content = sent(base.Message("user", "?"), answer, base.Message("user", "and?"))["messages"][1]["content"]
    assert [block["type"] for block in content] == ["thinking", "redacted_thinking", "text"]
    assert content[0]["signature"] == "EqQB"
