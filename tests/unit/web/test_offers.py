"""web.offers: which models can be used now."""

import asyncio

import httpx
import pytest

from config.catalogue import parse
from web import offers
from web.offers import Offers
from web.problems import ApiProblem


def listing(port: int) -> Offers:
    models = {"demo": {"provider": "demo"}, "nearby": {"provider": "llamacpp", "base_url": f"http://127.0.0.1:{port}/v1"}}
    return Offers(parse({"default": "demo", "models": models}, {}))


async def test_a_local_server_is_offered_while_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tried before the first request, and again and again in the background."""
    monkeypatch.setattr(offers, "INTERVAL_SECONDS", 0.01)
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    offered = listing(server.sockets[0].getsockname()[1])
    await offered.probe()
    watching = asyncio.create_task(offered.watch())
    assert offered.names() == ["demo", "nearby"]
    assert offered.require("nearby") == "nearby"
    server.close()
    await server.wait_closed()
    async with asyncio.timeout(10):
        while "nearby" in offered.names():
            await asyncio.sleep(0.01)
    with pytest.raises(ApiProblem) as refused:
        offered.require("nearby")
    assert (refused.value.code, refused.value.members) == ("unknown_model", {"offered": ["demo"]})
    watching.cancel()


async def test_nothing_is_tried_where_nothing_is_local() -> None:
    """A catalogue without local servers offers what it holds."""
    offered = Offers(parse({"models": {"demo": {"provider": "demo"}}}, {}))
    await offered.probe()
    assert offered.require(None) == "demo"


async def test_the_page_can_list_them(client: httpx.AsyncClient) -> None:
    """The default first."""
    assert (await client.get("/api/models")).json() == {"default": "demo", "models": [{"name": "demo"}, {"name": "second"}]}
