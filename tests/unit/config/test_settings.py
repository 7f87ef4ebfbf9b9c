"""A mistake in the environment is reported in one line that names the variable and hides every
secret.
"""

import re
from pathlib import Path

import pytest
from pydantic import SecretStr

from tokenwire.config.settings import ROOT, Settings, load, table_prefix

KEY = "k" * 32
PRODUCTION = {"REDIS_URL": "redis://cache/0", "TOKEN_KEY": KEY}


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An empty environment in an empty working directory."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)
    return monkeypatch


def _set(environ: pytest.MonkeyPatch, values: dict[str, str]) -> None:
    for name, value in values.items():
        environ.setenv(name, value)


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({}, "REDIS_URL is missing (MODE is production)"),
        ({"REDIS_URL": "redis://cache/0"}, "TOKEN_KEY is missing (MODE is production)"),
        ({**PRODUCTION, "PORT": "eight"}, "PORT: "),
        ({**PRODUCTION, "PORT": "0"}, "PORT: "),
        ({**PRODUCTION, "BROADCASTER_PORT": "8000"}, "PORT and BROADCASTER_PORT are the same"),
        ({**PRODUCTION, "MODE": "test"}, "MODE: "),
        ({**PRODUCTION, "WORKERS": "0"}, "WORKERS: "),
        ({**PRODUCTION, "LEASE_SECONDS": "-1"}, "LEASE_SECONDS: "),
        ({**PRODUCTION, "LEASE_SECONDS": "inf"}, "LEASE_SECONDS: "),
        ({**PRODUCTION, "LOG_MAX_EVENTS": "many"}, "LOG_MAX_EVENTS: "),
        ({**PRODUCTION, "CONCURRENT_POSTS": "drop"}, "CONCURRENT_POSTS: "),
        ({**PRODUCTION, "MODELS_FILE": "absent.yml"}, "MODELS_FILE: no such file: absent.yml"),
        ({**PRODUCTION, "REDIS_URL": "cache:6379"}, "REDIS_URL: must begin with redis://"),
        (
            {**PRODUCTION, "DATABASE_URL": "mysql://host/name"},
            "DATABASE_URL: must begin with sqlite:///",
        ),
        (
            {**PRODUCTION, "BROADCASTER_URL": "https://host"},
            "BROADCASTER_URL: must begin with ws://",
        ),
        (
            {**PRODUCTION, "REDIS_URL": "redis://:s3cret@cache:port/0"},
            "REDIS_URL: the port is invalid",
        ),
        (
            {**PRODUCTION, "DATABASE_URL": "postgresql://me:s3cret@host:70000/x"},
            "DATABASE_URL: the port is invalid",
        ),
        ({**PRODUCTION, "TOKEN_KEY": "short"}, "TOKEN_KEY: shorter than 32 bytes"),
    ],
)
def test_one_line_names_what_is_wrong(
    environ: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    values: dict[str, str],
    line: str,
) -> None:
    """The process exits with code 78 and one line about the first wrong or missing variable."""
    _set(environ, values)
    with pytest.raises(SystemExit) as ended:
        load()
    written = capsys.readouterr().err
    assert ended.value.code == 78
    assert written.startswith(f"tokenwire: wrong setting: {line}")
    assert written.count("\n") == 1


