"""The proxy causes each fault, and nothing else."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.listening import closing, listening
from tests.servers.faultproxy import FaultProxy, fault_proxy

BODY = bytes(range(256)) * 40


@pytest.fixture
async def proxy() -> AsyncIterator[FaultProxy]:
    """A proxy in front of a server that answers each line with BODY and then closes."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.readline():
            writer.write(BODY)

    async with listening(answer) as server, fault_proxy("127.0.0.1", server.port) as running:
        yield running


async def _ask(proxy: FaultProxy) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    async with closing(writer):
        writer.write(b"go\n")
        return await reader.read(-1)


async def test_without_faults_everything_passes(proxy: FaultProxy) -> None:
    """Byte for byte, then the server's own end."""
    assert await _ask(proxy) == BODY
    assert proxy.connections == 1


async def test_slices_change_nothing_but_the_pieces(proxy: FaultProxy) -> None:
    """Seven bytes at a time are still the same bytes."""
    proxy.faults.slice_bytes = 7
    assert await _ask(proxy) == BODY


async def test_a_clean_cut_comes_after_exactly_that_many_bytes(proxy: FaultProxy) -> None:
    """FIN: the client sees a short answer and no error."""
    proxy.faults.cut_after_bytes, proxy.faults.cut_by = 100, "fin"
    assert await _ask(proxy) == BODY[:100]


async def test_a_reset_is_an_error(proxy: FaultProxy) -> None:
    """RST: the client's read fails."""
    proxy.faults.cut_after_bytes = 100
    with pytest.raises(ConnectionResetError):
        await _ask(proxy)


async def test_refused_connections_are_reset(proxy: FaultProxy) -> None:
    """Nothing reaches the server."""
    proxy.faults.refuse = True
    with pytest.raises(ConnectionResetError):
        await _ask(proxy)


async def test_a_blackhole_sends_nothing(proxy: FaultProxy) -> None:
    """The connection is open and no byte comes; cut() ends it."""
    proxy.faults.blackhole = True
    asking = asyncio.create_task(_ask(proxy))
    done, _ = await asyncio.wait({asking}, timeout=0.2)
    assert not done
    proxy.cut()
    with pytest.raises(ConnectionResetError):
        await asking


async def test_a_rate_takes_its_time(proxy: FaultProxy) -> None:
    """10,240 bytes at 40,960 bytes per second are a quarter of a second."""
    proxy.faults.bytes_per_second = 4 * len(BODY)
    began = asyncio.get_running_loop().time()
    assert await _ask(proxy) == BODY
    assert asyncio.get_running_loop().time() - began >= 0.24
