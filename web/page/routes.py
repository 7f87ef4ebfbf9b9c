"""The chat page: `/` and the files under `/static`, revalidated on every use so that a deploy shows
at once.
"""

from pathlib import Path

from fastapi import APIRouter, FastAPI
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

STATIC = Path(__file__).parent / "static"
_REVALIDATE = "no-cache"

router = APIRouter(include_in_schema=False)


class _RevalidatedFiles(StaticFiles):
    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = _REVALIDATE
        return response


@router.api_route("/", methods=["GET", "HEAD"])
async def index() -> FileResponse:
    """The page."""
    return FileResponse(STATIC / "index.html", headers={"Cache-Control": _REVALIDATE})


def install(app: FastAPI) -> None:
    """Serve the page and its files."""
    app.include_router(router)
    app.mount("/static", _RevalidatedFiles(directory=STATIC), name="static")
