"""Which provider a catalogue entry opens, how a provider is added, and the commands of the command
line.
"""

import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tokenwire.providers.__main__ import main
from tokenwire.providers.base import InvalidRequest
from tokenwire.providers.dialect import Dialect
from tokenwire.providers.dialects import DIALECTS
from tokenwire.providers.http import HttpClient
from tokenwire.providers.registry import dialects, open_provider, presets, register
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


async def test_a_new_provider_is_one_registration(client: HttpClient) -> None:
    """A preset, and a dialect if the format is new."""
    chat = DIALECTS["openai.chat"]
    register(Dialect("acme.chat", chat.decoder, chat.build))
    register(Preset("acme", "acme.chat", "https://acme.example/v1", "ACME_KEY", auth="x-api-key"))
    try:
        assert open_provider(ModelSpec("m", "acme", "m"), client)
        assert "acme.chat" in dialects()
        assert auth_headers(presets()["acme"], "k") == {"x-api-key": "k"}
    finally:
        del DIALECTS["acme.chat"]
        from tokenwire.providers import registry

        del registry._presets["acme"]


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
