"""The catalogue: what a file offers, and one clear line for whatever is wrong in it."""

from pathlib import Path
from typing import Any

import pytest

from tokenwire.config.catalogue import (
    PROVIDERS,
    CatalogueError,
    LocalServer,
    load,
    load_from,
    parse,
    variables_of,
)
from tokenwire.config.settings import ROOT
from tokenwire.providers.registry import presets

SHIPPED = ROOT / "config" / "models.yml"


def with_model(**entry: Any) -> dict[str, Any]:
    return {
        "models": {
            "m": {"provider": "openai_compatible", "base_url": "http://127.0.0.1:1/v1", **entry}
        }
    }


def test_the_shipped_file_needs_nothing() -> None:
    """Without any key there is the demo, and it is the default."""
    catalogue = load(SHIPPED, {})
    assert catalogue.default == catalogue.title_model == "demo"
    assert catalogue.offered([]) == ["demo"]
    assert catalogue.models["demo"].continuation == "prefix"


def test_a_key_brings_its_models() -> None:
    """And nothing else; the key itself is in the entry and not in its representation."""
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
    """The catalogue says where to look; who looked says what answered."""
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
    """Its address was written by a person."""
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
    """As in a shell script that exports it in vain."""
    document = {"models": {"a": {"provider": "demo"}, "b": {"provider": "openai"}}}
    assert parse(document, {"OPENAI_API_KEY": ""}).missing == {"b": "OPENAI_API_KEY"}


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
        ({"models": {}}, "no model can be used"),
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
            {"default": "o", "models": {"m": {"provider": "demo"}, "o": {"provider": "openai"}}},
            "default: o needs OPENAI_API_KEY",
        ),
        ({"models": {"m": {}}}, "m: provider: must be a text"),
        ({"models": {"m": {"provider": "opnai"}}}, "m: provider: none is called 'opnai'"),
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
            "m: continuation: must be one of attach, prefix, turn, restart, none",
        ),
        (with_model(stall_seconds=0), "m: stall_seconds: must be more than 0"),
        (with_model(stall_seconds="soon"), "m: stall_seconds: must be a number"),
        (with_model(context_tokens=1.5), "m: context_tokens: must be a whole number"),
        (with_model(context_tokens=True), "m: context_tokens: must be a whole number"),
        (with_model(input_price=-1), "m: input_price: must be a number of at least 0"),
        (with_model(input_price=float("nan")), "m: input_price: must be a number of at least 0"),
        (with_model(headers=["x"]), "m: headers: must be a mapping"),
        (with_model(model=7), "m: model: must be a text"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(document: Any, words: str) -> None:
    """File, model and key are named."""
    with pytest.raises(CatalogueError, match=r"^models\.yml: ") as raised:
        parse(document, {})
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_no_yaml(tmp_path: Path) -> None:
    """One line, with the place."""
    path = tmp_path / "models.yml"
    path.write_text("models: [\n")
    with pytest.raises(CatalogueError, match="not valid YAML") as raised:
        load(path, {})
    assert "\n" not in str(raised.value)
    with pytest.raises(CatalogueError, match="No such file"):
        load(tmp_path / "none.yml", {})


def test_a_process_ends_with_that_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 78, as for settings."""

    class Stub:
        models_file = tmp_path / "none.yml"

    with pytest.raises(SystemExit) as ended:
        load_from(Stub())  # type: ignore[arg-type]  # only this setting is read
    assert ended.value.code == 78
    assert capsys.readouterr().err.startswith("tokenwire: wrong model catalogue: ")


def test_the_facts_are_those_of_the_presets() -> None:
    """What the catalogue knows of providers without loading them is what `providers` says."""
    known = presets()
    assert set(PROVIDERS) == set(known)
    for name, facts in PROVIDERS.items():
        preset = known[name]
        assert facts.key_variable == preset.key_variable, name
        assert facts.address == (preset.base_url if preset.local else None), name
        assert facts.continuation == preset.continuation, name


def test_the_variables_of_a_file_are_known_without_their_values(tmp_path: Path) -> None:
    """Those that it names, and those of the presets; what stands in a key or a header is a key."""
    path = tmp_path / "models.yml"
    path.write_text(
        "models:\n"
        "  a: {provider: openai_compatible, base_url: '${HOUSE_URL}', api_key: '${HOUSE_KEY}', headers: {X-Team: '${TEAM}'}}\n"
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


def test_a_variable_that_is_a_key_somewhere_is_a_key(tmp_path: Path) -> None:
    """Wherever else the file names it, before or after: web would know the key."""
    path = tmp_path / "models.yml"
    house = "{provider: openai_compatible, base_url: 'http://h/v1', api_key: '${HOUSE}'}"
    path.write_text(
        f"models:\n  a: {{provider: ollama, model: '${{HOUSE}}'}}\n  b: {house}\n  c: {{provider: ollama, model: '${{HOUSE}}'}}\n"
    )
    assert variables_of(path)["HOUSE"] is True


def test_what_logs_may_not_show() -> None:
    """Keys, and headers that stand for one."""
    headers = {"Authorization": "Bearer house", "X-Team": "green", "X-Api-Key": "deep"}
    entry = {
        "provider": "openai_compatible",
        "base_url": "http://h/v1",
        "api_key": "sk-1",
        "headers": headers,
    }
    assert parse({"models": {"a": entry}}, {}).secrets == ["sk-1", "Bearer house", "deep"]
