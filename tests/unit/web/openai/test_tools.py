"""Tools in requests of OpenAI clients: what they say, what the row holds, what comes back."""

from typing import Any

import httpx
import pytest

from tests.unit.web.conftest import MakeClient, RecordedJobs
from tests.unit.web.openai.test_routes import PRODUCTION, R, asked, bearer
from tokenwire.config.terms import ToolTerms
from tokenwire.models.answers import Ending
from tokenwire.models.store import Store
from tokenwire.models.tables import Message as Row
from tokenwire.models.tool_choices import (
    CallerApproval,
    NamedTool,
    OwnTool,
    ToolChoices,
    read,
)
from tokenwire.providers.history import CallPart, ResultPart
from tokenwire.web.openai.errors import OpenAIProblem
from tokenwire.web.openai.tools import shown_choice, shown_tools, tool_choices
from tokenwire.worker import context

TERMS = ToolTerms()
CITY: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}}
FLAT: dict[str, Any] = {"type": "function", "name": "weather", "parameters": CITY, "strict": True}
NESTED: dict[str, Any] = {
    "type": "function",
    "function": {"name": "weather", "parameters": CITY, "strict": None, "description": None},
}
SERVER: dict[str, Any] = {"type": "mcp", "server_label": "tokenwire"}
WEATHER = OwnTool(name="weather", parameters=CITY, runs_at="caller")
LEFT = [
    {"type": "text", "length": 5},
    {"type": "tool_call", "id": "c1", "name": "weather", "state": "proposed", "input": "{}"},
]


def test_functions_belong_to_the_caller() -> None:
    """In both spellings; without parameters, they take an empty object."""
    for tool in (FLAT, NESTED):
        assert tool_choices([tool], None, TERMS) == ToolChoices(own=[WEATHER])
    bare = tool_choices([{"type": "function", "name": "now"}], "required", TERMS)
    assert bare.own[0].parameters == {"type": "object", "properties": {}}
    assert bare.choice == "required"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("parameters", value) for value in ([], "", 0, False, [1], 5)),
        *(("description", value) for value in ([], 0, False, {}, 5)),
    ],
)
def test_what_is_empty_and_of_another_type_is_refused(field: str, value: Any) -> None:
    """It is not absent."""
    for tool in (FLAT | {field: value}, {"type": "function", "function": FLAT | {field: value}}):
        with pytest.raises(OpenAIProblem, match="tools") as refused:
            tool_choices([tool], None, TERMS)
        assert refused.value.body["error"]["code"] == "invalid_value"


def test_tools_of_the_server_are_named_or_all() -> None:
    """Nobody can approve their calls, in either case."""
    named = SERVER | {"allowed_tools": ["add"], "require_approval": "never"}
    assert tool_choices([named], None, TERMS) == ToolChoices(use=["add"], unattended=True)
    filtered = SERVER | {"allowed_tools": {"tool_names": ["add"]}}
    assert tool_choices([filtered], None, TERMS).use == ["add"]
    assert tool_choices([SERVER], None, TERMS) == ToolChoices(all_of_server=True, unattended=True)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"type": "function", "name": "weather"}, NamedTool(name="weather")),
        ({"type": "function", "function": {"name": "weather"}}, NamedTool(name="weather")),
        (SERVER | {"name": "add"}, NamedTool(name="add")),
        ("none", "none"),
        (None, None),
    ],
)
def test_choices(choice: Any, expected: Any) -> None:
    """A mode, or a name in either spelling."""
    tools = [FLAT, SERVER | {"allowed_tools": ["add"]}]
    assert tool_choices(tools, choice, TERMS).choice == expected


def test_allowed_tools_narrow() -> None:
    """In both spellings; those that are left have the mode."""
    tools = [FLAT, {"type": "function", "name": "now"}, SERVER | {"allowed_tools": ["add", "pay"]}]
    left = {"mode": "required", "tools": [{"type": "function", "name": "weather"}]}
    for choice in (
        {"type": "allowed_tools", **left},
        {"type": "allowed_tools", "allowed_tools": left},
    ):
        found = tool_choices(tools, choice, TERMS)
        assert found == ToolChoices(own=[WEATHER], choice="required")
    server = {"type": "allowed_tools", "mode": "auto", "tools": [SERVER | {"name": "pay"}]}
    found = tool_choices(tools, server, TERMS)
    assert (found.own, found.use) == ([], ["pay"])
    whole = {"type": "allowed_tools", "mode": "auto", "tools": [SERVER]}
    assert tool_choices(tools, whole, TERMS).use == ["add", "pay"]
    both = whole | {"tools": [SERVER, SERVER | {"name": "pay"}]}
    assert tool_choices(tools, both, TERMS).use == ["add", "pay"]


