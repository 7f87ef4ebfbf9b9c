"""Fixtures of end-to-end tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.stack import Stack, running_stack


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running Tokenwire with the demo model, shared by the tests of one file. For other settings: `running_stack(folder, NAME=value)`."""
    with running_stack(tmp_path_factory.mktemp("stack")) as running:
        yield running


@pytest.fixture
def idle_stack(tmp_path: Path) -> Iterator[Stack]:
    """A stack that the test starts, and that is killed if the test leaves it running."""
    stack = Stack(tmp_path, {})
    yield stack
    if stack.process is not None and stack.process.poll() is None:
        stack.stop()
