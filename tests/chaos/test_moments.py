"""Where aimed kills fall."""

import asyncio
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.chaos import moments as module
from tests.chaos.moments import Moments
from tests.chaos.provider import Asked
from tests.chaos.tools import Line

SERVICE = Line("begin", "k", 1, "ring", -7, "m", 101)
LINES = [
    Line("read", "-", 0, "-", 20, "-", 100),
    Line("read", "-", 0, "-", 21, "-", 102),
    Line("begin", "k", 1, "note", 22, "m", 101),
    Line("begin", "k", 1, "send", 23, "m", 101),
    Line("end", "k", 1, "send", 24, "m", 101),
    Line("end", "done", 1, "send", 25, "m", 101),
]


def cluster(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(module, "ports_of", lambda pid, _port: {7} if pid == 31 else {8})
    monkeypatch.setattr(module, "state_of", lambda _url, key: "done" if key == "done" else "failed")
    return SimpleNamespace(workers=lambda: [30, 31], database_url="")


def load(asked: list[Asked]) -> Any:
    return SimpleNamespace(approved={102}, provider=SimpleNamespace(port=1, asked=asked))


@pytest.mark.parametrize(
    ("point", "pid"),
    [("approved", 21), ("began", 23), ("ended", 24), ("stored", 25)],
)
async def test_the_worker_that_is_at_the_point_dies(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, point: str, pid: int
) -> None:
    """Not one that examines a call that nobody approved, or runs another tool, or failed. What was
    written before does not count.
    """
    file = tmp_path / "runs"
    for line in LINES[2:]:
        line.write(file)
    found = asyncio.create_task(Moments(cluster(monkeypatch), load([]), file, {"send"}).next(point))
    await asyncio.sleep(0.02)
    for line in LINES:
        line.write(file)
    assert await found == pid


async def test_the_caller_of_a_service_and_of_the_model(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is found by its connection. A first request is no moment."""
    where, asked = cluster(monkeypatch), [Asked(1, 8, 0, 0.0, again=True)]
    moments = Moments(where, load(asked), tmp_path / "runs", {"ring"})
    began, again = (asyncio.create_task(moments.next(point)) for point in ("began", "asked"))
    await asyncio.sleep(0.02)
    SERVICE.write(tmp_path / "runs")
    asked += [Asked(1, 8, 0, time.monotonic()), Asked(1, 7, 0, time.monotonic(), again=True)]
    assert (await began, await again) == (31, 31)


@pytest.mark.parametrize("point", module.POINTS)
async def test_without_a_moment_nobody_dies(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, point: str
) -> None:
    """The kill is not counted."""
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.05)
    assert (
        await Moments(cluster(monkeypatch), load([]), tmp_path / "runs", {"send"}).next(point)
        is None
    )
