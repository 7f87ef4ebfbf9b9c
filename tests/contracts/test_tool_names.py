"""What workers report about their tools, on Valkey."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.valkey import Valkey
from tokenwire.streams import tool_names as module
from tokenwire.streams.tool_names import ReportedTools, keep


@pytest.fixture
async def names(valkey_url: str) -> AsyncIterator[ReportedTools]:
    opened = ReportedTools(valkey_url)
    yield opened
    await opened.aclose()


async def test_workers_report_what_others_read(names: ReportedTools, valkey_url: str) -> None:
    """All of them together; a worker without tools takes none away."""
    assert await names.read() == {}
    await names.report({"pay": False, "pick": True})
    second = ReportedTools(valkey_url)
    await second.report({"add": False})
    await second.report({})
    await second.aclose()
    assert await names.read() == {"pay": False, "pick": True, "add": False}


async def test_what_nobody_reports_any_more_is_forgotten(
    names: ReportedTools, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By readers at once, and on the server with the next report."""
    monkeypatch.setattr(module, "LIFE_SECONDS", 1)
    await names.report({"old": False, "kept": False})
    async with asyncio.timeout(10):
        while await names.read():
            await asyncio.sleep(0.1)
    await names.report({"kept": False})
    monkeypatch.setattr(module, "LIFE_SECONDS", 60)
    assert await names.read() == {"kept": False}


async def test_an_outage_ends_nothing(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked again until the server is back; a worker reports again."""
    monkeypatch.setattr(module, "INTERVAL_SECONDS", 0.05)
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.3)
    names = ReportedTools(valkey.url)
    tried = 0

    async def report() -> None:
        nonlocal tried
        tried += 1
        await names.report({"pay": False})

    async with asyncio.timeout(20):
        reporting = asyncio.create_task(keep(report))
        while not await names.read():
            await asyncio.sleep(0.05)
        valkey.stop()
        before = tried
        while tried < before + 3:
            await asyncio.sleep(0.05)
        assert not reporting.done()
        valkey.restart(lose_data=True)
        found = dict[str, bool]()
        while not found:
            await asyncio.sleep(0.05)
            try:
                found = dict(await names.read())
            except module.redis.RedisError:
                continue
    reporting.cancel()
    await names.aclose()
    assert found == {"pay": False}
