"""The catalogue: what a file offers, and one clear line for each mistake in it."""

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from tokenwire.config.settings import ROOT
from tokenwire.providers.catalogue import (
    CatalogueError,
    LocalServer,
    load,
    load_or_exit,
    parse,
    variables_of,
)
from tokenwire.providers.presets import rung_of
from tokenwire.providers.registry import presets
from tokenwire.providers.spec import ModelSpec

SHIPPED = ROOT / "config" / "models.yml"


def with_model(**entry: Any) -> dict[str, Any]:
    return {
        "models": {
            "m": {"provider": "openai_compatible", "base_url": "http://127.0.0.1:1/v1", **entry}
        }
    }


def test_the_shipped_file_needs_nothing() -> None:
    """Without any key, the demo is offered and is the default."""
    catalogue = load(SHIPPED, {})
    assert catalogue.default == catalogue.title_model == "demo"
    assert catalogue.offered([]) == ["demo"]
    assert rung_of(catalogue.models["demo"]) == "prefix"


def test_a_key_brings_its_models() -> None:
    """Only those. The key is in the entry and not in its representation."""
    catalogue = load(SHIPPED, {"ANTHROPIC_API_KEY": "sk-secret"})
    assert {name for name in catalogue.offered([]) if name.startswith("claude")} == {
        "claude-haiku",
        "claude-sonnet",
    }
    assert "gpt-4o-mini" not in catalogue.models
    assert catalogue.missing["gpt-4o-mini"] == "OPENAI_API_KEY"
    assert catalogue.models["claude-haiku"].api_key == "sk-secret"
    assert "secret" not in repr(catalogue)


def test_every_entry_can_be_used() -> None:
    """With all variables set, each shipped entry has a preset and an address."""
    catalogue = load(SHIPPED, dict.fromkeys(load(SHIPPED, {}).missing.values(), "x"))
    assert not catalogue.missing
    for spec in catalogue.models.values():
        assert spec.provider in presets()


def test_local_servers_are_offered_while_they_answer() -> None:
    """The catalogue names the addresses to probe; the caller passes what answered."""
    catalogue = parse(
        {
            "models": {
                "a": {"provider": "demo"},
                "b": {"provider": "lmstudio"},
                "c": {"provider": "vllm", "base_url": "https://gpu/v1"},
            }
        },
        {},
    )
    usual, named = (
        LocalServer("http://127.0.0.1:1234/v1", "lmstudio", usual=True),
        LocalServer("https://gpu/v1", "vllm", usual=False),
    )
    assert catalogue.local_servers == {"b": usual, "c": named}
    assert catalogue.offered([]) == ["a"]
    assert catalogue.offered([named]) == ["a", "c"]


def test_a_compatible_server_is_always_offered() -> None:
    """A person wrote its address."""
    assert parse(with_model(), {}).offered([]) == ["m"]


def test_variables_are_expanded_everywhere() -> None:
    """Keys, addresses, headers, names."""
    entry = with_model(
        base_url="http://${HOST}/v1",
        api_key="${KEY}",
        headers={"x-team": "${TEAM}"},
        model="${NAME}",
    )
    spec = parse(entry, {"HOST": "gpu:9", "KEY": "k", "TEAM": "t", "NAME": "n"}).models["m"]
    assert (spec.base_url, spec.api_key, spec.headers, spec.model) == (
        "http://gpu:9/v1",
        "k",
        {"x-team": "t"},
        "n",
    )


def test_an_empty_variable_counts_as_unset() -> None:
    """As a shell script exports it without a value."""
    named = {"provider": "ollama", "model": "${OLLAMA_MODEL}"}
    document = {"models": {"a": {"provider": "demo"}, "b": {"provider": "openai"}, "c": named}}
    empty = {"OPENAI_API_KEY": "", "OLLAMA_MODEL": ""}
    assert parse(document, empty).missing == {"b": "OPENAI_API_KEY", "c": "OLLAMA_MODEL"}


