"""The section `tools` of the catalogue: HTTP tools of the application."""

from pathlib import Path
from typing import Any

import pytest

from tokenwire.providers.catalogue import CatalogueError, parse, variables_of

ENTRY = {
    "url": "https://${HOST}/order",
    "description": "Order ${it}.",
    "parameters": {"type": "object", "properties": {"a": {"pattern": "${A}"}}},
    "secret": "${SECRET}",
}
ENVIRON = {"HOST": "shop", "SECRET": "whsec_c2VjcmV0"}


def with_tool(name: Any = "order", **keys: Any) -> dict[str, Any]:
    """A document with this tool."""
    tool = {key: value for key, value in {**ENTRY, **keys}.items() if value is not ...}
    return {"models": {"m": {"provider": "demo"}}, "tools": {name: tool}}


def test_an_entry() -> None:
    """Variables are expanded in the address, the secret and headers; a schema stays as it is."""
    found = parse(
        with_tool(headers={"x-key": "${SECRET}2", "x-team": "a"}, seconds=5, approve=True), ENVIRON
    )
    tool = found.tools["order"]
    assert (tool.name, tool.url, tool.secret) == (
        "order",
        "https://shop/order",
        "whsec_c2VjcmV0",
    )
    assert (tool.description, tool.parameters) == (ENTRY["description"], ENTRY["parameters"])
    assert (tool.title, tool.repeatable, tool.approve, tool.seconds) == (None, False, True, 5)
    assert found.secrets == ["whsec_c2VjcmV0", "c2VjcmV0", "whsec_c2VjcmV02"]
    assert "c2VjcmV0" not in repr(tool)
    assert parse({"models": {"m": {"provider": "demo"}}, "tools": None}, {}).tools == {}


@pytest.mark.parametrize(
    ("keys", "secret"),
    [
        ({"url": "https://h/${TOKEN}/order"}, "hunter2"),
        ({"url": "https://h/order?api_key=s%2Fcret"}, "s/cret"),
        ({"url": "https://h/order?api_key=s%2Fcret"}, "s%2Fcret"),
        ({"headers": {"x-team": "${TOKEN}"}}, "hunter2"),
        ({"headers": {"Authorization": "Bearer hunter2"}}, "Bearer hunter2"),
        ({"headers": {"Authorization": "Bearer hunter2"}}, "hunter2"),
        ({}, "whsec_c2VjcmV0"),
    ],
)
def test_secrets_anywhere_in_an_entry(keys: dict[str, Any], secret: str) -> None:
    """By the name beside it. Nothing else is one."""
    found = parse(with_tool(**keys), {**ENVIRON, "TOKEN": "hunter2"})
    assert secret in found.secrets
    assert secret in found.tool_secrets["order"]
    assert "hunter2" not in repr(found)
    plain = parse(with_tool(headers={"x-place": "kitchen"}), ENVIRON)
    assert "kitchen" not in plain.secrets


CLIENT: dict[str, Any] = {"models": {"m": {"provider": "demo", "tools": ["pick"]}}}


def test_a_tool_of_clients() -> None:
    """It has no address. A model's entry may name the tools that it uses."""
    tool = {"client": True, "description": "Pick.", "parameters": {"type": "object"}}
    found = parse(CLIENT | {"tools": {"pick": tool}}, {})
    assert (found.tools, found.missing_tools) == ({}, {})
    assert found.client_tools["pick"].description == "Pick."
    assert found.models["m"].tools == ["pick"]
    for wrong, words in (("pick", "m: tools: must be"), (["a b"], "m: tools: 0: must be 1 to 64")):
        with pytest.raises(CatalogueError, match=words):
            parse({"models": {"m": {"provider": "demo", "tools": wrong}}}, {})


@pytest.mark.parametrize("unset", list(ENVIRON))
def test_an_entry_that_lacks_a_variable_is_named(unset: str) -> None:
    """The web process reads the file without the secrets. Its other fields are checked."""
    environ = {name: value for name, value in ENVIRON.items() if name != unset}
    found = parse(with_tool(), environ)
    assert (found.tools, found.missing_tools) == ({}, {"order": unset})
    with pytest.raises(CatalogueError, match="order: seconds: "):
        parse(with_tool(seconds=0), environ)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (with_tool(client=True), "tools: order: url: is not a known key (known: client,"),
        (with_tool(client=5), "tools: order: client: is not a known key"),
        (CLIENT | {"tools": {"pick": {"client": True}}}, "tools: pick: description: is missing"),
        (with_tool(name="a b"), "tools: a b: name: must be 1 to 64 of A-Z a-z 0-9 _ -"),
        (with_tool(name="a" * 65), "name: must be 1 to 64"),
        (with_tool(secret=...), "tools: order: secret: is missing"),
        (with_tool(parameters=...), "order: parameters: is missing"),
        (with_tool(parameters=[]), "order: parameters: must be a mapping"),
        (with_tool(description=" "), "order: description: must not be empty"),
        (with_tool(url="shop"), "order: url: must be an address"),
        (with_tool(url="ftp://shop"), "order: url: must be an address"),
        (with_tool(url="http://u:p@shop"), "order: url: must hold no user name"),
        (with_tool(approve="yes"), "order: approve: must be a valid boolean"),
        (with_tool(seconds=3601), "order: seconds: "),
        (with_tool(name="x", key="k"), "x: key: is not a known key (known: url, description,"),
        ({**with_tool(), "tools": []}, "tools: must be a mapping"),
        (with_tool(headers={"a b": "x"}), "order: headers: must be names and values that HTTP"),
        (with_tool(headers={"a": "x\r\nb: c"}), "order: headers: must be names and values that"),
        (with_tool(headers={"Webhook-Id": "x"}), "order: headers: must not name what each call"),
        (with_tool(headers={"Host": "x"}), "order: headers: must not name what each call"),
    ],
)
def test_mistakes(document: Any, words: str) -> None:
    """One line, without a value."""
    with pytest.raises(CatalogueError) as refused:
        parse(document, ENVIRON)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_launcher_knows_which_variables_are_secrets(tmp_path: Path) -> None:
    path = tmp_path / "models.yml"
    path.write_text(
        "models: {m: {provider: demo}}\n"
        "tools: {t: {url: 'http://${HOST}', secret: '${SECRET}', description: '${IT}'}}\n"
    )
    found = variables_of(path)
    assert (found["HOST"], found["SECRET"], "IT" in found) == (False, True, False)
