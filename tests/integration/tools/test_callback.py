"""HTTP tools against a scripted server: what it gets, and what each of its answers means."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from standardwebhooks import Webhook
from structlog.testing import capture_logs

from tests.integration.providers.wire import Exchange, Script, serving
from tests.listening import listening
from tokenwire.config.terms import ToolTerms
from tokenwire.providers.spec import ToolSpec
from tokenwire.worker.tools import callback
from tokenwire.worker.tools.callback import LOST, REFUSED, UNREACHABLE, Callbacks, signed
from tokenwire.worker.tools.context import ToolContext
from tokenwire.worker.tools.executor import (
    HIDDEN,
    LATE,
    CallDone,
    CallFailed,
    CallOutcome,
    CallUnknown,
    Executor,
)

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
CONTEXT = ToolContext("0e3c0d6e-key", "ann", "conversation", "message", 2)


@pytest.fixture
async def executor() -> AsyncIterator[Executor]:
    opened = Executor(ToolTerms())
    yield opened
    await opened.close()


async def call(
    executor: Executor,
    url: str,
    seconds: float = 10,
    callbacks: Callbacks | None = None,
    secrets: Sequence[str] = (),
    **more: Any,
) -> CallOutcome:
    """One call of a tool at this address."""
    spec = ToolSpec(
        name="order",
        url=url,
        description="Order it.",
        parameters={"type": "object"},
        secret=SECRET,
        seconds=seconds,
        **more,
    )
    tool = (callbacks or Callbacks()).tool(spec, secrets)
    arguments = tool.reader.read('{"item": "h\u00e9", "context": 1}')
    async with executor.reserve(tool, "me") as place:
        return await place.run(arguments, ToolContext("k") if not more else CONTEXT, lambda: True)


def whole(data: bytes, status: int = 200, kind: str = "application/json", **more: str) -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.head(status, kind, **more)
        if data:  # an empty chunk would be the last one
            await exchange.send(data)
        await exchange.end()

    return script


async def answered(executor: Executor, script: Script, seconds: float = 10) -> CallOutcome:
    async with serving(script) as server:
        outcome = await call(executor, server.url, seconds)
        assert len(server.calls) == 1, "a call is sent once"
        return outcome


def test_the_published_example_of_a_signature() -> None:
    """Of the specification's own libraries."""
    key, body = callback.signing_key(SECRET), b'{"test": 2432232314}'
    assert signed(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body) == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


async def test_what_the_service_gets(executor: Executor) -> None:
    """Another implementation verifies it."""
    async with serving(whole(b"{}")) as server:
        await call(executor, f"{server.url}/tools?x=1", headers={"authorization": "Bearer own"})
    [sent] = server.calls
    data = Webhook(SECRET).verify(sent.body, sent.headers)
    assert data.pop("timestamp").endswith("Z")
    assert data == {
        "type": "tool.call",
        "data": {
            "name": "order",
            "arguments": {"item": "hé", "context": 1},
            "key": "0e3c0d6e-key",
            "run": 2,
            "user_id": "ann",
            "conversation_id": "conversation",
            "message_id": "message",
        },
    }
    assert (sent.method, sent.path) == ("POST", "/tools?x=1")
    assert sent.headers["webhook-id"] == "0e3c0d6e-key"
    assert sent.headers["authorization"] == "Bearer own"
    assert sent.headers["content-type"] == "application/json"


async def test_what_it_was_given_is_not_passed_on(executor: Executor) -> None:
    """Not as a result, nor as the sentence of a refusal."""
    data = {"error": "you sent: authorization: Bearer hunter2", "hunter2": 5}
    hidden = "you sent: authorization: Bearer [redacted]"
    for status, outcome in (
        (200, CallDone({"error": hidden, "[redacted]": 5})),
        (400, CallFailed(hidden)),
    ):
        async with serving(whole(json.dumps(data).encode(), status)) as server:
            assert await call(executor, server.url, secrets=["hunter2"]) == outcome


UNKNOWN = "The tool answered with the status {}. It is not known whether the call took effect."


@pytest.mark.parametrize(
    ("data", "kind", "result"),
    [
        (b'{"a": [1, null]}', "application/json; charset=utf-8", {"a": [1, None]}),
        (b'"x"', "application/problem+json", "x"),
        (b"", "application/json", None),
        (b"  \n", "text/plain", None),
        (b"5", "text/plain", "5"),
        (b"<p>h\xc3\xa9</p>", "text/html", "<p>hé</p>"),
        (b"{'a': 1}", "application/json", "{'a': 1}"),
        (b"NaN", "application/json", "NaN"),
    ],
)
async def test_results(executor: Executor, data: bytes, kind: str, result: Any) -> None:
    """JSON is a value; anything else, and JSON that does not parse, is a text."""
    assert await answered(executor, whole(data, 201, kind)) == CallDone(result)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n\xff", "image/png"),
        (b"\xff\xfe", "application/json"),
        (b"[" * 100 + b"]" * 100, "application/json"),
        (b"[" * 9000 + b"]" * 9000, "application/json"),
    ],
)
async def test_results_that_cannot_be_shown(executor: Executor, data: bytes, kind: str) -> None:
    """The tool took effect all the same."""
    assert await answered(executor, whole(data, 200, kind)) == CallFailed(HIDDEN)


