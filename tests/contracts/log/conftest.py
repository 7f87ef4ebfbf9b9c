"""All kinds of log behave alike: in this process, fakeredis behind TCP, and a real Valkey
server.
"""

import threading
from collections.abc import AsyncIterator, Iterator

import pytest
from fakeredis import TcpFakeServer

from tests.contracts.log.rigs import KINDS, MemoryRig, RedisRig, Rig
from tests.valkey import Valkey


@pytest.fixture(scope="session")
def own_valkey() -> Iterator[Valkey]:
    server = Valkey()
    server.start()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def fake_port() -> Iterator[int]:
    server = TcpFakeServer(("127.0.0.1", 0), server_type="valkey")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(params=KINDS)
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    made: Rig
    if request.param == "memory":
        made = MemoryRig()
    elif request.param == "fakeredis":
        made = RedisRig(request.getfixturevalue("fake_port"), None)
    else:
        server = request.getfixturevalue("own_valkey")
        made = RedisRig(server.port, server)
    yield made
    await made.aclose()