@pytest.mark.parametrize("name", ["TOKEN_KEY", "DATABASE_URL", "REDIS_URL", "PORT"])
def test_a_wrong_value_is_never_shown(
    environ: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """A value may hold a password; the line names only the variable."""
    _set(environ, {**PRODUCTION, name: "hunter2-secret"})
    with pytest.raises(SystemExit):
        load()
    assert "hunter2" not in capsys.readouterr().err


def test_production_has_no_default_database(
    environ: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A web process on a default database file was ready, and empty. A process without a database
    needs no setting.
    """
    _set(environ, PRODUCTION)
    assert load().mode == "production"
    with pytest.raises(SystemExit):
        load(needs=["database_url"])
    assert "DATABASE_URL is missing (MODE is production)" in capsys.readouterr().err


def test_secrets_are_hidden_when_settings_are_printed(environ: pytest.MonkeyPatch) -> None:
    """A settings object in a log line or a traceback shows no key."""
    _set(environ, {**PRODUCTION, "HOST_JWT_KEY": "another-secret-of-thirty-two-bytes!"})
    shown = repr(load())
    assert KEY not in shown
    assert "another-secret-of-thirty-two-bytes!" not in shown


def test_passwords_of_services_are_hidden_when_settings_are_printed(
    environ: pytest.MonkeyPatch,
) -> None:
    """The passwords are inside addresses."""
    values = {
        "REDIS_URL": "redis://:hunter2@cache/0",
        "DATABASE_URL": "postgres://me:hunter3@db/name",
    }
    _set(environ, {**PRODUCTION, **values})
    settings = load()
    assert (settings.redis_url, settings.database_url) == tuple(values.values())
    assert "hunter" not in repr(settings)


def test_the_secrets_of_a_process_are_known(environ: pytest.MonkeyPatch) -> None:
    """Passwords inside addresses count too, encoded and decoded."""
    _set(
        environ,
        {
            **PRODUCTION,
            "REDIS_URL": "redis://:p%40ss@cache/0",
            "DATABASE_URL": "postgres://me:hun:ter3@db/name",
        },
    )
    assert set(load().secrets) == {KEY, "p%40ss", "p@ss", "hun:ter3"}


def test_each_process_says_what_it_needs(environ: pytest.MonkeyPatch) -> None:
    """A worker signs no tokens, so it does not need their key."""
    _set(environ, {"MODE": "production", "REDIS_URL": "redis://cache/0"})
    assert load(needs=["redis_url"]).token_key is None


def test_another_file_may_be_named(environ: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The launcher names an empty file, so that a process reads nothing from `.env` by itself."""
    (tmp_path / ".env").write_text("MODE=development\nPORT=8100\n")
    (tmp_path / "other").write_text("MODE=development\nPORT=8200\n")
    environ.setenv("ENV_FILE", "other")
    assert load().port == 8200
    environ.setenv("MODE", "development")
    environ.setenv("ENV_FILE", "/dev/null")
    assert load().port == 8000


def test_the_embedded_server_has_its_password_in_its_address(environ: pytest.MonkeyPatch) -> None:
    """The password may hold any character."""
    _set(environ, {"MODE": "development", "REDIS_PASSWORD": "a/b@c"})
    assert load().redis == "redis://:a%2Fb%40c@127.0.0.1:6390/0"


def test_development_needs_nothing(environ: pytest.MonkeyPatch) -> None:
    """In development every setting has a default, and Redis is the embedded one."""
    environ.setenv("MODE", "development")
    environ.setenv("REDIS_PORT", "6399")
    assert load().redis == "redis://127.0.0.1:6399/0"


def test_the_environment_wins_over_the_file(environ: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`.env` fills in what the environment leaves unset; an empty variable counts as unset."""
    (tmp_path / ".env").write_text(f"MODE=development\nPORT=8100\nWORKERS=3\nTOKEN_KEY={KEY}\n")
    _set(environ, {"PORT": "8200", "WORKERS": ""})
    settings = load()
    assert (settings.port, settings.workers, settings.token_key) == (8200, 3, SecretStr(KEY))


@pytest.mark.parametrize(
    "prefix", ["A_", "a-b", "1a", "sqlite_x", "pg_", "a" * 25, "a b", "ä", "a\n"]
)
def test_a_prefix_of_tables_is_a_plain_name(environ: pytest.MonkeyPatch, prefix: str) -> None:
    """The prefix is used in unquoted names and leaves room for the rest of the name."""
    environ.setenv("TABLE_PREFIX", prefix)
    with pytest.raises(SystemExit):
        table_prefix()


def test_the_prefix_of_tables_is_read_alone(environ: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A program that only declares the tables needs no other setting, even if another one is
    wrong.
    """
    (tmp_path / ".env").write_text("MODE=nonsense\nTABLE_PREFIX=tw1_\n")
    assert table_prefix() == "tw1_"
    environ.setenv("TABLE_PREFIX", "_b")
    assert table_prefix() == "_b"


def _documented() -> dict[str, str]:
    """The name and default of each line `# NAME=default` of .env.example."""
    return dict(
        re.findall(r"^# ([A-Z_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE)
    )


def test_every_setting_is_documented() -> None:
    """.env.example names each setting once and nothing else."""
    assert sorted(_documented()) == sorted(name.upper() for name in Settings.model_fields)


def test_documented_defaults_are_true() -> None:
    """The defaults in .env.example are those in force."""
    wrong = {
        name: (text, default)
        for name, text in _documented().items()
        if text and str(default := Settings.model_fields[name.lower()].default) != text
    }
    assert wrong == {}


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("REDIS_URL", "redis://cache"),
        ("REDIS_URL", "rediss://:s3cret@cache/0"),
        ("REDIS_URL", "redis://me:p@ss:word@[::1]:6380/0?ssl_cert_reqs=none"),
        ("REDIS_URL", "unix:///run/a:b.sock"),
        ("DATABASE_URL", "sqlite:///a:b.db"),
        ("DATABASE_URL", "postgresql://me:a/b@one:5432,two:5433/x?options=-csearch_path%3Da:b"),
        ("DATABASE_URL", "postgres:///x?host=/run/postgresql"),
    ],
)
def test_addresses_of_every_form_are_accepted(
    environ: pytest.MonkeyPatch, name: str, url: str
) -> None:
    """A password is not mistaken for a port."""
    _set(environ, {**PRODUCTION, name: url})
    assert getattr(load(), name.lower()) == url
