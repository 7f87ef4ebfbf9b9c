"""`/healthz` (the process answers), `/readyz` (what it needs answers too), `/metrics`. None of them asks who is calling."""

import asyncio
from collections.abc import Awaitable
from typing import Protocol, cast

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from models.errors import StoreError
from models.migrations import HEAD
from streams import ports
from web import shapes
from web.problems import ApiProblem, documented
from web.services import Services, With

router = APIRouter()

PATIENCE_SECONDS = 2.0
"""A service that answers later than this is not ready."""


class _Checked(Protocol):
    """A log that can say what is wrong with its server (None: nothing)."""

    async def check(self) -> str | None: ...


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", summary="Liveness")
async def healthz() -> shapes.Alive:
    """200 as long as the process answers at all."""
    return shapes.Alive(status="ok")


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", responses=documented("not_ready"), summary="Readiness")
async def readyz(services: With) -> shapes.Alive:
    """200 when the database is at the right revision, and Redis answers and evicts nothing; else 503 with what is wrong."""
    database, redis = await asyncio.gather(_judged(_database(services)), _judged(_redis(services)))
    checks = {"database": database, "redis": redis}
    if any(found != "ok" for found in checks.values()):
        raise ApiProblem("not_ready", "Something that is needed is not there yet.", checks=checks)
    return shapes.Alive(status="ok")


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}}, summary="Prometheus metrics")
async def metrics(services: With) -> Response:
    """Counts of this process since it started."""
    return Response(services.metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _judged(check: Awaitable[str | None]) -> str:
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await check or "ok"
    except (StoreError, ports.LogError, TimeoutError):
        return "does not answer"


async def _database(services: Services) -> str | None:
    revision = await services.store.revision()
    return None if revision == HEAD else f"at revision {revision}, needs {HEAD} (python -m models.migrate)"


async def _redis(services: Services) -> str | None:
    return await cast("_Checked", services.log).check()
