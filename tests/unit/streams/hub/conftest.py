"""A hub over a log and pub/sub in memory."""

import pytest

from tests.unit.streams.hub.rig import Rig


@pytest.fixture
async def rig() -> Rig:
    made = Rig()
    await made.start()
    return made