async def test_of_a_huge_result_only_the_beginning_is_read(executor: Executor) -> None:
    sent = 0

    async def script(exchange: Exchange) -> None:
        nonlocal sent
        await exchange.head(200, "application/json")
        for _ in range(50):
            await exchange.send(b"[" + b"1, " * 349_525)
            sent += 1

    outcome = await answered(executor, script)
    assert isinstance(outcome, CallDone)
    assert outcome.result["truncated"] is True
    assert outcome.result["text"].startswith("[1, 1, ")
    assert len(outcome.result["text"]) > 40_000
    assert sent < 25


@pytest.mark.parametrize(
    ("status", "data", "error"),
    [
        (400, b'{"error": "There is no\\nsuch item."}', "There is no such item."),
        (422, b'{"error": "%s"}' % (b"x" * 9000), "x" * 2000),
        (404, b"<h1>no</h1>", REFUSED),
        (403, b'{"error": ""}', REFUSED),
        (403, b'{"error": {"code": 1}}', REFUSED),
        (400, b"[" * 9000, REFUSED),
        (400, b"\xff", REFUSED),
        (410, b"", REFUSED),
    ],
)
async def test_refusals(executor: Executor, status: int, data: bytes, error: str) -> None:
    """With such a status the service says that the call took no effect."""
    assert await answered(executor, whole(data, status)) == CallFailed(error)


@pytest.mark.sampled(5)
@pytest.mark.parametrize("status", [301, 302, 307, 308, 408, 425, 429, 500, 502, 503, 504, 600])
async def test_statuses_that_prove_nothing(executor: Executor, status: int) -> None:
    """No redirect is followed, and nothing is sent again."""
    script = whole(b'{"error": "x"}', status, location="/other")
    assert await answered(executor, script) == CallUnknown(UNKNOWN.format(status))


async def test_connections_that_break(executor: Executor) -> None:
    async def at_once(exchange: Exchange) -> None:
        exchange.cut()

    async def in_the_body(exchange: Exchange) -> None:
        await exchange.head(200, "application/json")
        await exchange.send(b'{"a":')
        exchange.cut()

    async def nonsense(exchange: Exchange) -> None:
        exchange.writer.write(b"HELLO\r\n\r\n")

    for script in (at_once, in_the_body, nonsense, whole(b"x", content_encoding="br")):
        assert await answered(executor, script) == CallUnknown(LOST)


async def test_services_that_hang(executor: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal is one without its sentence, too."""
    monkeypatch.setattr(callback, "ERROR_SECONDS", 0.2)

    async def silent(exchange: Exchange) -> None:
        assert await exchange.left()

    async def in_the_body(exchange: Exchange) -> None:
        await exchange.head(200, "text/plain")
        await exchange.send(b"x")
        assert await exchange.left()

    async def refuses(exchange: Exchange) -> None:
        await exchange.head(400, "application/json")
        await exchange.send(b'{"error":')
        assert await exchange.left()

    for script in (silent, in_the_body):
        began = time.monotonic()
        assert await answered(executor, script, seconds=1) == CallUnknown(LATE)
        assert time.monotonic() - began < 8
    assert await answered(executor, refuses) == CallFailed(REFUSED)


async def test_services_that_are_not_there(executor: Executor) -> None:
    """Refused, an unknown name, and no TLS: nothing was sent, so the call failed."""

    async def no_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 No\r\n\r\n")

    async with listening(no_tls) as listener:
        port = listener.port
        assert await call(executor, f"https://127.0.0.1:{port}/") == CallFailed(UNREACHABLE)
    with capture_logs() as logs:
        assert await call(executor, f"http://127.0.0.1:{port}/?k=secret") == CallFailed(UNREACHABLE)
    [line] = [line for line in logs if line["log_level"] == "warning"]
    assert (line["tool"], line["host"]) == ("order", f"127.0.0.1:{port}")
    assert "secret" not in repr(line)
    assert await call(executor, "http://nowhere.invalid/") == CallFailed(UNREACHABLE)


async def test_no_proxy_no_cookie_no_reuse(
    executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that lives on could break for a reason that is none of the call's."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    connections, callbacks = set(), Callbacks()

    async def script(exchange: Exchange) -> None:
        connections.add(exchange.writer.get_extra_info("peername"))
        await exchange.whole(b"1", content_type="application/json", set_cookie="a=b")

    async with serving(script) as server:
        for _ in range(2):
            assert await call(executor, server.url, callbacks=callbacks) == CallDone(1)
    assert len(connections) == 2
    assert all("cookie" not in sent.headers for sent in server.calls)


@pytest.mark.parametrize(
    "secret",
    ["secret", "whsec_", "whsec_???", "whsec_c2hvcnQ=", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
)
def test_secrets_of_another_form(secret: str) -> None:
    with pytest.raises(ValueError, match="secret: must be whsec_ and the") as refused:
        callback.signing_key(secret)
    assert secret not in str(refused.value).removeprefix("secret: must be whsec_")


async def test_the_client_is_closed_with_its_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []
    whole_close = callback.HttpClient.aclose

    async def close(client: callback.HttpClient) -> None:
        await whole_close(client)
        closed.append(1)

    monkeypatch.setattr(callback.HttpClient, "aclose", close)
    executor = Executor(ToolTerms())
    async with serving(whole(json.dumps(1).encode())) as server:
        assert await call(executor, server.url) == CallDone(1)
    assert closed == []
    await executor.close()
    assert closed == [1]
