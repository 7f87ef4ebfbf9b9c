"""MCP servers that lie, hang or send nonsense: each has its documented outcome."""

import asyncio
import json
import sys
import tracemalloc
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.integration.providers.wire import Exchange, serving
from tests.integration.tools.mcp_peer import (
    CONTEXT,
    Answer,
    Peer,
    call,
    cut,
    failed,
    hang,
    kept,
    listed,
    raw,
    running,
    text,
    told,
)
from tests.waiting import until
from tokenwire.providers.spec import McpSpec
from tokenwire.worker.tools.callback import LOST, UNREACHABLE
from tokenwire.worker.tools.context import ToolError, UnknownEffect
from tokenwire.worker.tools.mcp import answers, gate, http
from tokenwire.worker.tools.mcp import server as mcp_server
from tokenwire.worker.tools.mcp.server import FORGOTTEN, GONE, ODD, REPORTED, UNREADABLE

MEGABYTE = 1 << 20


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is away is given up soon."""
    monkeypatch.setattr(mcp_server, "WAIT_SECONDS", 0.3)
    monkeypatch.setattr(mcp_server, "CALM_SECONDS", 0.02)
    monkeypatch.setattr(mcp_server, "FIRST_PAUSE", 0.05)


async def outcome(peer: Peer, **more: Any) -> Any:
    """What a call of this peer's tool comes to. It is sent once."""
    async with kept(peer, **more) as (server, _):
        try:
            return await call(server, n=1)
        except (ToolError, UnknownEffect) as error:
            return error
        finally:
            assert len(peer.of("tools/call")) == 1


# --- the list ---


async def test_its_hints_count_for_nothing() -> None:
    """Only the catalogue can free a tool of approval, or declare it safe to repeat."""
    hints = {"readOnlyHint": True, "idempotentHint": True, "destructiveHint": False}
    async with kept(Peer(listed("a", annotations=hints))) as (server, _):
        tool = server.tools["x_a"]
        assert (tool.approve, tool.repeatable) == (True, False)


async def test_the_catalogue_chooses() -> None:
    async with kept(
        Peer(listed("a", "b", "c")), tools=["a", "b", "gone"], approve=["b"], repeatable=["a"]
    ) as (server, _):
        found = {name: (tool.approve, tool.repeatable) for name, tool in server.tools.items()}
    assert found == {"x_a": (False, True), "x_b": (True, False)}


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        (listed("a b"), "'a b': 'x_a b' is not 1 to 64 of"),
        (listed("n" * 63), "is not 1 to 64 of"),
        (listed("\u0000"), "is not 1 to 64 of"),
        (listed("good"), "'good': the server has two tools of this name"),
        (
            [{**listed("r")[0], "inputSchema": {"type": "object", "$ref": "#"}}],
            "'r': its schema cannot be used: #: the reference leads back to itself",
        ),
        (
            [{**listed("r")[0], "inputSchema": {"type": "object", "minProperties": "x"}}],
            "'r': its schema cannot be used: #/minProperties",
        ),
        (
            [{**listed("r")[0], "inputSchema": {"type": "object", "x": "x" * 70_000}}],
            "bytes, and 65536 are allowed",
        ),
    ],
)
async def test_tools_that_are_left_out(entries: list[dict[str, Any]], reason: str) -> None:
    """Each is named, with the reason, once. The others are used."""
    peer = Peer([*listed("good"), *entries])
    with capture_logs() as logs:
        async with kept(peer) as (server, _):
            assert list(server.tools) == ["x_good"]
    [line] = [each for each in logs if "left out" in each["event"]]
    assert line["number"] == 1
    assert reason in line["tools"][0]


