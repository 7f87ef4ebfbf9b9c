"""/v1: a request's rows and provider request, who may read what, and refusals in OpenAI's form."""

import asyncio
import time
from typing import Any

import httpx
import jwt
import pytest

from tests.rows import stored_bytes
from tests.unit.web.conftest import MakeClient, RecordedJobs
from tokenwire.models.answers import Ending
from tokenwire.models.quotas import Quotas
from tokenwire.models.store import Store
from tokenwire.streams.log.memory import MemoryLog
from tokenwire.worker import closing, context, schemas

R, C = "/v1/responses", "/v1/chat/completions"
KEY = "the-host-application-signs-with-this"
PRODUCTION = {"mode": "production", "redis_url": "redis://127.0.0.1:1", "host_jwt_key": KEY}


def bearer(user: str) -> dict[str, str]:
    return {
        "Authorization": "Bearer "
        + jwt.encode({"sub": user, "exp": int(time.time()) + 600}, KEY, "HS256")
    }


async def asked(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await client.post(R, json={"model": "demo", "input": "hi", "background": True} | body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def sent(
    store: Store, response: dict[str, Any]
) -> tuple[list[tuple[str, str]], dict[str, Any]]:
    """What a worker would send to the provider: messages and options."""
    row = await store.message(response["id"].removeprefix("resp_"))
    conversation = await store.conversation_of(row.id)
    messages = context.messages(
        await store.history(row.conversation_id, row.ordinal), conversation.instructions
    )
    return [(message.role, message.text) for message in messages], context.options(row)


async def finish(
    store: Store, log: MemoryLog, response_id: str, text: str, status: str = "complete", **more: Any
) -> None:
    """End the answer like a worker."""
    row = await store.message(response_id.removeprefix("resp_"))
    claim = await log.claim(row.conversation_id, row.id, row.attempt, 5)
    await store.begin_attempt(row.id, claim.attempt, "demo")
    ending = Ending(
        row.id,
        claim.attempt,
        status,
        text,
        "",
        claim.epoch,
        0,
        "stop" if status == "complete" else None,
        **more,
    )
    assert await store.finish(ending)
    await closing.append_end(store, log, claim, 0, ending)


async def test_history_and_instructions_reach_the_provider(
    client: httpx.AsyncClient, store: Store, jobs: RecordedJobs
) -> None:
    """As rows, in order, without empty ones and reasoning."""
    history = [
        {"role": "developer", "content": "Rules."},
        {
            "type": "message",
            "role": "user",
            "content": [{"type": "input_text", "text": "One"}, {"type": "input_text", "text": "!"}],
        },
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {
            "type": "message",
            "role": "assistant",
            "id": "msg_1",
            "content": [{"type": "output_text", "text": "Two", "annotations": []}],
        },
        {"role": "user", "content": " "},
        {"role": "user", "content": "Three\x00"},
    ]
    response = await asked(
        client,
        input=history,
        instructions="Be kind.",
        temperature=0.3,
        max_output_tokens=9,
        reasoning={"effort": "xhigh"},
    )
    messages, options = await sent(store, response)
    assert messages == [
        ("system", "Be kind."),
        ("system", "Rules."),
        ("user", "One!"),
        ("assistant", "Two"),
        ("user", "Three\ufffd"),
    ]
    assert options == {"temperature": 0.3, "max_tokens": 9, "reasoning_effort": "high"}
    assert jobs.enqueued == [response["id"].removeprefix("resp_")]
    assert (response["status"], response["output"], response["max_output_tokens"]) == (
        "queued",
        [],
        9,
    )


async def test_the_previous_response_comes_first(
    client: httpx.AsyncClient, store: Store, log: MemoryLog
) -> None:
    """With all before it; its instructions do not apply; several may follow it."""
    first = await asked(client, input="One", instructions="Be kind.")
    unfinished = await client.post(
        R, json={"model": "demo", "input": "x", "previous_response_id": first["id"]}
    )
    assert unfinished.json()["error"]["code"] == "previous_response_unfinished"
    await finish(store, log, first["id"], "Two")
    for text in ("Three", "Drei"):
        following = await asked(client, input=text, previous_response_id=first["id"])
        assert (await sent(store, following))[0] == [
            ("user", "One"),
            ("assistant", "Two"),
            ("user", text),
        ]


async def test_a_schema_is_passed_on(client: httpx.AsyncClient, store: Store) -> None:
    """In both spellings, and any JSON."""
    schema = {"type": "object"}
    for wanted, expected in (
        ({"type": "json_schema", "name": "x", "schema": schema}, schema),
        ({"type": "json_object"}, {}),
        ({"type": "text"}, None),
    ):
        response = await asked(client, text={"format": wanted})
        row = await store.message(response["id"].removeprefix("resp_"))
        assert row.response_schema == expected
        assert response["text"]["format"] == wanted


async def test_a_response_has_an_unlisted_conversation(
    client: httpx.AsyncClient, store: Store
) -> None:
    """It can be opened by its id, like any other."""
    response = await asked(client)
    row = await store.message(response["id"].removeprefix("resp_"))
    assert (await client.get("/api/conversations")).json()["conversations"] == []
    assert (await client.get(f"/api/conversations/{row.conversation_id}")).status_code == 200


async def test_a_repeated_post_creates_one_response(
    client: httpx.AsyncClient, jobs: RecordedJobs
) -> None:
    """By its key; the same key with another body is refused."""
    headers = {"Idempotency-Key": "k"}
    body = {"model": "demo", "input": "hi", "background": True}
    names = {(await client.post(R, json=body, headers=headers)).json()["id"] for _ in range(2)}
    assert (len(names), len(jobs.enqueued)) == (1, 1)
    other = await client.post(R, json=body | {"input": "ho"}, headers=headers)
    assert (other.status_code, other.json()["error"]["code"]) == (422, "key_reused")


async def test_who_may_read(make_client: MakeClient, store: Store) -> None:
    """Only the owner's login, as in the API; for others there is no such response."""
    async with (
        make_client(headers=bearer("ada"), **PRODUCTION) as ada,
        make_client(headers=bearer("bob"), **PRODUCTION) as bob,
    ):
        response = await asked(ada)
        path = f"{R}/{response['id']}"
        assert (await ada.get(path)).status_code == 200
        for method, place in (
            ("GET", path),
            ("GET", f"{path}?stream=true"),
            ("POST", f"{path}/cancel"),
            ("DELETE", path),
        ):
            refused = await bob.request(method, place)
            assert (refused.status_code, refused.json()["error"]["code"]) == (404, "not_found")
        following = await bob.post(
            R, json={"model": "demo", "input": "x", "previous_response_id": response["id"]}
        )
        assert (following.status_code, following.json()["error"]["param"]) == (
            400,
            "previous_response_id",
        )
    async with make_client(**PRODUCTION) as nobody:
        for method, place in (
            ("POST", R),
            ("POST", C),
            ("GET", "/v1/models"),
            ("GET", "/v1/anything"),
        ):
            refused = await nobody.request(
                method, place, json={"model": "demo", "input": "x", "messages": [{"role": "user"}]}
            )
            assert (refused.status_code, refused.json()["error"]["code"]) == (
                401,
                "invalid_api_key",
            )


BROKEN = {
    "type": "function",
    "name": "f",
    "parameters": {"type": "object", "properties": 5},
}


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "param"),
    [
        (R, {"model": "nope", "input": "x"}, 404, "model_not_found", "model"),
        (R, {"model": "keyless", "input": "x"}, 404, "model_not_found", "model"),
        (R, {"model": "nearby", "input": "x"}, 503, "model_unavailable", "model"),
        (R, {"model": "demo"}, 400, "invalid_value", None),
        (R, {"input": "  "}, 400, "invalid_value", "input"),
        (R, {"input": []}, 400, "invalid_value", "input"),
        (R, {"input": [{"role": "system", "content": "only"}]}, 400, "invalid_value", "input"),
        (R, {"input": [{"role": "king", "content": "x"}]}, 400, "invalid_value", "input[0].role"),
        (R, {"input": [{"role": "user", "content": 5}]}, 400, "invalid_value", "input[0].content"),
        (
            R,
            {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
            400,
            "unsupported_parameter",
            "input[0].content[0]",
        ),
        (
            R,
            {"input": [{"role": "user", "content": ["x"]}]},
            400,
            "invalid_value",
            "input[0].content[0]",
        ),
        (
            R,
            {"input": [{"type": "function_call_output", "call_id": "c", "output": ""}]},
            400,
            "invalid_value",
            "input[0]",
        ),
        (R, {"input": "x", "tools": [{}]}, 400, "unsupported_parameter", "tools[0]"),
        (R, {"input": "x", "tools": [BROKEN]}, 400, "invalid_json_schema", None),
        (R, {"input": "x", "conversation": "conv_1"}, 400, "unsupported_parameter", "conversation"),
        (R, {"input": "x", "background": True, "store": False}, 400, "invalid_value", "background"),
        (R, {"input": "x", "temperature": 9}, 400, "invalid_value", "temperature"),
        (
            R,
            {"input": "x", "previous_response_id": "resp_nope"},
            400,
            "previous_response_not_found",
            "previous_response_id",
        ),
        (
            R,
            {"input": "x", "text": {"format": {"type": "json_schema"}}},
            400,
            "invalid_value",
            "text.format",
        ),
        (C, {"messages": []}, 400, "invalid_value", "messages"),
        (
            C,
            {"model": "nope", "messages": [{"role": "user", "content": "x"}]},
            404,
            "model_not_found",
            "model",
        ),
        (
            C,
            {"model": "nearby", "messages": [{"role": "user", "content": "x"}]},
            503,
            "model_unavailable",
            "model",
        ),
        (
            C,
            {"messages": [{"role": "tool", "content": "x"}]},
            400,
            "invalid_value",
            "messages[0].tool_call_id",
        ),
        (
            C,
            {"messages": [{"role": "assistant", "tool_calls": [{}]}]},
            400,
            "invalid_value",
            "messages[0].tool_calls[0].function",
        ),
        (
            C,
            {"messages": [{"role": "user", "content": "x"}], "n": 2},
            400,
            "unsupported_parameter",
            "n",
        ),
        (
            C,
            {"messages": [{"role": "user", "content": "x"}], "logprobs": True},
            400,
            "unsupported_parameter",
            "logprobs",
        ),
    ],
)
async def test_refusals(
    client: httpx.AsyncClient,
    jobs: RecordedJobs,
    path: str,
    body: dict[str, Any],
    status: int,
    code: str,
    param: str | None,
) -> None:
    """With OpenAI's status, code and parameter; no provider is called."""
    refused = await client.post(path, json=body)
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (status, code), error
    assert param is None or error["param"] == param
    assert refused.headers.get("retry-after") == ("5" if status == 503 else None)
    assert set(error) == {"message", "type", "param", "code"}
    assert jobs.enqueued == []


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "code"),
    [
        ("POST", R, b"{", 400, "malformed_json"),
        ("POST", R, b'"x"', 400, "invalid_value"),
        ("POST", R, b'{"input": "\\ud800", "model": "demo", "background": true}', 200, None),
        ("GET", f"{R}/resp_nope", b"", 404, "not_found"),
        ("GET", f"{R}/../x", b"", 404, "unknown_url"),
        ("GET", f"{R}/msg_%00", b"", 404, "not_found"),
        ("GET", f"{R}/resp_x?stream=true&starting_after=y", b"", 400, "invalid_value"),
        ("GET", f"{R}/resp_x?stream=true&starting_after=-2", b"", 400, "invalid_value"),
        ("POST", "/v1/embeddings", b"{}", 404, "unknown_url"),
        ("GET", "/v1/models/nope/at/all", b"", 404, "model_not_found"),
        ("GET", "/v1/models/nearby", b"", 503, "model_unavailable"),
    ],
)
async def test_bad_input(
    client: httpx.AsyncClient, method: str, path: str, content: bytes, status: int, code: str | None
) -> None:
    """Answered in this dialect."""
    answer = await client.request(method, path, content=content)
    assert answer.status_code == status, answer.text
    assert code is None or answer.json()["error"]["code"] == code


