"""Fixtures for all tests: foreign servers (`tests/servers`), a shared Valkey (`valkey_url`), and
one that a test may kill (`valkey`).
"""

import gc
from collections.abc import Iterator

import hypothesis
import pytest
import structlog

from tests.ci import pytest_runtest_makereport  # noqa: F401 - hooks are found by name
from tests.databases import (  # noqa: F401 - fixtures are found by name
    counted_right,
    database_url,
    empty_database_url,
    empty_postgres_url,
    own_postgres,
    postgres_copies,
    postgres_server,
    postgres_shape,
    postgres_tables,
    postgres_url,
    sqlite_store,
    store,
)
from tests.disks import disk  # noqa: F401 - fixtures are found by name

# Fixtures are found by name.
from tests.sampling import pytest_collection_modifyitems  # noqa: F401
from tests.servers.fixtures import aimock_installed, llamacpp_url, llmock_installed  # noqa: F401
from tests.statements import share_statements
from tests.valkey import Valkey

hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")
"""A slow example on a busy machine is no failure."""

structlog.dev.ConsoleRenderer.get_active().exception_formatter = structlog.dev.plain_traceback
"""Coloured ones in boxes (structlog has them if `rich` is installed) cost half a second each."""

share_statements()

gc.disable()
"""Until all tests are collected: objects are only made, and nothing is garbage."""


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """pytest's hook: collections of garbage leave alone what stays until the end."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def shared_valkey() -> Iterator[Valkey]:
    """The session's server; use `valkey_url`."""
    server = Valkey()
    server.start()
    yield server
    server.remove()


@pytest.fixture
def valkey_url(shared_valkey: Valkey) -> str:
    """URL of a real Valkey server, empty at the start. Do not stop it: others use it."""
    with shared_valkey.client() as client:
        client.flushall()
    return shared_valkey.url


@pytest.fixture
def valkey() -> Iterator[Valkey]:
    """A real Valkey server for this test, which may kill and restart it."""
    server = Valkey()
    server.start()
    yield server
    server.remove()


@pytest.fixture
def replica(valkey: Valkey) -> Iterator[Valkey]:
    """Another one, a replica of `valkey`."""
    server = Valkey()
    server.start()
    server.follow(valkey)
    yield server
    server.remove()