@pytest.mark.parametrize(
    ("tools", "choice", "param"),
    [
        ([{"type": "web_search"}], None, "tools[0]"),
        ([FLAT, {"type": "custom", "name": "x"}], None, "tools[1]"),
        ([SERVER, SERVER], None, "tools[1]"),
        ([SERVER | {"server_label": "other"}], None, "tools[0].server_label"),
        ([SERVER | {"server_url": "https://x"}], None, "tools[0].server_url"),
        ([SERVER | {"require_approval": "always"}], None, "tools[0].require_approval"),
        ([SERVER | {"allowed_tools": "add"}], None, "tools[0].allowed_tools"),
        (
            [SERVER | {"allowed_tools": {"read_only": True}}],
            None,
            "tools[0].allowed_tools.read_only",
        ),
        ([FLAT | {"defer_loading": True}], None, "tools[0].defer_loading"),
        ([FLAT | {"strict": "yes"}], None, "tools[0].strict"),
        ([{"type": "function"}], None, "tools[0].name"),
        ([SERVER, FLAT | {"name": "no way"}], None, "tools[1].name"),
        ([SERVER, FLAT, FLAT], None, "tools[2].name"),
        ([FLAT | {"parameters": {"type": "array"}}], None, "tools[0].parameters"),
        ([FLAT | {"description": "x" * 2**17}], None, "tools"),
        ([FLAT], "always", "tool_choice"),
        ([FLAT], {"type": "function", "name": 5}, "tool_choice"),
        (
            [FLAT, SERVER | {"allowed_tools": ["add"]}],
            {"type": "function", "name": "x"},
            "tool_choice",
        ),
        ([FLAT], {"type": "web_search"}, "tool_choice"),
        ([], "required", "tool_choice"),
        ([FLAT], {"type": "allowed_tools", "tools": [SERVER]}, "tool_choice.tools[0]"),
        ([FLAT], {"type": "allowed_tools"}, "tool_choice"),
        (
            [FLAT],
            {"type": "allowed_tools", "tools": [{"type": "function", "name": "x"}]},
            "tool_choice.tools[0]",
        ),
    ],
)
def test_refusals(tools: list[dict[str, Any]], choice: Any, param: str) -> None:
    """What is done nowhere is refused by name."""
    with pytest.raises(OpenAIProblem) as refused:
        tool_choices(tools, choice, TERMS)
    assert (refused.value.status, refused.value.body["error"]["param"]) == (400, param)


def test_too_many_tools_are_refused_at_once() -> None:
    """Before each is read: a body may have very many."""
    with pytest.raises(OpenAIProblem, match="more than 64 tools"):
        tool_choices([{"type": "nothing"}] * 66, None, TERMS)
    assert len(tool_choices([SERVER, *_functions(64)], None, TERMS).own) == 64


def _functions(number: int) -> list[dict[str, Any]]:
    return [{"type": "function", "name": f"f{one}"} for one in range(number)]


@pytest.mark.parametrize(
    ("wanted", "approval"),
    [
        (None, CallerApproval()),
        ("always", CallerApproval(always=True)),
        ("never", None),
        ({"always": {"tool_names": ["add"]}}, CallerApproval(always=["add"])),
        ({"never": {"tool_names": ["add"]}}, CallerApproval(always=True, never=["add"])),
        (
            {"always": {"tool_names": ["pay"]}, "never": {"tool_names": ["add"]}},
            CallerApproval(always=["pay"], never=["add"]),
        ),
    ],
)
def test_approvals_that_a_request_wants(wanted: Any, approval: CallerApproval | None) -> None:
    """A Response repeats them in a form that can be sent again."""
    found = tool_choices([SERVER | {"require_approval": wanted}], None, TERMS, attended=True)
    assert (found.caller_approves, found.unattended) == (approval, approval is None)
    (shown,) = shown_tools(found)
    assert shown["require_approval"] == wanted
    assert read(found.stored()) == found