async def test_foreign_origins_are_refused(client: httpx.AsyncClient) -> None:
    """As under /api."""
    refused = await client.post(R, json={"input": "x"}, headers={"Origin": "https://evil.example"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "foreign_origin")


async def test_a_waiting_client_gets_the_answer(
    client: httpx.AsyncClient, store: Store, log: MemoryLog, jobs: RecordedJobs
) -> None:
    """Or its failure, with the advice not to retry: that was done already."""
    for status, error, expected in (
        ("complete", None, (200, None, None)),
        (
            "error",
            {"code": "rate_limited", "error": "Later.", "retryable": True},
            (429, "rate_limited", "false"),
        ),
        ("cancelled", None, (409, "cancelled", "false")),
    ):
        waiting = asyncio.create_task(
            client.post(C, json={"messages": [{"role": "user", "content": "hi"}]})
        )
        while not jobs.enqueued:
            await asyncio.sleep(0)
        await finish(store, log, jobs.enqueued.pop(), "Hello", status, error=error)
        answer = await waiting
        said = answer.json().get("error", {})
        assert (
            answer.status_code,
            said.get("code"),
            answer.headers.get("x-should-retry"),
        ) == expected
        if status == "complete":
            assert answer.json()["choices"][0]["message"]["content"] == "Hello"


async def test_an_ended_response_is_read_without_redis(
    client: httpx.AsyncClient, store: Store, log: MemoryLog
) -> None:
    """The row is enough, even for a resumed stream."""
    response = await asked(client)
    await finish(store, log, response["id"], "Hello there")
    await log.delete((await store.message(response["id"].removeprefix("resp_"))).conversation_id)
    assert (await client.get(f"{R}/{response['id']}")).json()["output"][0]["content"][0][
        "text"
    ] == "Hello there"
    stream = await client.get(f"{R}/{response['id']}?stream=true&starting_after=5")
    assert stream.headers["content-type"].startswith("text/event-stream")
    events = [block.partition("\n")[0] for block in stream.text.split("\n\n")[:-1]]
    assert events[0] == "event: response.output_text.delta"
    assert events[-1] == "event: response.completed"


async def test_only_responses_can_be_deleted(client: httpx.AsyncClient, store: Store) -> None:
    """An answer in a listed conversation is not deleted by itself."""
    conversation = (await client.post("/api/conversations", json={})).json()
    posted = (
        await client.post(
            f"/api/conversations/{conversation['id']}/messages", json={"content": "hi"}
        )
    ).json()
    refused = await client.delete(f"{R}/resp_{posted['assistant_message']['id']}")
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "not_deletable")
    response = await asked(client)
    assert (await client.delete(f"{R}/{response['id']}")).json()["deleted"] is True
    assert (await client.get(f"{R}/{response['id']}")).status_code == 404


