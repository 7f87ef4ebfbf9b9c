"""launcher.environment: which variables each process is given."""

import os
import stat
import sys
from pathlib import Path

import pytest

from tokenwire.config.settings import Settings
from tokenwire.launcher import environment
from tokenwire.launcher.environment import combine, for_kind, kept_key


def test_the_environment_comes_before_the_file_and_defaults() -> None:
    """The environment comes before .env, .env before development's defaults. An empty value counts
    as unset.
    """
    combined = combine(
        {"PORT": "1", "LOG_LEVEL": "", "MODE": ""},
        {"PORT": "2", "LOG_LEVEL": "debug", "WORKERS": "3", "HOST": None},
    )
    assert {
        name: combined.get(name) for name in ("PORT", "LOG_LEVEL", "WORKERS", "MODE", "HOST")
    } == {
        "PORT": "1",
        "LOG_LEVEL": "debug",
        "WORKERS": "3",
        "MODE": "development",
        "HOST": None,
    }


def test_a_short_drain_unless_asked() -> None:
    """Ctrl-C does not wait 25 s unless the setting says so."""
    assert combine({}, {})["DRAIN_SECONDS"] == "1"
    assert combine({"DRAIN_SECONDS": "9"}, {})["DRAIN_SECONDS"] == "9"


def test_commands_are_found_beside_this_python() -> None:
    """`python` and `dramatiq` in the Procfile are those of the virtual environment, whatever PATH
    says.
    """
    assert (
        combine({"PATH": "/usr/bin"}, {})["PATH"]
        == f"{Path(sys.executable).parent}{os.pathsep}/usr/bin"
    )


SECRETS = {
    "DATABASE_URL": "postgresql://u:p@h/d",
    "REDIS_URL": "redis://:p@h",
    "REDIS_PASSWORD": "p",
    "TOKEN_KEY": "t",
    "HOST_JWT_KEY": "j",
    "SENTRY_DSN": "s",
    "OPENAI_API_KEY": "sk-1",
    "PGPASSWORD": "p",
    "HTTPS_PROXY": "http://u:p@proxy",
    "TOOLS_SHOP_KEY": "k",
    "AWS_SECRET_ACCESS_KEY": "nobody's business",
}
CATALOGUE = {"OPENAI_API_KEY": True, "OLLAMA_MODEL": False, "ABSENT": True}
HAS = {
    "web": {
        "DATABASE_URL",
        "REDIS_URL",
        "REDIS_PASSWORD",
        "TOKEN_KEY",
        "HOST_JWT_KEY",
        "PGPASSWORD",
        "OPENAI_API_KEY",
    },
    "broadcaster": {"REDIS_URL", "REDIS_PASSWORD", "TOKEN_KEY"},
    "worker": {
        "DATABASE_URL",
        "REDIS_URL",
        "REDIS_PASSWORD",
        "SENTRY_DSN",
        "OPENAI_API_KEY",
        "PGPASSWORD",
        "HTTPS_PROXY",
        "TOOLS_SHOP_KEY",
    },
    "redis": {"REDIS_PASSWORD"},
    "migrate": {"DATABASE_URL", "PGPASSWORD"},
}


@pytest.mark.parametrize("kind", HAS)
def test_each_process_has_the_secrets_that_it_needs(kind: str) -> None:
    """It has no other secret: neither another process's nor any other variable's."""
    assert for_kind(kind, SECRETS, CATALOGUE).keys() & SECRETS.keys() == HAS[kind]


def test_web_knows_that_a_key_is_there_and_not_the_key() -> None:
    """web offers models and never calls them, so it is told only that a key is set. Other variables
    keep their values.
    """
    given = {**SECRETS, "OLLAMA_MODEL": "llama3.2"}
    assert for_kind("worker", given, CATALOGUE)["OPENAI_API_KEY"] == "sk-1"
    assert "sk-1" not in for_kind("web", given, CATALOGUE).values()
    assert for_kind("web", given, CATALOGUE)["OLLAMA_MODEL"] == "llama3.2"


@pytest.mark.parametrize("kind", HAS)
def test_every_process_has_what_is_no_secret(kind: str) -> None:
    """Settings and system variables, but none of `make`'s: a nested `make` would misread them."""
    given = {
        "PORT": "1",
        "PATH": "/bin",
        "LC_ALL": "C",
        "PYTHONPATH": "/x",
        "MAKELEVEL": "1",
        "MAKEFLAGS": "x",
    }
    assert (
        for_kind(kind, given, {}).items()
        >= {"PORT": "1", "PATH": "/bin", "LC_ALL": "C", "PYTHONPATH": "/x"}.items()
    )
    assert not for_kind(kind, given, {}).keys() & {"MAKELEVEL", "MAKEFLAGS"}


@pytest.mark.parametrize("kind", HAS)
def test_no_process_reads_the_file_itself(kind: str) -> None:
    """The file holds secrets of other processes."""
    assert for_kind(kind, {}, {})["ENV_FILE"] == os.devnull


def test_every_secret_setting_has_its_owners() -> None:
    """A new setting that may hold a secret must name the processes that need it."""
    hidden = {
        name
        for name, field in Settings.model_fields.items()
        if not field.repr or "SecretStr" in str(field.annotation)
    }
    assert hidden == set(environment._OWNERS)


def test_the_key_is_made_once(tmp_path: Path) -> None:
    """The key survives a restart and is readable only by its owner."""
    path = tmp_path / "var" / "token.key"
    key = kept_key(path)
    assert len(key) == 64
    assert kept_key(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
