"""Which provider a catalogue entry opens, how a provider is added, and the commands of the command
line.
"""

import inspect
import json
import re
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tokenwire.providers import catalogue
from tokenwire.providers import presets as table
from tokenwire.providers.__main__ import main
from tokenwire.providers.base import InvalidRequest
from tokenwire.providers.dialect import Dialect
from tokenwire.providers.dialects import DIALECTS
from tokenwire.providers.http import HttpClient
from tokenwire.providers.presets import PRESETS
from tokenwire.providers.registry import (
    dialects,
    load_plugins,
    open_provider,
    presets,
    register,
)
from tokenwire.providers.shell import list_models
from tokenwire.providers.spec import ModelSpec, Preset
from tokenwire.providers.stream import HttpProvider, auth_headers


@pytest.fixture
async def client() -> AsyncIterator[HttpClient]:
    client = HttpClient()
    yield client
    await client.aclose()


async def test_every_preset_opens(client: HttpClient) -> None:
    """Given an address where it has none of its own."""
    for name in presets():
        provider = open_provider(ModelSpec("m", name, "m", base_url="http://127.0.0.1:1"), client)
        assert provider.continuation == presets()[name].continuation
        assert provider.stall_seconds == presets()[name].stall_seconds


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (ModelSpec("m", "nobody", "m"), "nobody"),
        (ModelSpec("m", "openai", "m", api="smoke.signals"), "smoke.signals"),
        (ModelSpec("m", "openai_compatible", "m"), "base_url"),
    ],
)
async def test_an_entry_that_cannot_be_opened_is_named(
    client: HttpClient, spec: ModelSpec, words: str
) -> None:
    """One line with the entry and the mistake."""
    with pytest.raises(InvalidRequest, match=f"^m: .*{words}"):
        open_provider(spec, client)


