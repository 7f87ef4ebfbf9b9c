"""Approvals over /v1/responses: from the request for one, over the decision, to the outcome, with
web, worker and both databases.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.databases import sql
from tests.integration.attempt.test_calls import Turns, World, calls, says
from tests.unit.web.conftest import RecordedJobs, settings
from tests.unit.web.openai.client import Client, Parsed, blocks
from tokenwire.models.call_states import Decision
from tokenwire.models.errors import AlreadyDecided
from tokenwire.models.store import Store
from tokenwire.models.tables import Message as Row
from tokenwire.providers.catalogue import parse
from tokenwire.providers.content import turns
from tokenwire.providers.history import CallPart, ResultPart
from tokenwire.streams.log.memory import MemoryPubSub
from tokenwire.tools import tool
from tokenwire.web.app import create_app

R = "/v1/responses"
SERVER = {"type": "mcp", "server_label": "tokenwire"}
PAYS = calls(("pay", '{"to": "ada"}'))
Item = dict[str, Any]


class Site(World):
    """A web process, and workers that run when they are called. `ran`: what the tools did."""

    def open(self) -> None:
        self.ran = list[str]()
        catalogue = parse({"default": "m", "models": {"m": {"provider": "demo"}}}, {})
        app = create_app(
            settings(), self.store, self.log, MemoryPubSub(self.log), RecordedJobs(), catalogue
        )  # type: ignore[arg-type]  # the recorder stands in
        transport = httpx.ASGITransport(app, raise_app_exceptions=True)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://chat.example:8000")

        @tool(approve=True)
        def pay(to: str) -> str:
            """Pay."""
            self.ran.append(to)
            return f"paid {to}"

        @tool
        def add() -> int:
            """Add."""
            self.ran.append("add")
            return 3

        self.offers(pay, add)

    async def asks(self, input_: Any, **body: Any) -> httpx.Response:
        wanted = {"model": "m", "input": input_, "background": True, "tools": [SERVER]}
        return await self.client.post(R, json=wanted | body)

    async def works(self, response: httpx.Response, *turns: Any) -> Turns:
        """One job of this response."""
        assert response.status_code == 200, response.text
        provider = Turns(*turns)
        await self.runs(provider, await self.row_of(response.json()["id"]))
        return provider

    async def row_of(self, response_id: str) -> Row:
        found = await self.store.message(response_id.removeprefix("resp_"))
        assert found is not None
        return found

    async def answered(self, input_: Any, *turns: Any, **body: Any) -> Parsed:
        """A response at its end."""
        asked = await self.asks(input_, **body)
        await self.works(asked, *turns)
        return await self.read(asked.json()["id"])

    async def read(self, response_id: str) -> Parsed:
        """The response: its events are the same from the row and from the log."""
        whole = dict((await self.client.get(f"{R}/{response_id}")).json())
        streamed = await self.client.get(f"{R}/{response_id}", params={"stream": True})
        events = blocks(streamed.content)
        assert Client().read(events).final == whole
        for after in (0, len(events) // 2):
            rest = await self.client.get(
                f"{R}/{response_id}", params={"stream": True, "starting_after": after}
            )
            assert blocks(rest.content) == events[after + 1 :]
        return whole

    async def asked_to_pay(self, *turns: Any, **body: Any) -> Parsed:
        return await self.answered("Pay ada.", *(turns or (PAYS,)), **body)


@pytest.fixture
async def site(store: Store) -> AsyncIterator[Site]:
    site = Site(store)
    site.open()
    yield site
    await site.client.aclose()
    for box in site.boxes:
        await box.aclose()


def requests(response: Parsed) -> list[str]:
    """The ids of the approvals that a response asks for."""
    return [item["id"] for item in response["output"] if item["type"] == "mcp_approval_request"]


def decides(id_: str, approve: bool = True, **more: Any) -> Item:
    known = {"type": "mcp_approval_response", "approval_request_id": id_, "approve": approve}
    return known | more


def error(refused: httpx.Response) -> tuple[int, str]:
    return refused.status_code, refused.json()["error"]["code"]


async def test_a_call_runs_once_it_is_allowed(site: Site) -> None:
    """The response ends with the request; the next one has the call, its outcome, and the text. The
    model reads the call and its result once, in order.
    """
    first = await site.asked_to_pay()
    (asked,) = first["output"]
    assert (first["status"], site.ran) == ("completed", [])
    assert asked == {
        "id": asked["id"],
        "type": "mcp_approval_request",
        "server_label": "tokenwire",
        "name": "pay",
        "arguments": '{"to": "ada"}',
    }
    follows = {"previous_response_id": first["id"]}
    second = await site.asks([decides(asked["id"])], **follows)
    provider = await site.works(second, says("Done."))
    ended = await site.read(second.json()["id"])
    call, text = ended["output"]
    assert (call["type"], call["output"], call["approval_request_id"], call["status"]) == (
        *("mcp_call", "paid ada", asked["id"], "completed"),
    )
    assert (text["content"][0]["text"], site.ran) == ("Done.", ["ada"])
    assert ended["id"] != first["id"]
    assert await site.read(first["id"]) == first
    sent = turns(provider.asked[0], "d", "m")
    assert [one.role for one in sent] == ["user", "assistant", "tool"]
    assert [type(part) for one in sent[1:] for part in one.parts] == [CallPart, ResultPart]
    assert await logged(site, ended) == 3


async def logged(site: Site, response: Parsed) -> int:
    """How many parts the readers of the log hold: those of the row."""
    return len((await site.logged(await site.row_of(response["id"]))).parts)


async def test_a_later_question_has_it_all(site: Site) -> None:
    """Followed, and repeated item by item."""
    first = await site.asked_to_pay()
    second = await site.answered(
        [decides(requests(first)[0])], says("Done."), previous_response_id=first["id"]
    )
    for later in (
        await site.asks("And now?", previous_response_id=second["id"]),
        await site.asks(
            [
                {"role": "user", "content": "Pay ada."},
                *first["output"],
                decides(requests(first)[0]),
                *second["output"],
                {"role": "user", "content": "And now?"},
            ]
        ),
    ):
        provider = await site.works(later, says("Nothing."))
        sent = turns(provider.asked[0], "d", "m")
        assert [one.role for one in sent] == ["user", "assistant", "tool", "assistant", "user"]
        assert site.ran == ["ada"]


async def test_a_denial_reaches_the_model(site: Site) -> None:
    """With its reason; the tool never runs."""
    first = await site.asked_to_pay()
    asked = await site.asks(
        [decides(requests(first)[0], approve=False, reason="Too much.")],
        previous_response_id=first["id"],
    )
    provider = await site.works(asked, says("Well."))
    call, _ = (await site.read(asked.json()["id"]))["output"]
    assert (call["status"], call["error"]) == ("failed", "A person denied this call: Too much.")
    (result,) = provider.asked[0].messages[-1].parts
    assert isinstance(result, ResultPart)
    assert (result.text, site.ran) == ("A person denied this call: Too much.", [])
    items = (await site.client.get(f"{R}/{asked.json()['id']}/input_items")).json()["data"]
    assert (items[0]["type"], items[0]["approve"], items[0]["reason"]) == (
        *("mcp_approval_response", False, "Too much."),
    )
    assert items[1]["id"] == items[0]["approval_request_id"] == requests(first)[0]


async def test_a_call_is_decided_once(site: Site) -> None:
    """And its author is recorded. Other decisions, or with another request, are refused."""
    first = await site.asked_to_pay()
    follows = {"previous_response_id": first["id"]}
    yes, no = (decides(requests(first)[0], approve=approve) for approve in (True, False))
    both = await asyncio.gather(site.asks([yes], **follows), site.asks([no], **follows))
    assert sorted(each.status_code for each in both) == [200, 409]
    (late,) = (each for each in both if each.status_code == 409)
    assert (error(late)[1], late.headers["x-should-retry"]) == ("already_decided", "false")
    approved = both[0].status_code == 200
    await site.works(both[0 if approved else 1], says("Done."))
    for again, more in ((yes, {"metadata": {"a": "b"}}), (no | {"reason": "Changed."}, {})):
        refused = await site.asks([again], **follows, **more)
        assert error(refused) == (409, "already_decided")
    assert site.ran == (["ada"] if approved else [])
    (record,) = await site.store.decisions_of((await site.row_of(first["id"])).id)
    decided = "approve" if approved else "deny"
    assert (record.decision, record.by, record.number) == (decided, "local", 0)
    other = Decision("deny") if approved else Decision("approve")
    with pytest.raises(AlreadyDecided):  # nor does the API of decisions take another one
        await site.store.decide(record.message_id, 0, "local", other)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("repeats_history", [False, True])
async def test_a_request_that_is_sent_again(site: Site, repeats_history: bool) -> None:
    """OpenAI's clients do that when a connection breaks, without a key. At the same time, while the
    answer is made, and later: it is the first one's response, and streams the same.
    """
    first = await site.asked_to_pay()
    item = decides(requests(first)[0])
    body: Item = {"input_": [item], "previous_response_id": first["id"]}
    if repeats_history:
        body = {"input_": [{"role": "user", "content": "Pay ada."}, *first["output"], item]}
    twins = [await again for again in [site.asks(**body), site.asks(**body)]]
    twins += await asyncio.gather(site.asks(**body), site.asks(**body))
    await site.works(twins[0], says("Done."))
    twins.append(await site.asks(**body))
    assert [twin.status_code for twin in twins] == [200] * 5
    assert len({twin.json()["id"] for twin in twins}) == 1
    assert (twins[-1].json()["status"], site.ran) == ("completed", ["ada"])
    ended = await site.read(twins[0].json()["id"])
    assert twins[-1].json() == ended
    whole = await site.asks(**body, background=False)
    assert error(whole) == (409, "already_decided")


async def test_two_that_send_the_first_decision_at_once(site: Site) -> None:
    """One of them makes the response, and both get it."""
    for _ in range(4):
        first = await site.asked_to_pay()
        body = {"input_": [decides(requests(first)[0])], "previous_response_id": first["id"]}
        both = await asyncio.gather(site.asks(**body), site.asks(**body))
        assert len({each.json()["id"] for each in both}) == 1
        assert len(await site.store.decisions_of((await site.row_of(first["id"])).id)) == 1


@pytest.mark.sampled(2)
@pytest.mark.parametrize("repeats_history", [False, True])
async def test_sent_again_after_its_response_is_deleted(site: Site, repeats_history: bool) -> None:
    """The decision still holds: nothing runs again."""
    first = await site.asked_to_pay()
    item = decides(requests(first)[0])
    body: Item = {"input_": [item], "previous_response_id": first["id"]}
    if repeats_history:
        body = {"input_": [{"role": "user", "content": "Pay ada."}, *first["output"], item]}
    second = await site.asks(**body)
    await site.works(second, says("Done."))
    assert (await site.client.delete(f"{R}/{second.json()['id']}")).status_code == 200
    assert error(await site.asks(**body)) == (409, "already_decided")
    assert site.ran == ["ada"]


async def test_a_repeated_key_decides_once(site: Site) -> None:
    """With a key of its own, a request is the same under that key alone."""
    first = await site.asked_to_pay()
    body = {"model": "m", "input": [decides(requests(first)[0])], "tools": [SERVER]}
    body |= {"background": True, "previous_response_id": first["id"]}
    key = {"Idempotency-Key": "k"}
    ids = {(await site.client.post(R, json=body, headers=key)).json()["id"] for _ in range(2)}
    assert len(ids) == 1
    for headers in ({}, {"Idempotency-Key": "other"}):
        refused = await site.client.post(R, json=body, headers=headers)
        assert error(refused) == (409, "already_decided")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("UPDATE messages SET ended_at = ended_at - 604800001 WHERE id = :id", "decision_expired"),
        ("UPDATE calls SET state = 'withdrawn' WHERE message_id = :id", "not_awaited"),
        ("UPDATE conversations SET user_id = 'eve'", "not_decider"),
    ],
)
async def test_a_decision_that_may_not_apply(site: Site, change: str, code: str) -> None:
    """Nothing is stored of it: neither a record nor a response."""
    first = await site.asked_to_pay()
    row = await site.row_of(first["id"])
    async with site.store.writing() as session:
        known = {"id": row.id} if ":id" in change else {}
        await session.execute(sql(change), known)
        if code == "not_decider":
            await session.execute(sql("UPDATE messages SET user_id = 'eve' WHERE role = 'user'"))
    before = await rows(site)
    refused = await site.asks([decides(requests(first)[0])], previous_response_id=first["id"])
    assert refused.json()["error"]["code"] == code
    assert refused.status_code == (403 if code == "not_decider" else 409)
    assert (await rows(site), await site.store.decisions_of(row.id)) == (before, [])


async def test_a_decision_comes_days_later(site: Site) -> None:
    """Long after other responses would have been deleted. What asks for nothing is deleted."""
    first, other = await site.asked_to_pay(), await site.answered("Hi.", says("Hello."))
    almost = 604_800_000 - 60_000
    async with site.store.writing() as session:
        for table, column in (
            ("messages", "ended_at"),
            ("conversations", "updated_at"),
            ("conversations", "kept_until"),
        ):
            await session.execute(sql(f"UPDATE {table} SET {column} = {column} - {almost}"))
    await site.store.forget_unlisted()
    second = await site.asks([decides(requests(first)[0])], previous_response_id=first["id"])
    await site.works(second, says("Done."))
    assert site.ran == ["ada"]
    assert (await site.client.get(f"{R}/{other['id']}")).status_code == 404


async def rows(site: Site) -> int:
    async with site.store.reading() as session:
        return int((await session.execute(sql("SELECT count(*) FROM messages"))).scalar_one())


async def test_who_may_not_read_may_not_decide(site: Site) -> None:
    """A request of somebody else does not exist, followed or repeated."""
    first = await site.asked_to_pay()
    async with site.store.writing() as session:
        await session.execute(sql("UPDATE participants SET user_id = 'eve'"))
    item = decides(requests(first)[0])
    followed = await site.asks([item], previous_response_id=first["id"])
    assert error(followed) == (400, "previous_response_not_found")
    assert error(await site.asks([*first["output"], item])) == (400, "invalid_value")


async def test_bad_decisions_are_refused_by_place(site: Site) -> None:
    """All or nothing: an answer to one of two requests, or a message behind them, decides none."""
    both = calls(("pay", '{"to": "ada"}'), ("pay", '{"to": "bob"}'))
    first = await site.asked_to_pay(both)
    one, two = requests(first)
    follows = {"previous_response_id": first["id"]}
    user = {"role": "user", "content": "And?"}
    for items, words in [
        ([decides(one)], "No approval response found for"),
        ([decides(one), decides(two), user], "Nothing may come behind an approval"),
        ([user, decides(one), decides(two)], "No approval request found"),
        ([decides(one), decides(one)], "No approval request found"),
        ([decides("mcpr_x_0")], "No approval request found"),
        ([decides(one) | {"approve": "yes"}], "approve is true or false"),
    ]:
        refused = await site.asks(items, **follows)
        assert error(refused) == (400, "invalid_value")
        assert words in refused.json()["error"]["message"]
    body = json.dumps({"model": "m", "input": [decides(one), decides(two)], **follows})
    doubled = body.replace('"approve": true', '"approve": false, "approve": true')
    refused = await site.client.post(
        R, content=doubled, headers={"content-type": "application/json"}
    )
    assert error(refused) == (400, "malformed_json")
    for tools in ([], [SERVER | {"allowed_tools": ["add"]}]):
        refused = await site.asks([decides(one), decides(two)], tools=tools, **follows)
        assert refused.json()["error"]["param"] == "tools"
    ended = await site.answered(
        [decides(two, approve=False), decides(one)], says("Half."), **follows
    )
    assert [item["status"] for item in ended["output"][:2]] == ["failed", "completed"]
    assert site.ran == ["ada"]


async def test_a_question_in_place_of_a_decision(site: Site) -> None:
    """The model reads that there is no result; the call can still be allowed, in another branch."""
    first = await site.asked_to_pay()
    follows = {"previous_response_id": first["id"]}
    other = await site.asks("Never mind.", **follows)
    provider = await site.works(other, says("Fine."))
    sent = turns(provider.asked[0], "d", "m")
    assert [one.role for one in sent] == ["user", "assistant", "tool", "user"]
    assert site.ran == []
    await site.answered([decides(requests(first)[0])], says("Done."), **follows)
    assert site.ran == ["ada"]


async def test_a_program_that_repeats_its_history(site: Site) -> None:
    """Without a response before: the item names the call. Others arguments are no such call."""
    first = await site.asked_to_pay()
    history = [{"role": "user", "content": "Pay ada."}, *first["output"]]
    forged = history[1] | {"arguments": '{"to": "eve"}'}
    item = decides(requests(first)[0])
    assert error(await site.asks([history[0], forged, item])) == (400, "invalid_value")
    asked = await site.asks([*history, item])
    provider = await site.works(asked, says("Done."))
    ended = await site.read(asked.json()["id"])
    assert [entry["type"] for entry in ended["output"]] == ["mcp_call", "message"]
    sent = turns(provider.asked[0], "d", "m")
    assert [one.role for one in sent] == ["user", "assistant", "tool"]
    assert site.ran == ["ada"]
    assert error(await site.asks([*history, item], metadata={})) == (409, "already_decided")


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("approval", "kinds"),
    [
        (None, ["mcp_approval_request", "mcp_call"]),
        ("always", ["mcp_approval_request", "mcp_approval_request"]),
        ({"always": {"tool_names": ["add"]}}, ["mcp_approval_request", "mcp_approval_request"]),
        ({"never": {"tool_names": ["add"]}}, ["mcp_approval_request", "mcp_call"]),
        ({"never": {"tool_names": ["pay"]}}, ["mcp_call", "mcp_approval_request"]),
    ],
)
async def test_a_request_can_only_add_to_the_rule(
    site: Site, approval: Any, kinds: list[str]
) -> None:
    """`never` frees no tool whose rule asks: its call is denied."""
    both = calls(("pay", '{"to": "ada"}'), ("add", "{}"))
    tools = [SERVER | {"require_approval": approval}]
    first = await site.asked_to_pay(both, tools=tools)
    assert [item["type"] for item in first["output"]] == kinds
    assert site.ran == (["add"] if kinds[1] == "mcp_call" else [])
    shown = {"never": {"tool_names": ["add"]}} if approval == tools[0] else approval
    assert first["tools"][0]["require_approval"] == shown


async def test_nobody_is_asked(site: Site) -> None:
    """By `never`, where nothing is stored, and in chats: a call that needs an approval is denied.
    What wants more than that there is refused.
    """
    never = [SERVER | {"require_approval": "never"}]
    first = await site.asked_to_pay(PAYS, says("Well."), tools=never)
    assert [item["type"] for item in first["output"]] == ["mcp_call", "message"]
    assert (first["output"][0]["status"], site.ran) == ("failed", [])
    always = [SERVER | {"require_approval": "always"}]
    refused = await site.asks("x", tools=always, store=False, background=False)
    assert refused.json()["error"]["param"] == "tools[0].require_approval"
    chat = {"model": "m", "messages": [{"role": "user", "content": "x"}], "tools": always}
    refused = await site.client.post("/v1/chat/completions", json=chat)
    assert error(refused) == (400, "unsupported_parameter")


async def test_calls_beyond_the_limit_are_not_carried_out(site: Site) -> None:
    """`max_tool_calls` counts those of the server, over all turns."""
    adds = calls(("add", "{}"), ("add", "{}"))
    first = await site.answered("x", adds, adds, says("Well."), max_tool_calls=3)
    assert [item.get("status") for item in first["output"]] == [
        *("completed", "completed", "completed", "failed", "completed"),
    ]
    assert (site.ran, first["max_tool_calls"]) == (["add"] * 3, 3)


async def test_a_worker_dies_between_approval_and_tool(site: Site) -> None:
    """The next one carries the call out, once. Readers of the log have every part."""
    first = await site.asked_to_pay()
    second = await site.asks([decides(requests(first)[0])], previous_response_id=first["id"])
    row = await site.row_of(second.json()["id"])
    claim = await site.log.claim(row.conversation_id, row.id, row.attempt, 0.05)
    await site.store.begin_attempt(row.id, claim.attempt, "m")
    await asyncio.sleep(0.1)  # its lease is over
    await site.works(second, says("Done."))
    ended = dict((await site.client.get(f"{R}/{second.json()['id']}")).json())
    assert ([item["type"] for item in ended["output"]], site.ran) == (
        *(["mcp_call", "message"], ["ada"]),
    )
    assert await logged(site, ended) == 3


async def test_a_stop_before_the_tool_keeps_it_from_running(site: Site) -> None:
    """A response that is cancelled while it is queued."""
    first = await site.asked_to_pay()
    second = await site.asks([decides(requests(first)[0])], previous_response_id=first["id"])
    name = second.json()["id"]
    stopped = (await site.client.post(f"{R}/{name}/cancel")).json()
    assert (stopped["status"], stopped["output"][0]["status"]) == ("cancelled", "incomplete")
    assert (await site.read(name), site.ran) == (stopped, [])
    assert json.loads((await site.client.get(f"{R}/{first['id']}")).content) == first