async def test_pages_of_input_items(client: httpx.AsyncClient) -> None:
    """Newest first by default; `after` is an item's id."""
    items = [{"role": "user", "content": f"m{number}"} for number in range(5)]
    response = await asked(client, input=items)
    path = f"{R}/{response['id']}/input_items"
    first = (await client.get(path, params={"limit": 2, "order": "asc"})).json()
    rest = (
        await client.get(path, params={"limit": 9, "order": "asc", "after": first["last_id"]})
    ).json()
    assert [item["content"][0]["text"] for item in first["data"] + rest["data"]] == [
        "m0",
        "m1",
        "m2",
        "m3",
        "m4",
    ]
    assert (first["has_more"], rest["has_more"]) == (True, False)
    assert (await client.get(path, params={"limit": 5})).json()[
        "has_more"
    ] is False  # the page is full, and the last one
    assert (await client.get(path)).json()["data"][0]["content"][0]["text"] == "m4"
    assert (await client.get(path, params={"after": "nope"})).status_code == 400


async def test_chains_do_not_fill_the_disk(
    make_client: MakeClient, store: Store, log: MemoryLog
) -> None:
    """One content limit for all parts of a request, and a followed chain is not written again."""
    async with make_client(max_content_bytes=1024) as client:
        long = "x" * 1025
        for body in (
            {"input": long},
            {"input": [{"role": "user", "content": "é" * 513}]},
            {"input": "x", "instructions": long},
            {"input": "x", "metadata": {"a": long}},
            {
                "input": "x",
                "text": {
                    "format": {"type": "json_schema", "name": "x", "schema": {"description": long}}
                },
            },
        ):
            refused = await client.post(R, json={"model": "demo", "background": True} | body)
            assert (refused.status_code, refused.json()["error"]["code"]) == (
                413,
                "content_too_large",
            )
        refused = await client.post(
            C, json={"model": "demo", "messages": [{"role": "user", "content": long}]}
        )
        assert (refused.status_code, refused.json()["error"]["code"]) == (413, "content_too_large")
        response = await asked(client, input="x" * 1000)
        await finish(store, log, response["id"], "y")
        stored = await stored_bytes(store, "local")
        for _ in range(4):
            response = await asked(client, input="more", previous_response_id=response["id"])
            await finish(store, log, response["id"], "y")
        assert await stored_bytes(store, "local") - stored < 4 * 2048