async def test_an_entry_may_change_the_dialect(client: HttpClient) -> None:
    """LM Studio speaks several."""
    provider = open_provider(ModelSpec("m", "lmstudio", "m", api="anthropic.messages"), client)
    assert isinstance(provider, HttpProvider)
    assert provider.dialect.api == "anthropic.messages"


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers is gone behind it."""
    monkeypatch.setattr(table, "_presets", known := dict(PRESETS))
    monkeypatch.setattr(table, "PRESETS", known)
    monkeypatch.setattr(catalogue, "PRESETS", known)
    formats = dict(DIALECTS)
    yield
    DIALECTS.clear()
    DIALECTS.update(formats)


@pytest.mark.usefixtures("tables")
async def test_a_new_provider_is_one_registration(client: HttpClient) -> None:
    """A preset, and a dialect if the format is new."""
    chat = DIALECTS["openai.chat"]
    register(Dialect("acme.chat", chat.decoder, chat.build))
    register(Preset("acme", "acme.chat", "https://acme.example/v1", "ACME_KEY", auth="x-api-key"))
    assert open_provider(ModelSpec("m", "acme", "m"), client)
    assert "acme.chat" in dialects()
    assert auth_headers(presets()["acme"], "k") == {"x-api-key": "k"}


@pytest.mark.usefixtures("tables")
async def test_a_registered_preset_counts_everywhere(client: HttpClient) -> None:
    """Its rung and its key: in the catalogue, for the worker, and in the open provider."""
    register(
        Preset("acme", "openai.chat", "http://127.0.0.1:1", "ACME_KEY", continuation="restart")
    )
    entry = {"models": {"m": {"provider": "acme", "api": "openai.chat"}, "d": {"provider": "demo"}}}
    assert catalogue.parse(entry, {}).missing == {"m": "ACME_KEY"}
    spec = catalogue.parse(entry, {"ACME_KEY": "k"}).models["m"]
    assert (spec.api_key, table.rung_of(spec)) == ("k", "restart")
    assert open_provider(spec, client).continuation == "restart"


@pytest.mark.usefixtures("tables")
async def test_a_preset_may_be_replaced(client: HttpClient) -> None:
    """The later one counts, in every place."""
    register(Preset("openai", "openai.chat", "http://127.0.0.1:1", continuation="prefix"))
    spec = catalogue.parse({"models": {"m": {"provider": "openai"}}}, {}).models["m"]
    assert table.rung_of(spec) == open_provider(spec, client).continuation == "prefix"


@pytest.mark.usefixtures("tables")
async def test_an_unknown_quirk_is_refused_by_name(client: HttpClient) -> None:
    """When plugins are loaded, and when a program opens the provider itself."""
    register(Preset("acme", "openai.chat", "http://127.0.0.1:1", quirks={"prefx": "flag"}))
    for refuse in (load_plugins, lambda: open_provider(ModelSpec("m", "acme", "m"), client)):
        with pytest.raises(
            InvalidRequest, match=r"^acme: .* no quirk 'prefx' \(known: alternate, api_version"
        ):
            refuse()


def test_a_dialect_names_the_quirks_that_it_reads() -> None:
    """Else a preset with one of them would be refused, or one that nobody reads would pass."""
    read = re.compile(r"""quirks(?:\.get\(|\[)"(\w+)"|"(\w+)" in quirks""")
    elsewhere = {  # content.py, stream.py, cost.py
        "openai.chat": {"alternate", "echoes", "output_excludes_reasoning"},
        "ollama.chat": {"alternate"},
    }
    everywhere = {"parameters"}  # parameters.py
    for api, dialect in DIALECTS.items():
        if api == "cohere.chat":  # its requests begin as those of openai.chat
            assert dialect.quirks == DIALECTS["openai.chat"].quirks
            continue
        text = inspect.getsource(sys.modules[dialect.build.__module__])
        found = {name for match in read.findall(text) for name in match if name}
        assert dialect.quirks == found | everywhere | elsewhere.get(api, set()), api


def test_keys_are_sent_as_each_provider_requires() -> None:
    """Bearer, a header of its own, or none."""
    found = {
        name: dict(auth_headers(presets()[name], "k"))
        for name in ("openai", "anthropic", "gemini", "azure_openai", "demo")
    }
    assert found == {
        "openai": {"authorization": "Bearer k"},
        "anthropic": {"x-api-key": "k"},
        "gemini": {"x-goog-api-key": "k"},
        "azure_openai": {"api-key": "k"},
        "demo": {},
    }
    assert auth_headers(presets()["openai"], None) == {}


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    """Models, presets and dialects."""
    code, out, _ = run(capsys, "list")
    assert code == 0
    assert "demo" in out
    assert "anthropic.messages" in out


def test_stream_prints_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    """Text on standard output, the rest on standard error."""
    code, out, err = run(capsys, "stream", "--model", "demo", "!short !fast")
    assert (code, out) == (0, "Hello! 👋 This is the demo model: a script, not a mind.\n")
    assert "Finish" in err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--model", "demo", "!auth"), 1, "AuthenticationFailed"),
        (("--model", "nobody", "hi"), 2, "nobody is not one of"),
        (("--provider", "nobody", "hi"), 2, "no provider is called nobody"),
        (("--provider", "openai", "--base-url", "gpu:9", "hi"), 2, "base_url: must be an address"),
        (
            ("--provider", "openai_compatible", "--base-url", "http://127.0.0.1:9", "hi"),
            1,
            "Unavailable (connect_error)",
        ),
    ],
)
def test_stream_reports_errors(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, words: str
) -> None:
    """One line, and an exit code."""
    found, _, err = run(capsys, "stream", *arguments)
    assert found == code
    assert words in err


def test_a_wrong_catalogue_gives_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """With the file's name."""
    path = tmp_path / "models.yml"
    path.write_text("models: {m: {provider: nobody}}")
    with pytest.raises(SystemExit):
        main(["list", "--models-file", str(path)])
    assert capsys.readouterr().err.count("\n") == 1


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation without the server's packages."""
    monkeypatch.setitem(sys.modules, "tokenwire.config.settings", None)
    monkeypatch.delattr("tokenwire.config.settings")
    monkeypatch.delenv("MODELS_FILE", raising=False)


@pytest.mark.usefixtures("light")
def test_a_light_install_has_no_catalogue_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    """Presets and dialects are still listed; an answer needs `--provider`."""
    code, out, _ = run(capsys, "list")
    assert (code, "Models" in out, "Presets" in out) == (0, False, True)
    assert run(capsys, "stream", "hi") == (2, "", "there is no catalogue here; name a --provider\n")


@pytest.mark.usefixtures("light")
def test_a_light_install_reads_a_given_catalogue(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By an option, or by MODELS_FILE."""
    path = tmp_path / "models.yml"
    path.write_text(
        "models: {house: {provider: demo}, garden: {provider: openai, api_key: '${G}'}}"
    )
    assert "house" in run(capsys, "list", "--models-file", str(path))[1]
    monkeypatch.setenv("MODELS_FILE", str(path))
    code, out, _ = run(capsys, "stream", "!short !fast")
    assert (code, out[:6]) == (0, "Hello!")


def test_decode(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """One JSON object. An error is one, too, and the command succeeds."""
    body = tmp_path / "body"
    body.write_bytes(b'data: {"choices":[{"delta":{"content":"Hi"},"finish_reason":"stop"}]}\n\n')
    code, out, _ = run(capsys, "decode", "--api", "openai.chat", str(body))
    found = json.loads(out)
    assert (code, found["text"], found["finish_reason"], found["complete"], found["error"]) == (
        0,
        "Hi",
        "stop",
        True,
        None,
    )
    code, out, _ = run(
        capsys,
        "decode",
        "--api",
        "openai.chat",
        "--status",
        "429",
        "--header",
        "Retry-After: 3",
        str(body),
    )
    assert json.loads(out)["error"]["retry_after_s"] == 3
    assert run(capsys, "decode", "--api", "openai.chat", str(tmp_path / "none"))[0] == 2


def test_the_list_says_what_needs_an_address(capsys: pytest.CaptureFixture[str]) -> None:
    """The demo model has no server."""
    assert list_models(None) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert lines["demo"].endswith("(needs none)")
    assert lines["openai_compatible"].endswith("(base_url is yours)")
