"""The section `mcp` of the catalogue: MCP servers."""

from pathlib import Path
from typing import Any

import pytest

from tokenwire.providers.catalogue import CatalogueError, parse, variables_of

URL = {"url": "https://${HOST}/mcp"}


def with_server(called: str = "shop", **keys: Any) -> dict[str, Any]:
    """A document with this server."""
    return {"models": {"m": {"provider": "demo"}}, "mcp": {called: keys}}


def test_an_entry_with_an_address() -> None:
    """Without a word of the catalogue every call needs approval, and none is repeated."""
    entry = with_server(**URL, headers={"authorization": "Bearer ${TOKEN}"})
    found = parse(entry, {"HOST": "shop", "TOKEN": "hunter2"})
    server = found.mcp["shop"]
    assert (server.name, server.url, server.prefix) == ("shop", "https://shop/mcp", "shop_")
    assert server.headers == {"authorization": "Bearer hunter2"}
    assert (server.needs_approval("any"), server.may_repeat("any")) == (True, False)
    assert (server.tools, server.seconds, server.identity) == (None, None, False)
    assert set(found.secrets) == {"hunter2", "Bearer hunter2"}
    assert "hunter2" not in repr(server)
    assert parse({"models": {"m": {"provider": "demo"}}, "mcp": None}, {}).mcp == {}


def test_an_entry_with_a_command() -> None:
    entry = with_server(
        command="${HOME}/bin/server",
        args=["--all", "${WHAT}"],
        env={"API_KEY": "${KEY}", "PLACE": "x"},
    )
    found = parse(entry, {"HOME": "/h", "WHAT": "w", "KEY": "hunter2"})
    server = found.mcp["shop"]
    assert (server.command, server.args) == ("/h/bin/server", ["--all", "w"])
    assert server.env == {"API_KEY": "hunter2", "PLACE": "x"}
    assert found.secrets == ["hunter2"]
    assert "hunter2" not in repr(server)


@pytest.mark.parametrize(
    ("keys", "secret"),
    [
        ({"url": "https://h/${SHOP_TOKEN}/mcp"}, "hunter2"),
        ({"url": "https://h/mcp?api_key=s%2Fcret"}, "s/cret"),
        ({"url": "https://h/mcp?api_key=s%2Fcret"}, "s%2Fcret"),
        ({"command": "x", "args": ["--api-key", "s3cret"]}, "s3cret"),
        ({"command": "x", "args": ["--api-key=s3cret"]}, "s3cret"),
        ({"command": "x", "args": ["https://h?x=${SHOP_TOKEN}"]}, "hunter2"),
        ({"command": "x", "env": {"DATABASE": "${SHOP_TOKEN}"}}, "hunter2"),
    ],
)
def test_secrets_anywhere_in_an_entry(keys: dict[str, Any], secret: str) -> None:
    """By the name beside it. Nothing else is one."""
    found = parse(with_server(**keys), {"SHOP_TOKEN": "hunter2"})
    assert secret in found.secrets
    assert secret in found.mcp_secrets["shop"]
    assert secret not in repr(found)
    plain = with_server(command="x", args=["--place", "${PLACE}", "-v", "shop.py"])
    assert parse(plain, {"PLACE": "kitchen"}).secrets == []


def test_what_its_tools_may_do() -> None:
    """All, none, or those that are named."""
    named = parse(
        with_server(url="http://h", tools=["a", "b"], approve=["a"], repeatable=["b"]), {}
    ).mcp["shop"]
    assert [named.needs_approval(tool) for tool in "ab"] == [True, False]
    assert [named.may_repeat(tool) for tool in "ab"] == [False, True]
    all_of_them = parse(with_server(url="http://h", approve=False, repeatable=True), {}).mcp["shop"]
    assert (all_of_them.needs_approval("c"), all_of_them.may_repeat("c")) == (False, True)


@pytest.mark.parametrize("unset", ["HOST", "TOKEN"])
def test_an_entry_that_lacks_a_variable_is_named(unset: str) -> None:
    """The web process reads the file without the secrets. Its other fields are checked."""
    environ = {"HOST": "h", "TOKEN": "t"}
    del environ[unset]
    keys = {**URL, "headers": {"x-key": "${TOKEN}"}}
    found = parse(with_server(**keys), environ)
    assert (found.mcp, found.missing_mcp) == ({}, {"shop": unset})
    with pytest.raises(CatalogueError, match="shop: seconds: "):
        parse(with_server(**keys, seconds=0), environ)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (with_server("a b", url="http://h"), "mcp: a b: name: must be 1 to 32 of A-Z a-z"),
        (with_server("a" * 33, url="http://h"), "name: must be 1 to 32"),
        (with_server(), "mcp: shop: must have either url or command"),
        (with_server(url="http://h", command="x"), "must have either url or command"),
        (with_server(url="shop"), "shop: url: must be an address"),
        (with_server(url="http://h", env={"A": "b"}), "args, env: are for servers with a command"),
        (with_server(command="x", headers={"a": "b"}), "headers: are for servers with a url"),
        (with_server(command="x", args="y"), "shop: args: must be a list"),
        (with_server(url="http://h", approve=["a"]), "approve: a list needs the list tools"),
        (with_server(url="http://h", repeatable=["a"]), "repeatable: a list needs the list tools"),
        (
            with_server(url="http://h", tools=["a"], approve=["b"]),
            "approve: must name tools of the list tools",
        ),
        (with_server(url="http://h", approve="x"), "approve: must be true, false or a list of"),
        (with_server(url="http://h", seconds=3601), "shop: seconds: "),
        (with_server(url="http://h", key="k"), "key: is not a known key (known: url, headers,"),
        (with_server(url="http://h", name="x"), "name: is not a known key"),
        (with_server(url="http://h", headers={"Mcp-Session-Id": "x"}), "what each call sets"),
        (with_server(url="http://h", headers={"Accept": "x"}), "what each call sets itself"),
        ({**with_server(url="http://h"), "mcp": []}, "mcp: must be a mapping"),
    ],
)
def test_mistakes(document: Any, words: str) -> None:
    """One line, without a value."""
    with pytest.raises(CatalogueError) as refused:
        parse(document, {})
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_launcher_knows_which_variables_are_secrets(tmp_path: Path) -> None:
    """Only workers get them."""
    path = tmp_path / "models.yml"
    path.write_text(
        "models: {m: {provider: demo}}\n"
        "mcp:\n"
        "  one: {url: 'http://${HOST}', headers: {a: '${TOKEN}'}}\n"
        "  two: {command: '${PROGRAM}', args: ['${ARG}'], env: {A: '${ENV}'}}\n"
    )
    found = variables_of(path)
    assert [found[name] for name in ("HOST", "PROGRAM")] == [False, False]
    assert [found[name] for name in ("TOKEN", "ARG", "ENV")] == [True, True, True]
