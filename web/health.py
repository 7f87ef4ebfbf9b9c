"""`/healthz` (the process answers), `/readyz` (what it needs can serve), `/metrics`. None of them asks who is calling."""

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from tokenwire.web.api import shapes
from tokenwire.web.problems import ApiProblem, documented
from tokenwire.web.services import With

router = APIRouter()
internals = APIRouter()
"""What tells of the inside. In production not on the port that browsers reach: METRICS_PORT is for that."""


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", summary="Liveness")
async def healthz() -> shapes.Alive:
    """200 as long as the process answers at all."""
    return shapes.Alive(status="ok")


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", responses=documented("not_ready"), summary="Readiness")
async def readyz(services: With) -> shapes.Alive:
    """200 when the database (at this revision or a newer one) and Redis (which evicts nothing) take writes; else 503 with what is wrong."""
    checks = await services.readiness.checks()
    if any(found != "ok" for found in checks.values()):
        raise ApiProblem("not_ready", "Something that is needed is not there yet.", checks=checks)
    return shapes.Alive(status="ok")


@internals.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}},
    summary="Prometheus metrics",
)
async def metrics(services: With) -> Response:
    """Counts of this process since it started."""
    return Response(services.metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})
