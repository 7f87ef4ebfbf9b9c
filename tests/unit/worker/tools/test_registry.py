"""Which tools an installation has."""

import importlib
import os
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import RootModel

from tokenwire.config.settings import ROOT
from tokenwire.providers.catalogue import Catalogue, parse
from tokenwire.tools import ToolMisuse, client_tool
from tokenwire.worker.tools.definition import ClientTool
from tokenwire.worker.tools.registry import ToolsUnusable, all_tools, load_tools

WEATHER = '''
from tokenwire.tools import tool

@tool
def {name}() -> None:
    """Do it."""
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where modules of the application are; forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return tmp_path


def test_tools_of_modules_by_name(folder: Path) -> None:
    """A package may import them from its modules; the same tool in two modules is one tool."""
    (folder / "twapp").mkdir()
    (folder / "twapp" / "inner.py").write_text(WEATHER.format(name="one"))
    (folder / "twapp" / "__init__.py").write_text("from twapp.inner import one as alias\n")
    (folder / "twother.py").write_text(
        "from twapp.inner import one\nimport json\nx = 1\n" + WEATHER.format(name="two")
    )
    assert load_tools("") == {}
    found = load_tools(" twapp , twother,")
    assert list(found) == ["one", "two"]
    assert found["one"].description == "Do it."


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("x = 1", "TOOLS: twbad has no tools"),
        ("x = 1\n1 / 0", "cannot be imported: ZeroDivisionError: division by zero (PATH:2)"),
        ("import twgone", "ModuleNotFoundError: No module named 'twgone' (PATH:1)"),
        ("x = 1\ny = (", "SyntaxError: '(' was never closed (twbad.py, line 2)"),
        (
            WEATHER.format(name="a") + "a = tool(name='b')(a)" + WEATHER.format(name="b"),
            "TOOLS: twbad.a and twbad.b are both called b",
        ),
        (
            WEATHER.format(name="a").replace("()", "(x)"),
            "ToolMisuse: twbad.a cannot be a tool: parameter x has no type (PATH:4)",
        ),
    ],
)
def test_a_module_that_cannot_be_used(folder: Path, source: str, reason: str) -> None:
    """One line says which, why, and where."""
    path = folder / "twbad.py"
    path.write_text(source)
    with pytest.raises(ToolsUnusable) as refused:
        load_tools("twbad")
    assert reason.replace("PATH", str(path)) in str(refused.value)
    assert str(refused.value).startswith("TOOLS: twbad")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "path", "reason"),
    [
        ("twgone", ["", "/x"], "there is no module twgone in HERE, in PYTHONPATH and what is"),
        ("twgone.tools", ["HERE"], "there is no module twgone in HERE, in PYTHONPATH and what is"),
        ("twapp.tools", ["HERE"], "there is no module twapp.tools in HERE, in PYTHONPATH and"),
        ("twgone", [], "there is no module twgone in PYTHONPATH and what is installed (PYTHONPATH"),
        ("twapp.py", ["HERE"], "it is the name of a file; write twapp"),
        ("twgone/tools.py", ["HERE"], "it is the name of a file; write twgone.tools"),
    ],
)
def test_a_module_that_is_missing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, path: list[str], reason: str
) -> None:
    """What to write, or where it was searched; of paths only the working folder is named."""
    (folder / "twapp").mkdir()
    (folder / "twapp" / "__init__.py").touch()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [entry.replace("HERE", str(folder)) for entry in path])
    importlib.invalidate_caches()
    with pytest.raises(ToolsUnusable) as refused:
        load_tools(name)
    begin = f"TOOLS: {name} cannot be imported: {reason}"
    assert str(refused.value).startswith(begin.replace("HERE", str(folder)))
    assert "/x" not in str(refused.value)


def test_a_module_that_misses_another_one(folder: Path) -> None:
    """The module is there: its own import failed, also of a module inside it."""
    (folder / "twbad.py").write_text("import twbad_gone")
    with pytest.raises(ToolsUnusable, match="ModuleNotFoundError: No module named 'twbad_gone'"):
        load_tools("twbad")


def test_a_worker_with_a_wrong_module_does_not_start(tmp_path: Path) -> None:
    """It ends as for any wrong setting: one line, exit code 78."""
    environ = {
        "PYTHONPATH": str(ROOT),
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "DATABASE_URL": f"sqlite:///{tmp_path}/tokenwire.db",
        "MODE": "development",
        "TOOLS": "twnowhere",
    }
    done = subprocess.run(
        [sys.executable, "-c", "import tokenwire.worker.main"],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == os.EX_CONFIG
    assert done.stderr == (
        "tokenwire: wrong setting: TOOLS: twnowhere cannot be imported: there is no module "
        f"twnowhere in {tmp_path}, in PYTHONPATH and what is installed\n"
    )


SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def _with_tool(environ: Mapping[str, str], **keys: Any) -> Catalogue:
    entry = {
        "url": "http://127.0.0.1:9/",
        "description": "Order it.",
        "parameters": {"type": "object"},
        "secret": "${SECRET}",
    }
    document = {"models": {"m": {"provider": "demo"}}, "tools": {"order": {**entry, **keys}}}
    return parse(document, environ)


def test_tools_of_the_catalogue_stand_beside_those_of_modules(folder: Path) -> None:
    (folder / "twapp.py").write_text(WEATHER.format(name="one"))
    found = all_tools("twapp", _with_tool({"SECRET": SECRET}, title="Order", approve=True))
    assert list(found.fixed) == ["one", "order"]
    tool = found.fixed["order"]
    assert (tool.title, tool.approve, tool.is_async) == ("Order", True, True)
    assert tool.parameters == {"type": "object"}


@pytest.mark.parametrize(
    ("environ", "keys", "reason"),
    [
        ({}, {}, "tools: order needs SECRET, which is not set"),
        ({"SECRET": "hunter2"}, {}, "tools: order: secret: must be whsec_ and the base64 of"),
        (
            {"SECRET": SECRET},
            {"parameters": {"type": "object", "$ref": "#"}},
            "tools: order: parameters: #: the reference leads back to itself",
        ),
    ],
)
def test_tools_of_the_catalogue_that_cannot_be_called(
    environ: Mapping[str, str], keys: Mapping[str, Any], reason: str
) -> None:
    """The worker does not start, and shows no secret."""
    with pytest.raises(ToolsUnusable) as refused:
        all_tools("", _with_tool(environ, **keys))
    assert str(refused.value).startswith(reason)
    assert "hunter2" not in str(refused.value)


def test_a_tool_of_the_catalogue_shares_no_name(folder: Path) -> None:
    (folder / "twapp.py").write_text(WEATHER.format(name="order"))
    with pytest.raises(ToolsUnusable, match="order is a tool of TOOLS, too"):
        all_tools("twapp", _with_tool({"SECRET": SECRET}))


def _with_servers(environ: Mapping[str, str], *names: str, **tools: Any) -> Catalogue:
    servers = {name: {"url": "http://127.0.0.1:9/${PLACE}"} for name in names}
    document = {"models": {"m": {"provider": "demo"}}, "mcp": servers, "tools": tools}
    return parse(document, environ)


def test_servers_of_the_catalogue_are_sources(folder: Path) -> None:
    """Their tools are known later."""
    (folder / "twapp.py").write_text(WEATHER.format(name="shop"))
    found = all_tools("twapp", _with_servers({"PLACE": "x"}, "shop", "shopping"))
    assert list(found.fixed) == ["shop"]
    assert [source.name for source in found.sources] == ["MCP server shop", "MCP server shopping"]
    assert [dict(source.tools) for source in found.sources] == [{}, {}]
    assert [source.tried for source in found.sources] == [False, False]


@pytest.mark.parametrize(
    ("environ", "servers", "reason"),
    [
        ({}, ["shop"], "mcp: shop needs PLACE, which is not set"),
        ({"PLACE": "x"}, ["one"], "mcp: one: the tool one_more has a name of this server"),
        ({"PLACE": "x"}, ["a", "a_b"], "mcp: a: the server a_b has a name of this server's tools"),
    ],
)
def test_servers_that_cannot_be_used(
    folder: Path, environ: Mapping[str, str], servers: list[str], reason: str
) -> None:
    """No server can take the name of another's tool, whatever it lists later."""
    (folder / "twapp.py").write_text(WEATHER.format(name="one_more"))
    with pytest.raises(ToolsUnusable) as refused:
        all_tools("twapp", _with_servers(environ, *servers))
    assert str(refused.value) == reason


def test_without_the_package_the_worker_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line. Without servers in the catalogue nothing needs the package."""
    for name in [*sys.modules]:
        if name == "mcp" or name.startswith(("mcp.", "tokenwire.worker.tools.mcp")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mcp", None)
    assert all_tools("", _with_servers({})).sources == ()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (package,) = extras["optional-dependencies"]["mcp"]
    with pytest.raises(ToolsUnusable, match=rf"^mcp: .*pip install '{package}'$"):
        all_tools("", _with_servers({"PLACE": "x"}, "shop"))


# --- tools of clients, names of models ---

PICK: dict[str, Any] = {"client": True, "description": "Pick.", "parameters": {"type": "object"}}


def catalogue_with(entries: Mapping[str, Any], **model: Any) -> Catalogue:
    return parse({"models": {"m": {"provider": "demo"} | model}, "tools": entries}, {})


def test_tools_of_clients(folder: Path) -> None:
    """Of the catalogue and of modules, with a schema or a pydantic model."""
    (folder / "twclient.py").write_text(
        "from pydantic import BaseModel\nfrom tokenwire.tools import client_tool\n"
        "class Place(BaseModel):\n    near: str\n"
        'ask = client_tool("ask_place", "Ask.", Place, title="Place")\n'
    )
    found = all_tools("twclient", catalogue_with({"pick": PICK | {"title": "Pick one"}})).fixed
    assert list(found) == ["ask_place", "pick"]
    ask, pick = found.values()
    assert isinstance(ask, ClientTool)
    assert isinstance(pick, ClientTool)
    assert (ask.title, ask.runs_at) == ("Place", "client")
    assert ask.parameters["required"] == ["near"]
    assert (pick.title, pick.description, pick.runs_at) == ("Pick one", "Pick.", "client")


@pytest.mark.parametrize(
    ("tool", "words"),
    [
        (PICK | {"parameters": {"type": "string"}}, "tools: pick: parameters: #/type: must be"),
        (PICK | {"parameters": {"type": "object", "$ref": "#"}}, "tools: pick: parameters: #"),
    ],
)
def test_a_client_tool_that_cannot_be_used(tool: Any, words: str) -> None:
    """The worker does not start."""
    with pytest.raises(ToolsUnusable, match=words):
        all_tools("", catalogue_with({"other": PICK, "pick": tool}))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("a b", "Pick.", {"type": "object"}), "the name 'a b' is not"),
        (("pick", " ", {"type": "object"}), "pick has no description"),
        (("pick", "Pick.", {"type": "array"}), "not of the type object"),
        (("pick", "Pick.", RootModel[int]), "not of the type object"),
    ],
)
def test_what_cannot_be_a_client_tool(arguments: Any, words: str) -> None:
    """Whoever declares it learns that at once."""
    with pytest.raises(ToolMisuse, match=words):
        client_tool(*arguments)


def test_two_tools_of_one_name(folder: Path) -> None:
    """Whatever they are."""
    (folder / "twsame.py").write_text(WEATHER.format(name="pick"))
    with pytest.raises(ToolsUnusable, match="tools: pick is a tool of TOOLS, too"):
        all_tools("twsame", catalogue_with({"pick": PICK}))
    (folder / "twtwice.py").write_text(
        WEATHER.format(name="a") + "from tokenwire.tools import client_tool\n"
        'b = client_tool("a", "A.", {"type": "object"})\n'
    )
    with pytest.raises(ToolsUnusable, match=r"twtwice.a and a client tool are both called a"):
        load_tools("twtwice")


def test_a_model_names_tools_that_there_are() -> None:
    """Or the worker does not start: it would offer less than its operator believes."""
    assert all_tools("", catalogue_with({"pick": PICK}, tools=["pick"])).fixed
    assert all_tools("", catalogue_with({}, tools=[])).fixed == {}
    with pytest.raises(ToolsUnusable, match="models: m: tools: there is no tool named pik"):
        all_tools("", catalogue_with({"pick": PICK}, tools=["pick", "pik"]))
