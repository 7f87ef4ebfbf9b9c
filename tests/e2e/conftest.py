"""Fixtures of end-to-end tests."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.e2e.browser import running_browser
from tests.e2e.stack import Stack, running_stack
from tests.e2e.stand_in import StandIn


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running Tokenwire with the demo model, shared by a file's tests. Other settings:
    `running_stack(folder, NAME=value)`.
    """
    with running_stack(tmp_path_factory.mktemp("stack")) as running:
        yield running


@pytest.fixture
def idle_stack(tmp_path: Path) -> Iterator[Stack]:
    """A stack that the test starts; it is killed if the test leaves it running."""
    stack = Stack(tmp_path, {})
    yield stack
    if stack.process is not None and stack.process.poll() is None:
        stack.stop()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    """A Chromium, shared by the tests of one file."""
    async with running_browser() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def server() -> AsyncIterator[StandIn]:
    """A server in memory that sends what the test wants."""
    async with StandIn().running() as running:
        running.pause_s = 0.005
        yield running
