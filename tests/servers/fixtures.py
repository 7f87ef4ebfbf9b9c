"""pytest fixtures of the foreign servers (made known to all tests by tests/conftest.py)."""

from collections.abc import Iterator

import pytest

from tests.servers import aimock, llamacpp, llmock
from tests.servers.service import or_skip


@pytest.fixture(scope="session")
def llamacpp_url() -> Iterator[str]:
    """Base URL (`.../v1`) of a real llama.cpp server with SmolLM2-135M-Instruct, for the whole
    session.
    """
    or_skip(llamacpp.install)
    with llamacpp.start() as url:
        yield url


@pytest.fixture(scope="session")
def aimock_installed() -> None:
    """aimock can be started by the test (`aimock.start(fixtures, *options)`)."""
    or_skip(aimock.install)


@pytest.fixture(scope="session")
def llmock_installed() -> None:
    """llmock can be started by the test (`llmock.start(*options)`)."""
    or_skip(llmock.install)