def test_defaults() -> None:
    """The model's name is its key, the first model is the default, titles come from the default."""
    catalogue = parse(
        {"models": {"first": {"provider": "demo"}, "second": {"provider": "demo"}}}, {}
    )
    assert (catalogue.default, catalogue.title_model, catalogue.models["first"].model) == (
        "first",
        "first",
        "first",
    )


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (None, "must be a mapping"),
        ([], "must be a mapping"),
        ({"models": []}, "models: must be a mapping"),
        ({"models": {}}, "models: names no model"),
        ({}, "models: is missing"),
        ({"modles": {}}, "modles: is not a known key"),
        (
            {"models": {"m": {"provider": "openai"}}},
            "no model can be used; set one of OPENAI_API_KEY",
        ),
        (
            {"default": "x", "models": {"m": {"provider": "demo"}}},
            "default: no model is called 'x'",
        ),
        (
            {"models": {"m": {"provider": "demo", "fallback": ["m"]}}},
            "m: fallback: no other model is called 'm'",
        ),
        (
            {"models": {"m": {"provider": "demo", "fallback": ["x"]}}},
            "m: fallback: no other model is called 'x'",
        ),
        (
            {"models": {"m": {"provider": "demo", "fallback": "x"}}},
            "m: fallback: must be a list",
        ),
        (
            {"default": "o", "models": {"m": {"provider": "demo"}, "o": {"provider": "openai"}}},
            "default: o needs OPENAI_API_KEY",
        ),
        ({"models": {"m": {}}}, "m: provider: is missing"),
        (
            {"models": {"m": {"provider": "opnai"}}},
            "m: provider: 'opnai' is not known (known: openai, ",
        ),
        ({"models": {"m": {"provider": "openai_compatible"}}}, "m: base_url: is needed"),
        (
            with_model(base_url="https://user:secret@gpu/v1"),
            "m: base_url: must hold no user name or password",
        ),
        (
            with_model(base_url="https://user@gpu/v1"),
            "m: base_url: must hold no user name or password",
        ),
        ({"models": {"m": "demo"}}, "m: must be a mapping"),
        (with_model(base_url="gpu:9"), "m: base_url: must be an address"),
        (with_model(base_url="http://gpu:99999"), "m: base_url: must be an address"),
        (with_model(colour="red"), "m: colour: is not a known key"),
        (
            with_model(continuation="always"),
            "m: continuation: must be 'attach', 'prefix', 'turn', 'restart' or 'none'",
        ),
        (with_model(stall_seconds=0), "m: stall_seconds: must be greater than 0"),
        (with_model(stall_seconds="soon"), "m: stall_seconds: must be a number"),
        (with_model(context_tokens=1.5), "m: context_tokens: must be a whole number"),
        (with_model(context_tokens=True), "m: context_tokens: must be a whole number"),
        (with_model(input_price=-1), "m: input_price: must be greater than or equal to 0"),
        (with_model(input_price=float("nan")), "m: input_price: must be a finite number"),
        (with_model(headers=["x"]), "m: headers: must be a mapping"),
        (with_model(headers={"x": True}), "m: headers: x: must be text"),
        (with_model(headers={"x": " "}), "m: headers: x: must not be empty"),
        (with_model(options={4: 1}), "m: options: 4: each key: must be text"),
        (with_model(model=7), "m: model: must be text"),
        (with_model(model=" "), "m: model: must not be empty"),
        (with_model(name="n"), "m: name: is not a known key (known: provider, model, "),
        (with_model(api_key=5), "m: api_key: must be text"),
        ({"models": {"m": {"provider": None}}}, "m: provider: must be text"),
        ({"models": {"m": {"provider": ["demo"]}}}, "m: provider: must be text"),
        ({"models": {4: {"provider": "demo"}}}, "models: 4: each key: must be text"),
        ({"models": {"m": {4: "demo"}}}, "models: m: 4: each key: must be text"),
        ({"models": {"m": "demo"}}, "models: m: must be a mapping"),
        ({"models": {"m": {"provider": "demo"}}, "default": 4}, "default: must be text"),
        (
            {"models": {"a\nb": {"provider": "demo", "colour\n": "red"}}},
            "models.yml: a b: colour : is not a known key",
        ),
    ],
)
def test_a_mistake_is_reported_in_one_line(document: Any, words: str) -> None:
    """File, model and key are named."""
    with pytest.raises(CatalogueError, match=r"^models\.yml: ") as raised:
        parse(document, {})
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_no_yaml(tmp_path: Path) -> None:
    """One line, with its line number."""
    path = tmp_path / "models.yml"
    path.write_text("models: [\n")
    with pytest.raises(CatalogueError, match="not valid YAML") as raised:
        load(path, {})
    assert "\n" not in str(raised.value)
    with pytest.raises(CatalogueError, match="No such file"):
        load(tmp_path / "none.yml", {})