@pytest.mark.parametrize(
    ("wanted", "place"),
    [
        ("sometimes", ""),
        ({"always": "add"}, ".always"),
        ({"always": {"read_only": True}}, ".always.read_only"),
        ({"other": {"tool_names": ["add"]}}, ".other"),
        ({"never": {"tool_names": ["gone"]}}, ""),
        ({"always": {"tool_names": ["add"]}, "never": {"tool_names": ["add"]}}, ""),
    ],
)
def test_bad_wishes_for_approval(wanted: Any, place: str) -> None:
    server = SERVER | {"allowed_tools": ["add"], "require_approval": wanted}
    with pytest.raises(OpenAIProblem) as refused:
        tool_choices([server], None, TERMS, attended=True)
    assert refused.value.body["error"]["param"] == f"tools[0].require_approval{place}"


def test_a_response_repeats_them() -> None:
    """In a form that can be sent again."""
    for tools, choice in (
        ([FLAT, SERVER | {"allowed_tools": ["add"]}], {"type": "function", "name": "weather"}),
        ([SERVER], "required"),
        ([SERVER | {"allowed_tools": ["add"]}], SERVER | {"name": "add"}),
    ):
        said = tool_choices(tools, choice, TERMS)
        assert tool_choices(shown_tools(said), shown_choice(said), TERMS) == said
        assert shown_choice(said) == choice


# --- over HTTP ------------------------------------------------------------------------------------


async def test_the_row_has_the_tools(client: httpx.AsyncClient, store: Store) -> None:
    """And the response repeats them. Without tools, a choice means nothing."""
    response = await asked(client, tools=[FLAT], tool_choice="required")
    row = await store.message(response["id"].removeprefix("resp_"))
    assert row is not None
    assert row.tools == ToolChoices(own=[WEATHER], choice="required").stored()
    assert (response["tools"][0]["name"], response["tool_choice"]) == ("weather", "required")
    plain = await asked(client, tool_choice="auto", max_tool_calls=3, tools=[])
    assert (plain["tools"], plain["tool_choice"]) == ([], "auto")


async def test_a_limit_of_calls_is_about_those_of_the_server(
    client: httpx.AsyncClient, store: Store
) -> None:
    limits = [
        read((await stored(client, store, tools=[tool], max_tool_calls=3)).tools).max_calls
        for tool in (FLAT, SERVER)
    ]
    assert limits == [None, 3]


async def stored(client: httpx.AsyncClient, store: Store, **body: Any) -> Row:
    row = await store.message((await asked(client, **body))["id"].removeprefix("resp_"))
    assert row is not None
    return row


async def left_calls(store: Store, response: dict[str, Any]) -> None:
    """End the answer with a call for its caller, like a worker."""
    name = response["id"].removeprefix("resp_")
    await store.begin_attempt(name, 1, "demo")
    parts = [LEFT[0], LEFT[1] | {"runs_at": "caller"}]
    ending = Ending(name, 1, "complete", "Wait.", "", None, 0, "tool_calls", parts=parts)
    assert await store.finish(ending)


async def provider_gets(store: Store, response: dict[str, Any]) -> list[Any]:
    """Roles and parts of the messages for the provider."""
    row = await store.message(response["id"].removeprefix("resp_"))
    assert row is not None
    rows = await store.history(row.conversation_id, row.ordinal)
    return [(one.role, *one.parts) for one in context.messages(rows, None)]


async def test_results_reach_the_provider(client: httpx.AsyncClient, store: Store) -> None:
    """With the request alone, and behind the response that made the call."""
    call = {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "c1", "output": "Sun."}
    text = {"role": "assistant", "content": "Wait."}
    first = await asked(client, tools=[FLAT])
    await left_calls(store, first)
    whole = await asked(client, input=[{"role": "user", "content": "hi"}, text, call, output])
    after = await asked(client, input=[output], previous_response_id=first["id"])
    for response in (whole, after):
        user, assistant, tool = await provider_gets(store, response)
        assert user[0] == "user"
        assert assistant[2] == CallPart("c1", "weather", "{}")
        assert tool == ("tool", ResultPart("c1", "weather", "Sun."))


