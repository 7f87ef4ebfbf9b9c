"""Clients for scripted providers."""

from collections.abc import AsyncIterator

import pytest

from tokenwire.providers.http import HttpClient, Timeouts


@pytest.fixture
async def client() -> AsyncIterator[HttpClient]:
    """A client with short socket timeouts."""
    client = HttpClient(Timeouts(connect=2, read=5))
    yield client
    await client.aclose()


@pytest.fixture
async def server_client() -> AsyncIterator[HttpClient]:
    client = HttpClient(Timeouts(connect=1, read=0.3))
    yield client
    await client.aclose()
