"""A hub over a log and a feed in memory."""

import pytest

from tests.unit.streams.hub.rig import Rig


@pytest.fixture
async def rig() -> Rig:
    made = Rig()
    await made.start()
    return made