async def test_input_items_of_calls(client: httpx.AsyncClient, store: Store) -> None:
    """Calls and results come back as they were sent."""
    call = {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "c1", "output": "Sun."}
    server = SERVER | {"type": "mcp_call", "id": "m", "name": "add", "arguments": "", "output": "3"}
    sent = [{"role": "user", "content": "hi"}, server, {"role": "assistant", "content": "So"}]
    response = await asked(client, input=[*sent, call, output])
    path = f"{R}/{response['id']}/input_items?order=asc&limit=2"
    page = (await client.get(path)).json()
    rest = (await client.get(f"{path}&after={page['last_id']}")).json()
    items = [*page["data"], *rest["data"]]
    assert [item["type"] for item in items] == [
        *("message", "mcp_call", "message", "function_call", "function_call_output")
    ]
    for item, known in zip(items[3:], (call, output), strict=True):
        assert item.items() >= known.items()
    assert (page["has_more"], rest["has_more"]) == (True, False)
    newest = (await client.get(f"{R}/{response['id']}/input_items")).json()["data"]
    assert [item["id"] for item in newest] == [item["id"] for item in reversed(items)]


def looked_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The messages that are read, as they are."""
    looked, look = list[str](), store.visible_message

    async def seen(message_id: str, user: str) -> Row:
        looked.append(message_id)
        return await look(message_id, user)

    monkeypatch.setattr(store, "visible_message", seen)
    return looked


async def test_approval_requests_of_one_answer_are_looked_up_once(
    client: httpx.AsyncClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if it has none of them."""
    first = await asked(client, input="hi", tools=[FLAT])
    await left_calls(store, first)
    name, looked = first["id"].removeprefix("resp_"), looked_up(store, monkeypatch)
    known = {"type": "mcp_approval_response", "approve": True}
    items = [{**known, "approval_request_id": f"mcpr_{name}_{n}"} for n in range(20)]
    body = {"model": "demo", "input": items, "background": True, "tools": [SERVER]}
    refused = await client.post(R, json=body)
    assert "No approval request found" in refused.json()["error"]["message"]
    assert looked == [name]


async def test_references_to_items(
    make_client: MakeClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stand for items that their user has; references to thoughts are ignored."""
    client, looked = make_client(**PRODUCTION), looked_up(store, monkeypatch)
    body = {"model": "demo", "input": "hi", "background": True, "tools": [FLAT]}
    first = (await client.post(R, json=body, headers=bearer("me"))).json()
    await left_calls(store, first)
    name = first["id"].removeprefix("resp_")
    refers = [{"type": "item_reference", "id": f"{kind}_{name}"} for kind in ("rs", "msg")]
    call = {"type": "item_reference", "id": f"fc_{name}_0"}
    output = {"type": "function_call_output", "call_id": "c1", "output": "Sun."}
    again = body | {"input": [{"role": "user", "content": "hi"}, *refers, call, output]}
    response = (await client.post(R, json=again, headers=bearer("me"))).json()
    user, assistant, tool = await provider_gets(store, response)
    assert user[0] == "user"
    assert assistant[2] == CallPart("c1", "weather", "{}")
    assert tool == ("tool", ResultPart("c1", "weather", "Sun."))
    assert looked == [name]  # once, for two items
    for item, who in (
        (call, "you"),
        (call | {"id": f"fc_{name}_7"}, "me"),
        ({**call, "id": "x"}, "me"),
    ):
        refused = await client.post(R, json=again | {"input": [item]}, headers=bearer(who))
        assert refused.json()["error"]["code"] == "not_found"


async def test_results_for_others_are_refused(
    make_client: MakeClient, store: Store, jobs: RecordedJobs
) -> None:
    """A call is known by the response that made it, and that is readable only for its user."""
    client = make_client(**PRODUCTION)
    body = {"model": "demo", "input": "hi", "background": True, "tools": [FLAT]}
    mine = (await client.post(R, json=body, headers=bearer("me"))).json()
    other = (await client.post(R, json=body, headers=bearer("you"))).json()
    for response in (mine, other):
        await left_calls(store, response)
    made = len(jobs.enqueued)
    output = {"type": "function_call_output", "call_id": "c1", "output": "x"}
    asks = {"model": "demo", "input": [output], "previous_response_id": mine["id"]}
    refused = await client.post(R, json=asks, headers=bearer("you"))
    assert refused.json()["error"]["code"] == "previous_response_not_found"
    unknown = asks | {"input": [output | {"call_id": "c2"}]}
    refused = await client.post(R, json=unknown, headers=bearer("me"))
    assert refused.json()["error"]["param"] == "input[0]"
    assert len(jobs.enqueued) == made
