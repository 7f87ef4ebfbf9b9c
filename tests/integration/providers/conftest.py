"""Clients for scripted providers."""

from collections.abc import AsyncIterator

import pytest

from tokenwire.providers.http import HttpClient, Timeouts
from tokenwire.providers.transport import OverAiohttp, OverHttpx, Transport


@pytest.fixture(params=[OverAiohttp, OverHttpx])
def transport(request: pytest.FixtureRequest) -> Transport:
    """Both HTTP transports: the server's, and that of a light install."""
    made: Transport = request.param()
    return made


@pytest.fixture
async def client(transport: Transport) -> AsyncIterator[HttpClient]:
    """A client with short socket timeouts."""
    client = HttpClient(Timeouts(connect=2, read=5), transport=transport)
    yield client
    await client.aclose()


@pytest.fixture
async def server_client() -> AsyncIterator[HttpClient]:
    client = HttpClient(Timeouts(connect=1, read=0.3))
    yield client
    await client.aclose()