async def test_a_description_of_megabytes_is_cut() -> None:
    peer = Peer(listed("a", description="d\u0000" * (MEGABYTE // 4), title="t" * 5000))
    async with kept(peer) as (server, _):
        tool = server.tools["x_a"]
    assert len(tool.description) == answers.MAX_DESCRIPTION_CHARS
    assert "\u0000" not in tool.description
    assert len(tool.title or "") == answers.MAX_TITLE_CHARS


async def test_a_list_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first are used, the others are counted, and no further page is asked for."""
    monkeypatch.setattr(mcp_server, "MAX_LISTED", 130)
    pages = 0

    async def page(exchange: Exchange, message: Mapping[str, Any]) -> None:
        nonlocal pages
        pages += 1
        names = [f"t{pages}_{n}" for n in range(50)]
        await told({"tools": listed(*names), "nextCursor": str(pages)})(exchange, message)

    with capture_logs() as logs:
        async with kept(Peer(answers={"tools/list": page})) as (server, _):
            assert (len(server.tools), pages) == (answers.MAX_TOOLS, 3)
    [line] = [each for each in logs if "left out" in each["event"]]
    assert line["number"] == 31  # of those that were read, and one for the rest
    assert len(line["tools"]) == answers.MAX_REASONS


async def test_pages_without_end_and_without_a_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    """They end at a number, and the server counts as there."""
    monkeypatch.setattr(mcp_server, "MAX_PAGES", 5)
    peer = Peer(answers={"tools/list": told({"tools": [], "nextCursor": "same"})})
    async with kept(peer) as (server, _):
        assert (server.tools, server.tried) == ({}, True)
        assert len(peer.of("tools/list")) == 5


async def test_all_tools_together_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "MAX_LIST_BYTES", 300)
    async with kept(Peer(listed("a", "b", "c", "d"))) as (server, _):
        assert list(server.tools) == ["x_a", "x_b", "x_c"]


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    "answer",
    [
        told({"tools": listed(*(f"t{n}" for n in range(100_000)))}),
        told({"tools": [*listed("a"), {**listed("b")[0], "inputSchema": {"type": "array"}}]}),
        told({"tools": "none"}),
        told([]),
        raw(b"[" * 100_000),
        raw(b"no JSON"),
        failed(-32603, "broken"),
        failed(-32603, "broken", 500),
        cut,
        hang,
    ],
    ids=["huge", "names", "none", "array", "deep", "text", "error", "500", "cut", "hang"],
)
async def test_a_list_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch, answer: Answer) -> None:
    """The server counts as away, and is asked again: then its tools are there."""
    monkeypatch.setattr(mcp_server, "CONNECT_SECONDS", 0.5)
    peer = Peer(answers={"tools/list": answer})
    async with kept(peer) as (server, _):
        assert server.tools == {}
        peer.answers.clear()
        monkeypatch.setattr(mcp_server, "CONNECT_SECONDS", 10)
        await until(lambda: server.tools)
        assert await call(server) == "done"


@pytest.mark.parametrize("answer", [hang, cut, raw(b"{}"), told({}), failed(-32603, "no")])
async def test_a_beginning_that_hangs_or_is_nonsense(
    monkeypatch: pytest.MonkeyPatch, answer: Answer
) -> None:
    monkeypatch.setattr(mcp_server, "CONNECT_SECONDS", 0.5)
    peer = Peer(answers={"initialize": answer})
    async with kept(peer) as (server, _):
        assert (server.tools, server.tried) == ({}, True)
        peer.answers.clear()
        await until(lambda: server.tools)


async def test_a_server_of_the_next_protocol_only() -> None:
    """It has no `initialize`."""
    version = "2026-07-28"
    found = {
        "supportedVersions": [version],
        "capabilities": {"tools": {}},
        "resultType": "complete",
        "ttlMs": 0,
        "cacheScope": "private",
    }
    entries = {"tools": listed("a"), "resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
    done = {"content": [{"type": "text", "text": "new"}], "resultType": "complete"}
    peer = Peer(
        answers={
            "initialize": failed(-32601, "Method not found"),
            "server/discover": told(found),
            "tools/list": told(entries),
            "tools/call": told(done),
        }
    )
    async with kept(peer) as (server, _):
        assert await call(server) == "new"
    [sent] = peer.of("tools/call")
    assert sent["params"]["_meta"]["tokenwire/key"] == "0e3c-key"
    assert sent["headers"]["mcp-protocol-version"] == version


# --- a call ---


async def test_what_the_server_gets() -> None:
    peer = Peer()
    async with kept(peer, headers={"authorization": "Bearer own"}) as (server, _):
        await call(server, n=5)
    [sent] = peer.of("tools/call")
    assert sent["params"]["name"] == "a"
    assert sent["params"]["arguments"] == {"n": 5}
    assert sent["params"]["_meta"] == {"tokenwire/key": "0e3c-key", "tokenwire/run": 2}
    assert sent["headers"]["authorization"] == "Bearer own"
    assert sent["headers"]["accept-encoding"] == "identity"
    assert "cookie" not in sent["headers"]


async def test_the_ids_of_people_go_only_where_the_catalogue_says_so() -> None:
    peer = Peer()
    async with kept(peer, identity=True) as (server, _):
        await call(server)
    [sent] = peer.of("tools/call")
    assert sent["params"]["_meta"] == {
        "tokenwire/key": "0e3c-key",
        "tokenwire/run": 2,
        "tokenwire/user_id": "ann",
        "tokenwire/conversation_id": "conversation",
        "tokenwire/message_id": "message",
    }


@pytest.mark.sampled(8)
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (failed(-32602, "No such tool"), ToolError("No such tool")),
        (failed(-32602, "Wrong", 400), ToolError("Wrong")),
        (failed(-32603, "It\nbroke"), UnknownEffect(REPORTED.format("It broke"))),
        (failed(-32603, "It broke", 500), UnknownEffect(ODD.format(500))),
        (failed(-32000, "Quota exceeded"), UnknownEffect(REPORTED.format("Quota exceeded"))),
        (failed(-1, "x" * MEGABYTE), UnknownEffect(REPORTED.format("x" * 500))),
        (raw(b"-", 404, "text/plain"), ToolError(FORGOTTEN)),
        (raw(b"-", 429, "text/plain"), UnknownEffect(ODD.format(429))),
        (raw(b"-", 502, "text/html"), UnknownEffect(ODD.format(502))),
        (raw(b"-", 202, "text/plain"), UnknownEffect(ODD.format(202))),
        (raw(b"\x89PNG", 200, "image/png"), UnknownEffect(ODD.format(200))),
        (raw(b"\x1f\x8b", content_encoding="gzip"), UnknownEffect(ODD.format(200))),
        (raw(b"\xff\xfe"), UnknownEffect(UNREADABLE)),
        (raw(b'{"jsonrpc": "2.0"}'), UnknownEffect(UNREADABLE)),
        (raw(b"[" * 100_000), UnknownEffect(UNREADABLE)),
        (told({"content": [{"type": "film"}]}), UnknownEffect(UNREADABLE)),
        (told({"content": 5}), UnknownEffect(UNREADABLE)),
        (told([]), UnknownEffect(UNREADABLE)),
        (cut, UnknownEffect(LOST)),
        (told({"content": [], "isError": True}), ToolError("")),
        (
            told({"content": [{"type": "text", "text": "Sold out."}], "isError": True}),
            ToolError("Sold out."),
        ),
        (raw(b"data: nonsense\n\n", kind="text/event-stream"), UnknownEffect(UNREADABLE)),
        (raw(b": nothing\n\n", kind="text/event-stream"), UnknownEffect(LOST)),
    ],
)
async def test_what_an_answer_means(answer: Answer, expected: Exception) -> None:
    """It failed only if the server refused it. Nothing is sent twice."""
    found = await outcome(Peer(answers={"tools/call": answer}))
    assert (type(found), str(found)) == (type(expected), str(expected))


KEY = "hunter2-key"


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (failed(-32602, f"No {KEY}"), ToolError("No [redacted]")),
        (failed(-32603, "x" * 495 + KEY), UnknownEffect(REPORTED.format("x" * 495 + "[reda"))),
        (failed(-32602, f"No {KEY}", 400), ToolError("No [redacted]")),
        (
            told({"content": [{"type": "text", "text": f"No {KEY}"}], "isError": True}),
            ToolError("No [redacted]"),
        ),
        (text(f"key={KEY}"), "key=[redacted]"),
        (
            told({"content": [], "structuredContent": {KEY: [KEY, 5]}}),
            {"[redacted]": ["[redacted]", 5]},
        ),
    ],
)
async def test_what_it_was_given_is_not_passed_on(answer: Answer, expected: Any) -> None:
    """Neither in an error nor in a result, which a model and people read."""
    found = await outcome(Peer(answers={"tools/call": answer}), secrets=[KEY])
    assert (type(found), str(found)) == (type(expected), str(expected))


async def test_what_it_was_given_is_no_part_of_its_tools() -> None:
    """Models and people read titles and descriptions."""
    schema = {"type": "object", "properties": {"a": {"description": f"Not {KEY}"}}}
    named = {
        "name": "a",
        "title": f"Title {KEY}",
        "description": f"Do {KEY}",
        "inputSchema": schema,
    }
    with capture_logs() as logs:
        async with kept(Peer(tools=[named, {**named, "name": f"b{KEY}"}]), secrets=[KEY]) as (
            server,
            _,
        ):
            [found] = server.tools.values()
    assert (found.name, found.title) == ("x_a", "Title [redacted]")
    assert KEY not in repr((found.description, found.parameters, logs))


@pytest.mark.parametrize("status", [404, 405])
async def test_a_server_of_the_older_transport(status: int) -> None:
    """The log says so. Its address answers GET with a stream, and no POST."""
    peer = Peer(answers={"initialize": raw(b"Cannot POST /sse", status, "text/plain")})
    with capture_logs() as logs:
        async with kept(peer, "/sse") as (server, _):
            assert server.tools == {}
    assert http.ELSEWHERE.format(status) in logs[0]["reason"]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_not_followed(status: int) -> None:
    """Neither to another host, which would get the headers, nor to the same."""
    other = Peer()
    async with serving(other.script) as elsewhere:
        for location in (f"{elsewhere.url}/mcp", "/other"):
            answer = raw(b"-", status, "text/plain", location=location)
            found = await outcome(Peer(answers={"tools/call": answer}))
            assert (type(found), str(found)) == (UnknownEffect, ODD.format(status))
        assert elsewhere.calls == []


async def test_fifty_megabytes_are_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither as one answer, nor as an event."""
    monkeypatch.setattr(gate, "BYTES_PER_SECOND", 1 << 40)
    words = json.dumps({"jsonrpc": "2.0", "id": 3, "result": "x" * 50 * MEGABYTE}).encode()
    stream = b"data: " + words + b"\n\n"
    for answer in (raw(words), raw(stream, kind="text/event-stream")):
        tracemalloc.start()
        found = await outcome(Peer(answers={"tools/call": answer}))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert type(found) is UnknownEffect
        assert peak < 25 * MEGABYTE


async def test_an_answer_for_another_request_is_none() -> None:
    """The call waits on, until its time is over."""

    async def wrong(exchange: Exchange, message: Mapping[str, Any]) -> None:
        await told({"content": []})(exchange, {**message, "id": 999_999})

    async with kept(Peer(answers={"tools/call": wrong})) as (server, _):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await call(server)


async def test_a_broken_connection_costs_no_other_call() -> None:
    """Each request has a connection of its own, and the session lives on."""
    begun = asyncio.Event()

    async def by_number(exchange: Exchange, message: Mapping[str, Any]) -> None:
        if message["params"]["arguments"]["n"]:
            return await cut(exchange, message)
        begun.set()
        await asyncio.sleep(0.3)
        return await text("slow")(exchange, message)

    peer = Peer(answers={"tools/call": by_number})
    async with kept(peer) as (server, _):
        slow = asyncio.create_task(call(server, n=0))
        await begun.wait()
        with pytest.raises(UnknownEffect):
            await call(server, n=1)
        assert await slow == "slow"
    assert peer.sessions == 1


async def test_a_bug_of_the_package_costs_one_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its task group breaks. The calls of the session are unknown, and a new session follows."""
    peer, sent = Peer(), http._Connections._sent

    async def buggy(self: Any, request: Any, sending: Any) -> Any:
        if b"tools/call" in request.content and peer.sessions == 1:
            raise RuntimeError("a bug")
        return await sent(self, request, sending)

    monkeypatch.setattr(http._Connections, "_sent", buggy)
    async with kept(peer) as (server, _):
        with pytest.raises(UnknownEffect, match=LOST):
            await call(server)
        await until(lambda: peer.sessions == 2 and peer.of("tools/list")[1:])
        monkeypatch.setattr(mcp_server, "WAIT_SECONDS", 10)
        assert await call(server) == "done"


async def test_a_call_that_cannot_be_sent_has_failed() -> None:
    """Nobody listens any more, and nobody comes back in time."""
    peer = Peer()
    async with AsyncExitStack() as open_for_now:
        listening = await open_for_now.enter_async_context(serving(peer.script))
        async with running(McpSpec(name="x", url=f"{listening.url}/mcp")) as server:
            await open_for_now.aclose()
            with pytest.raises(ToolError, match=UNREACHABLE):
                await call(server)
    assert peer.of("tools/call") == []


async def test_its_requests_are_refused_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the input of a person, for a model, for files. Who asks without end loses the session."""
    monkeypatch.setattr(gate, "MAX_REQUESTS", 20)
    ask = {"jsonrpc": "2.0", "id": "q", "method": "roots/list"}
    flood = b"".join(
        b"data: " + json.dumps({**ask, "id": f"q{n}"}).encode() + b"\n\n" for n in range(5000)
    )
    peer = Peer(answers={"tools/call": raw(flood, kind="text/event-stream")})
    async with kept(peer) as (server, _):
        with pytest.raises(UnknownEffect):
            await call(server)
        refused = [each for each in peer.got if "error" in each]
        assert refused
        assert all("not supported" in each["error"]["message"] for each in refused)
        assert len(refused) <= 20
        await until(lambda: peer.sessions > 1)


async def test_a_stream_that_is_offered_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server may cut the stream of a call, and resume it: for so many times."""
    monkeypatch.setattr(http, "MAX_RESUMED", 3)
    monkeypatch.setattr(http, "STREAM_SECONDS", 0.01)
    first = raw(b"id: 1\nretry: 1\ndata:\n\n", kind="text/event-stream")
    peer, gets = Peer(answers={"tools/call": first}), 0
    scripted = peer.script

    async def script(exchange: Exchange) -> None:
        nonlocal gets
        if exchange.call.method == "GET" and "last-event-id" in exchange.call.headers:
            gets += 1
            return await first(exchange, {})
        return await scripted(exchange)

    peer.script = script  # type: ignore[method-assign]
    async with kept(peer) as (server, _):
        with pytest.raises(UnknownEffect):
            await call(server)
    assert gets == 3


async def test_a_tool_that_is_gone_fails_by_name() -> None:
    """The list changed while an answer held the tool."""
    peer = Peer()
    async with kept(peer) as (server, _):
        tool = server.tools["x_a"]
        changed = b'data: {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}\n\n'
        peer.answers["tools/call"] = raw(changed, kind="text/event-stream")
        peer.tools = listed("b", "c")
        with pytest.raises(UnknownEffect):
            await call(server, "x_b")
        await until(lambda: list(server.tools) == ["x_b", "x_c"])
        with pytest.raises(ToolError, match=GONE):
            await asyncio.create_task(tool.function(context=CONTEXT, arguments={}))


async def test_a_process_that_writes_a_line_without_end() -> None:
    """It is ended, and started again."""
    program = "import sys\nwhile True: sys.stdout.write('x' * 65536)"
    spec = McpSpec(name="x", command=sys.executable, args=["-c", program])
    with capture_logs() as logs:
        async with running(spec) as server:
            assert server.tools == {}
    assert [line["event"] for line in logs] == ["an MCP server is away"]


async def test_a_command_that_does_not_exist() -> None:
    with capture_logs() as logs:
        async with running(McpSpec(name="x", command="/no/such/program")) as server:
            assert server.tools == {}
    assert [line["reason"] for line in logs] == ["FileNotFoundError"]
