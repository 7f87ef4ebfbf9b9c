"""web.offers: which models can be used now."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.serving import serving
from tests.listening import Handler, listening
from tests.unit.web.conftest import RecordedJobs, settings
from tests.waiting import until
from tokenwire.models.store import Store
from tokenwire.providers.catalogue import Catalogue, LocalServer, parse
from tokenwire.streams.log.memory import MemoryLog, MemoryPubSub
from tokenwire.web import local_servers, offers
from tokenwire.web.app import create_app
from tokenwire.web.local_servers import ProbeResult
from tokenwire.web.offers import Offers
from tokenwire.web.problems import ApiProblem


def nearby(port: int) -> Catalogue:
    models = {
        "demo": {"provider": "demo"},
        "nearby": {"provider": "llamacpp", "base_url": f"http://127.0.0.1:{port}/v1"},
    }
    return parse({"default": "demo", "models": models}, {})


def listing(port: int) -> Offers:
    return Offers(nearby(port))


def answering(owner: str) -> Handler:
    """A server with one model of this owner."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"GET /v1/models ")
        body = json.dumps({"object": "list", "data": [{"id": "m", "owned_by": owner}]})
        writer.write(f"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{body}".encode())

    return answer


async def test_a_local_server_is_offered_while_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is probed before the first request and regularly in the background."""
    monkeypatch.setattr(offers, "INTERVAL_SECONDS", 0.01)
    async with listening(answering("llamacpp")) as server:
        port = server.port
        offered = listing(port)
        await offered.probe()
        watching = asyncio.create_task(offered.watch())
        assert offered.names() == ["demo", "nearby"]
        assert offered.require("nearby") == "nearby"
    await until(lambda: "nearby" not in offered.names())
    for name, code in (("nearby", "model_unavailable"), ("nobody", "unknown_model")):
        with pytest.raises(ApiProblem) as refused:
            offered.require(name)
        assert (refused.value.code, refused.value.members) == (code, {"offered": ["demo"]})
    async with listening(answering("llamacpp"), port):
        await until(lambda: "nearby" in offered.names())
        assert offered.require("nearby") == "nearby"
    watching.cancel()


async def test_a_restarting_server_stays_on_offer() -> None:
    """So does one that seemed gone to a paused process. Another server at its address ends the
    offer at once.
    """
    async with listening(answering("llamacpp")) as server:
        port = server.port
        offered = listing(port)
        await offered.probe()
    for handler, there in ((answering("llamacpp"), True), (answering("tokenwire"), False)):
        await offered.probe()
        assert "nearby" in offered.names()
        async with listening(handler, port):
            await offered.probe()
        assert ("nearby" in offered.names()) is there


async def test_a_busy_server_stays_on_offer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model server under load is slow; a server that never answered is not offered."""
    monkeypatch.setattr(local_servers, "ANSWER_SECONDS", 0.05)
    busy = False
    prompt = answering("llamacpp")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if busy:
            await reader.read()
        else:
            await prompt(reader, writer)

    async with listening(answer) as server:
        offered, late = (listing(server.port) for _ in range(2))
        await offered.probe()
        busy = True
        await asyncio.gather(offered.probe(), late.probe())
        assert "nearby" in offered.names()
        assert "nearby" not in late.names()


async def test_a_starting_process_finds_slow_servers(
    monkeypatch: pytest.MonkeyPatch, store: Store, log: MemoryLog, jobs: RecordedJobs
) -> None:
    """On a busy machine the first probe may time out, and a restart would refuse their models."""
    monkeypatch.setattr(local_servers, "ANSWER_SECONDS", 0.05)
    asked, prompt = 0, answering("llamacpp")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        if asked < 3:
            await reader.read()
        else:
            await prompt(reader, writer)

    async with listening(answer) as server:
        recorder: Any = jobs
        found = nearby(server.port)
        app = create_app(settings(), store, log, MemoryPubSub(log), recorder, found)
        async with app.router.lifespan_context(app):
            assert app.state.services.offers.require("nearby") == "nearby"
    assert asked == 3


async def test_a_process_starts_without_absent_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """After some probes; a server that comes later is found in the background."""
    looks = 0

    async def nobody(_server: LocalServer) -> ProbeResult:
        nonlocal looks
        looks += 1
        return ProbeResult.NOBODY

    monkeypatch.setattr(local_servers, "probe", nobody)
    offered = listing(9)
    await offered.probe_until_found()
    assert (offered.names(), looks) == (["demo"], 3)


async def test_only_successive_misses_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server may be missed now and then over days."""
    looks = [
        ProbeResult.MEANT,
        *[ProbeResult.NOBODY, ProbeResult.MEANT] * 5,
        ProbeResult.NOBODY,
        ProbeResult.NOBODY,
    ]

    async def next_look(_server: LocalServer) -> ProbeResult:
        return looks.pop(0)

    monkeypatch.setattr(local_servers, "probe", next_look)
    offered = listing(9)
    while looks:
        await offered.probe()
        assert offered.names() == ["demo", "nearby"]


async def test_tokenwire_is_not_offered_as_a_model_server(tmp_path: Path) -> None:
    """A real one, at an address of the catalogue: it would call itself for ever."""
    log = MemoryLog()
    async with serving(tmp_path, log, MemoryPubSub(log)) as web:
        offered = listing(web.port)
        await offered.probe()
        assert offered.names() == ["demo"]


async def test_without_local_servers_nothing_is_probed() -> None:
    """The catalogue's models are all offered."""
    offered = Offers(parse({"models": {"demo": {"provider": "demo"}}}, {}))
    await offered.probe()
    assert offered.require(None) == "demo"


async def test_the_page_can_list_them(client: httpx.AsyncClient) -> None:
    """The default first."""
    assert (await client.get("/api/models")).json() == {
        "default": "demo",
        "models": [{"name": "demo"}, {"name": "second"}],
    }


def test_a_model_without_its_key_is_named_with_it() -> None:
    """So that the operator sees why a model of the catalogue is missing."""
    entries = {
        "default": "demo",
        "models": {"demo": {"provider": "demo"}, "far": {"provider": "openai", "model": "far"}},
    }
    with pytest.raises(ApiProblem) as refused:
        offers.Offers(parse(entries, {})).require("far")
    assert (refused.value.code, refused.value.members) == ("unknown_model", {"offered": ["demo"]})
    assert "OPENAI_API_KEY" in refused.value.detail
