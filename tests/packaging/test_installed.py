"""The wheel in use: beside an application with packages of the same names, without the server's
packages, and as a server.
"""

import json
import urllib.request
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.e2e.stack import Stack
from tests.packaging.conftest import Venv
from tests.unit.test_import_name import FOLDERS

THEIRS = """
import config, models, worker, web
from models.user import User
assert (config.NAME, models.NAME, worker.NAME, web.NAME, User.table) == (
    "host", "host", "host", "host", "users")
"""
OURS = """
import sys
from tokenwire.client import Tokenwire
from tokenwire.config.settings import Settings
from tokenwire.models.store import Store
from tokenwire.providers.registry import presets
from tokenwire.web.app import create_app
from tokenwire.worker.enqueue import Jobs
ours = {name.split(".")[1] for name in sys.modules if name.startswith("tokenwire.")}
assert {"client", "config", "models", "providers", "streams", "web", "worker"} <= ours, ours
assert all("/site-packages/" in sys.modules["tokenwire." + name].__file__ for name in ours)
"""

LIGHT = """
import asyncio, importlib.abc, json, sys
class Refusing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in refused:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
refused = set(json.loads(sys.argv.pop()))
sys.meta_path.insert(0, Refusing())
"""


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """An application whose packages have the names of ours."""
    for name in FOLDERS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text('NAME = "host"\n')
    (tmp_path / "models" / "user.py").write_text('class User: table = "users"\n')
    return tmp_path


@pytest.mark.sampled(1)
@pytest.mark.parametrize("code", [THEIRS + OURS, OURS + THEIRS], ids=["theirs first", "ours first"])
def test_beside_a_host_with_the_same_names(venv: Venv, host: Path, code: str) -> None:
    """Both import their own."""
    venv.says(["-c", code], host)


def test_commands_in_a_hosts_folder(venv: Venv, host: Path) -> None:
    """They read nothing from it except `.env`."""
    (host / ".env").write_text("DATABASE_URL=sqlite:///own/tokenwire.db\nMODE=development\n")
    assert "demo" in venv.says(["-m", "tokenwire", "models"], host)
    venv.says(["-m", "tokenwire", "migrate"], host)
    assert (host / "own" / "tokenwire.db").is_file()


def _light() -> set[str]:
    """The distributions of a light install and their dependencies."""
    found, waiting = set(), {"httpx", "msgspec", "pydantic", "PyYAML", "websockets"}
    while waiting:
        name = _plain(waiting.pop())
        found.add(name)
        wanted = [Requirement(line) for line in metadata.requires(name) or ()]
        needed = {
            _plain(each.name)
            for each in wanted
            if each.marker is None or each.marker.evaluate({"extra": ""})
        }
        waiting |= needed - found
    return found


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")


def _refused() -> list[str]:
    """Every installed package that a light install would not bring."""
    light = _light()
    assert len(light) > 8
    refused = [
        name
        for name, owners in metadata.packages_distributions().items()
        if not {_plain(owner) for owner in owners} & light
    ]
    assert {"aiohttp", "dramatiq", "fastapi", "redis", "sqlalchemy", "structlog", "uvicorn"} <= set(
        refused
    )
    return [name for name in refused if name != "tokenwire"]


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    "code",
    [
        (
            "from tokenwire.client import Tokenwire; asyncio.run(Tokenwire('http://"
            "127.0.0.1:9').aclose())"
        ),
        "from tokenwire.aisdk import Writer, body; print(b''.join(body([Writer().start('m')])))",
        "from tokenwire.tools import tool; tool(name='t', description='d')(lambda: None)",
        "from tokenwire.providers import shell; assert shell.list_models(None) == 0",
        "from tokenwire.providers.http import HttpClient; asyncio.run(HttpClient().aclose())",
        "from tokenwire.providers.__main__ import main; assert main(['list']) == 0",
        (
            "from tokenwire.providers.__main__ import main; assert main(['stream', '--provider', "
            "'demo', '!short']) == 0"
        ),
    ],
    ids=["client", "aisdk", "tools", "providers", "http", "list", "stream"],
)
def test_a_light_install_is_enough_for_its_parts(venv: Venv, tmp_path: Path, code: str) -> None:
    """Client, encoder and providers."""
    venv.says(["-c", LIGHT + code, json.dumps(_refused())], tmp_path)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("command", ["run", "web", "worker", "broadcaster", "migrate", "models"])
def test_a_light_install_names_what_is_missing(venv: Venv, tmp_path: Path, command: str) -> None:
    """In one line, with a failing exit code."""
    done = venv.run(
        [
            "-c",
            LIGHT + f"from tokenwire.cli import main; sys.exit(main(['{command}']))",
            json.dumps(_refused()),
        ],
        tmp_path,
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (69, 1), done.stderr
    assert done.stderr.rstrip().endswith("pip install 'tokenwire[server]'")


def test_it_runs_in_an_empty_folder(venv: Venv, tmp_path: Path) -> None:
    """The Procfile, the catalogue, the page and the scripts come with the wheel; everything else is
    created.
    """
    stack = Stack(tmp_path, {"PYTHONPATH": ""})
    stack.start((str(venv.tokenwire), "run"))
    try:
        stack.wait_until_ready()
        conversation = stack.post("/api/conversations", {})["id"]
        stack.post(f"/api/conversations/{conversation}/messages", {"content": "!short"})
        assert stack.eventually(lambda: _last(stack, conversation)["status"] == "complete"), (
            stack.shown
        )
        with urllib.request.urlopen(f"{stack.url}/static/tokenwire.js", timeout=5) as answer:
            assert b"export function subscribe" in answer.read()
    finally:
        assert stack.stop() == 0
    assert {path.name for path in tmp_path.iterdir()} == {"var"}


def _last(stack: Stack, conversation: str) -> dict[str, object]:
    with urllib.request.urlopen(
        f"{stack.url}/api/conversations/{conversation}", timeout=5
    ) as answer:
        last: dict[str, object] = json.load(answer)["messages"][-1]
    return last