async def test_a_chain_with_a_deleted_part_is_refused(
    client: httpx.AsyncClient, store: Store, log: MemoryLog
) -> None:
    """A shortened history is never taken for the whole."""
    first = await asked(client, input="One")
    await finish(store, log, first["id"], "Two")
    second = await asked(client, input="Three", previous_response_id=first["id"])
    await finish(store, log, second["id"], "Four")
    assert (await client.delete(f"{R}/{first['id']}")).status_code == 200
    refused = await client.post(
        R, json={"model": "demo", "input": "x", "previous_response_id": second["id"]}
    )
    assert (refused.status_code, refused.json()["error"]["code"]) == (
        400,
        "previous_response_not_found",
    )


async def test_quotas_in_openai_s_form(make_client: MakeClient, store: Store) -> None:
    """429 and 403 with their codes."""
    store.quotas = Quotas(unfinished_per_user=1)
    async with make_client() as client:
        await asked(client)
        refused = await client.post(R, json={"model": "demo", "input": "x"})
        assert (
            refused.status_code,
            refused.json()["error"]["code"],
            refused.headers["retry-after"],
        ) == (429, "too_many_unfinished", "5")
        store.quotas = Quotas(stored_bytes_per_user=1)
        refused = await client.post(R, json={"model": "demo", "input": "x"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "storage_full")


async def test_a_schema_that_a_busy_machine_cannot_check(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenAI's clients try again."""
    monkeypatch.setattr(schemas, "LONGEST_SECONDS", 0.001)
    format_ = {"type": "json_schema", "name": "x", "schema": {"type": "object"}}
    refused = await client.post("/v1/responses", json={"input": "hi", "text": {"format": format_}})
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "unavailable")


async def test_a_schema_that_cannot_be_used_is_refused(client: httpx.AsyncClient) -> None:
    schema = {"type": "json_schema", "name": "x", "schema": {"$ref": "#"}}
    refused = await client.post("/v1/responses", json={"input": "hi", "text": {"format": schema}})
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (400, "invalid_json_schema")
    assert error["message"].startswith("The schema: #")
    format_ = {"type": "json_schema", "name": "x", "schema": {"type": "object"}}
    tools = [{"type": "function", "name": name} for name in ("fine", "broken")]
    tools[1]["parameters"] = {"type": "object", "$ref": "#"}
    body = {"input": "hi", "text": {"format": format_}, "tools": tools}
    refused = await client.post("/v1/responses", json=body)
    assert refused.json()["error"]["message"].startswith("The parameters of broken: #")