def test_a_process_ends_with_that_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 78, as for settings."""
    with pytest.raises(SystemExit) as ended:
        load_or_exit(tmp_path / "none.yml", {})
    assert ended.value.code == 78
    assert capsys.readouterr().err.startswith("tokenwire: wrong model catalogue: ")


def test_the_variables_of_a_file_are_known_without_their_values(tmp_path: Path) -> None:
    """Those in the file and in the presets. A variable in a key or a header is a secret."""
    path = tmp_path / "models.yml"
    path.write_text(
        "models:\n"
        "  a: {provider: openai_compatible, base_url: '${HOUSE_URL}', api_key: '${HOUSE_KEY}', "
        "headers: {X-Team: '${TEAM}'}}\n"
        "  b: {provider: ollama, model: '${OLLAMA_MODEL}', options: {nested: ['${DEEP}']}}\n"
        "  c:\n"
    )
    found = variables_of(path)
    assert {
        name: found[name] for name in ("HOUSE_URL", "HOUSE_KEY", "TEAM", "OLLAMA_MODEL", "DEEP")
    } == {
        "HOUSE_URL": False,
        "HOUSE_KEY": True,
        "TEAM": True,
        "OLLAMA_MODEL": False,
        "DEEP": False,
    }
    assert found["OPENAI_API_KEY"] is True


def test_a_variable_that_is_a_key_once_is_always_a_key(tmp_path: Path) -> None:
    """Wherever else the file names it; otherwise web would learn the key."""
    path = tmp_path / "models.yml"
    house = "{provider: openai_compatible, base_url: 'http://h/v1', api_key: '${HOUSE}'}"
    path.write_text(
        f"models:\n  a: {{provider: ollama, model: '${{HOUSE}}'}}\n  b: {house}\n  c: "
        f"{{provider: ollama, model: '${{HOUSE}}'}}\n"
    )
    assert variables_of(path)["HOUSE"] is True


def test_what_logs_must_not_show() -> None:
    """Keys, and headers that hold one."""
    headers = {"Authorization": "Bearer house", "X-Team": "green", "X-Api-Key": "deep"}
    entry = {
        "provider": "openai_compatible",
        "base_url": "http://h/v1",
        "api_key": "sk-1",
        "headers": headers,
    }
    assert parse({"models": {"a": entry}}, {}).secrets == ["sk-1", "Bearer house", "deep"]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"provider": "openai", "colour": "red"}, "colour: is not a known key"),
        ({"provider": "openai", "colour": "${COLOUR}"}, "colour: is not a known key"),
        ({"provider": "openai", "api_key": "${KEY}", "stall_seconds": 0}, "stall_seconds: must be"),
        ({"provider": "azure_openai"}, "base_url: is needed"),
        ({"provider": "opnai", "model": "${MODEL}"}, "provider: 'opnai' is not known"),
    ],
)
def test_a_mistake_is_found_without_the_key(entry: dict[str, Any], words: str) -> None:
    """Otherwise the mistake would show only where the key is set."""
    with pytest.raises(CatalogueError, match=f"^models.yml: m: {words}"):
        parse({"models": {"m": entry, "d": {"provider": "demo"}}}, {})


def test_an_address_in_a_variable_may_be_missing() -> None:
    """The variable is named as what enables the model, and nothing else is required."""
    entry = {"provider": "azure_openai", "base_url": "${HOUSE_URL}", "api_key": "${HOUSE_KEY}"}
    catalogue = parse({"models": {"m": entry, "d": {"provider": "demo"}}}, {})
    assert catalogue.missing == {"m": "HOUSE_URL"}


def test_a_key_without_a_value_counts_as_absent() -> None:
    """`headers:` with every line below it commented out."""
    nothing = dict.fromkeys(("headers", "options", "api_key", "stall_seconds", "api"))
    spec = parse(with_model(**nothing), {}).models["m"]
    assert (spec.headers, spec.options, spec.api_key, spec.stall_seconds) == ({}, {}, None, None)


def test_a_header_may_be_a_number() -> None:
    """YAML reads `x-team: 7` as a number."""
    assert parse(with_model(headers={"x-team": 7}), {}).models["m"].headers == {"x-team": "7"}


def test_the_provider_is_not_expanded() -> None:
    """It decides which key is needed, so a variable cannot name it. The line shows no value."""
    with pytest.raises(CatalogueError, match=r"provider: '\$\{KIND\}' is not known") as raised:
        parse({"models": {"m": {"provider": "${KIND}"}}}, {"KIND": "s3cret"})
    assert "s3cret" not in str(raised.value)


def test_a_provider_of_a_plugin_needs_its_api() -> None:
    """Where the plugin is not loaded: its answers would be resumed by an extra turn."""
    entry = {"provider": "acme", "api": "openai.chat", "base_url": "http://acme/v1"}
    assert rung_of(parse({"models": {"m": entry}}, {}).models["m"]) == "turn"


@pytest.mark.parametrize(
    "text",
    [
        "models:\n  m: {provider: demo, api_key: *s3cret}\n",
        "models:\n  m: {provider: demo, api_key: !s3cret x}\n",
        "models:\n  m: {provider: demo, api_key: 's3cret}\n",
        "models:\n  m: {provider: demo}\n   api_key: s3cret\n",
        "models:\n  m: {provider: demo, api_key: s3cret, stall_seconds: s3cret}\n",
        "models:\n  m: {provider: demo, api_key: [s3cret]}\n",
        "models:\n  m: {provider: demo, options: s3cret}\n",
        "models:\n  m: {provider: demo, base_url: 'ftp://s3cret@gpu'}\n",
        "models:\n  m: s3cret\n",
        "s3cret\n",
        "\0s3cret",
    ],
)
def test_no_line_shows_a_value_of_the_file(tmp_path: Path, text: str) -> None:
    """The value may be a key, and the line is logged."""
    path = tmp_path / "models.yml"
    path.write_text(text)
    with pytest.raises(CatalogueError) as raised:
        load(path, {})
    assert "s3cret" not in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1
    assert raised.value.__suppress_context__


@pytest.mark.parametrize(
    "text",
    [
        "models: &a {m: {provider: demo, options: *a}}",
        "models: {m: {provider: demo, options: " + "[" * 2000 + "]" * 2000 + "}}",
        "models: {m: {provider: demo, model: 2026-13-45}}",
        "models: {m: {provider: demo, context_tokens: " + "9" * 5000 + "}}",
        "models: {m: {provider: demo, ? [x] : y}}",
    ],
)
def test_yaml_that_cannot_be_read_gives_one_line(tmp_path: Path, text: str) -> None:
    """A recursive value, endless nesting, or an impossible date."""
    path = tmp_path / "models.yml"
    path.write_text(text)
    for read in (lambda: load(path, {}), lambda: variables_of(path)):
        with pytest.raises(CatalogueError, match=r"models\.yml: "):
            read()


def test_the_documentation_has_every_key() -> None:
    """In the table of docs/providers.md. `name` is the entry's key in the file."""
    text = (ROOT / "docs" / "providers.md").read_text()
    table = text.partition("## The catalogue")[2].partition("## One outcome")[0]
    first = "".join(line.split("|")[1] for line in table.splitlines() if line.startswith("| `"))
    assert set(re.findall("`([a-z_]+)`", first)) == {
        field.name for field in fields(ModelSpec) if field.name != "name"
    }
