"""app: a dialect is a folder of `web` and its name in `DIALECTS`."""

from importlib import import_module
from pathlib import Path

import pytest
from fastapi import FastAPI

import tokenwire.web
from tests.unit.web.conftest import MakeApp
from tokenwire.web.app import DIALECTS

WEB = Path(tokenwire.web.__file__).parent


def test_every_folder_with_routes_is_named() -> None:
    """Once. A folder that is forgotten would be served by nobody."""
    assert sorted(DIALECTS) == sorted(found.parent.name for found in WEB.glob("*/routes.py"))


def paths(app: FastAPI) -> set[str]:
    """The paths that an app serves, those that are not documented included."""
    waiting, found = list(app.routes), set[str]()
    while waiting:
        route = waiting.pop()
        if (included := getattr(route, "original_router", None)) is not None:
            waiting += included.routes
        else:
            found.add(getattr(route, "path", ""))
    assert "" not in found
    return found


@pytest.mark.parametrize("name", DIALECTS)
def test_a_named_dialect_is_served(name: str, make_app: MakeApp) -> None:
    """With all of its paths."""
    alone = FastAPI()
    import_module(f"tokenwire.web.{name}.routes").install(alone)
    own = paths(alone) - paths(FastAPI())
    assert own
    assert own <= paths(make_app())
