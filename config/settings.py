"""The only reader of the environment.

Every process builds one `Settings` at its edge (`load()`) and passes it, or single values of it,
down. Names carry their unit. A mistake is reported in one line that names the variable; secrets are
never printed.
"""

import ipaddress
import json
import os
import re
import sys
from collections.abc import Collection
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NoReturn
from urllib.parse import quote, unquote

from dotenv import dotenv_values
from pydantic import (
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from tokenwire.config.terms import AnswerTerms, LogTerms, ToolTerms

ROOT = Path(__file__).resolve().parent.parent
"""The checkout, for its tests and benchmarks. The program needs none: its files are beside its
modules, and the operator's (`.env`, `var/`) in the current folder.
"""
MODELS_FILE = Path(__file__).with_name("models.yml")
"""The catalogue of the package."""

_SCHEMES = {
    "redis_url": ("redis://", "rediss://", "unix://"),
    "database_url": ("sqlite:///", "postgresql://", "postgres://"),
    "broadcaster_url": ("ws://", "wss://"),
}


class TableNames(BaseSettings):
    """The names of tables, which must be known before they are declared."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        allow_inf_nan=False,
    )

    table_prefix: str = Field("", max_length=24)
    """Prefix of every table and index, such as `chat_`, in a database shared with another
    application: lower-case letters, digits, underscores. All processes and the migration need the
    same prefix. A later change renames nothing.
    """

    @field_validator("table_prefix")
    @classmethod
    def _begins_a_name(cls, prefix: str) -> str:
        # Upper case would need quotes in hand-written SQL. SQLite reserves sqlite_.
        if not re.fullmatch(r"([a-z_][a-z0-9_]*)?", prefix) or prefix.startswith(
            ("sqlite_", "pg_")
        ):
            raise ValueError(
                "lower-case letters, digits and underscores, such as chat_ (not sqlite_, not pg_)"
            )
        return prefix


class Settings(TableNames, AnswerTerms, LogTerms, ToolTerms):
    """Environment variables (upper case) or lines of `.env`; `.env.example` lists each with its
    default. `config/terms.py` has those that pure code reads.
    """

    mode: Literal["production", "development"] = "production"
    """`development`: one local user without a login (as in `make run`). `production`: callers prove
    who they are.
    """
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    # Addresses
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=1, le=65535)
    broadcaster_host: str = "127.0.0.1"
    broadcaster_port: int = Field(8001, ge=1, le=65535)
    broadcaster_url: str | None = None
    """The address for browsers, such as `wss://stream.example.com`; default: the request's host,
    `broadcaster_port`.
    """
    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(0, ge=0, le=65535)
    """The port of this process's metrics (Prometheus), in web, broadcaster and worker; 0: none."""
    ready_file: Path | None = None
    """A file that is there while this worker takes jobs, for whoever started it."""
    redis_port: int = Field(6390, ge=1, le=65535)
    redis_url: str | None = Field(None, repr=False)
    """In development, the default is the embedded server on `redis_port`."""
    database_url: str = Field("sqlite:///var/tokenwire.db", repr=False)
    """`sqlite:///path` or `postgresql://user:password@host/name` (`postgres://` is the same)."""
    database_timeout_seconds: float = Field(10.0, ge=1)
    """Longest life of a transaction; after that the database counts as unreachable."""
    models_file: Path = MODELS_FILE

    # Secrets
    token_key: SecretStr | None = None
    """Signs subscription tokens (HS256): at least 32 bytes."""
    host_jwt_key: SecretStr | None = None
    """Verifies the host application's JWT: an HS256 secret of at least 32 bytes, or a public key in
    PEM.
    """
    host_jwt_issuer: str | None = None
    """The required `iss` of the host application's JWT; default: any."""
    host_jwt_audience: str | None = None
    """The required `aud` of the host application's JWT; default: any except that of subscription
    tokens.
    """

    redis_password: SecretStr | None = None
    """Of the embedded server; not used with `redis_url`."""

    # Processes that `make run` starts
    webs: int = Field(1, ge=1, le=16)
    broadcasters: int = Field(1, ge=1, le=16)
    """Several on a machine share the port: the system assigns each new connection to one of
    them.
    """
    workers: int = Field(2, ge=1, le=64)

    # Worker
    worker_threads: int = Field(200, ge=1, le=2000)
    """Answers that one worker process runs at the same time."""
    checkpoint_seconds: float = Field(1.0, gt=0)
    checkpoint_chars: int = Field(500, ge=1)
    coalesce_ms: int = Field(0, ge=0, le=1000)
    lease_seconds: float = Field(3.0, gt=0, le=60)
    drain_seconds: float = Field(25.0, ge=0)
    max_file_bytes: int = Field(8 * 1024 * 1024, ge=0, le=11 * 1024 * 1024)
    """Longest file that may be a part of an answer, such as an image from the model. 0: none.

    At most 11 MiB: in base64, it must fit into the 16 MiB of one event of a provider.
    """
    tools: str = ""
    """Modules of the application with tools, which workers import: `myapp.tools`, several with
    commas (docs/tools.md).
    """
    sentry_dsn: SecretStr | None = None
    """Also sends Sentry what an operator must handle (needs `pip install tokenwire[sentry]`)."""

    # API
    max_content_bytes: int = Field(256 * 1024, ge=1024)
    """Longest message (also instructions, a schema, metadata) from a client, in bytes of UTF-8, in
    every dialect.
    """
    max_history_bytes: int = Field(4 * 1024 * 1024, ge=64 * 1024)
    """Longest text before an answer, over all messages: more is refused (413) or ends as
    `context_length_exceeded`.
    """
    max_queued_posts: int = Field(20, ge=0)
    """Posts that may wait in one conversation; 0: unlimited."""
    max_unfinished_per_user: int = Field(50, ge=0)
    """Unfinished answers of one user, queued ones included; 0: unlimited."""
    max_waiting_per_user: int = Field(200, ge=0)
    """Answers of one user that wait for a decision about a call. They do not count as unfinished.
    With more of them, posts are refused; 0: unlimited.
    """
    max_stored_bytes_per_user: int = Field(256 * 1024 * 1024, ge=0)
    """Bytes that one user may have stored; each message and conversation counts 512 bytes besides
    its text; 0: unlimited.
    """
    max_open_per_user: int = Field(100, ge=0)
    """Open requests, streams and sockets of one user, in each web process and each broadcaster; 0:
    unlimited.
    """
    max_open_per_address: int = Field(500, ge=0)
    """The same for one address (of IPv6: one /64); connections of trusted proxies
    (`FORWARDED_ALLOW_IPS`) do not count.
    """
    posts_per_minute_per_user: int = Field(60, ge=0)
    """Posts, questions, new conversations and changes of them, in all web processes together; 0:
    unlimited.
    """
    posts_per_minute_per_address: int = Field(300, ge=0)
    reads_per_minute_per_user: int = Field(600, ge=0)
    """GET and HEAD of the API, in all web processes together; 0: unlimited. A stream counts once,
    at its start. Other requests (a cancel, a deletion, a subscription) are counted apart, with the
    same limit.
    """
    reads_per_minute_per_address: int = Field(1200, ge=0)
    forwarded_allow_ips: str = "127.0.0.1,::1"
    """Addresses and networks of trusted proxies, whose `X-Forwarded-For` and `X-Forwarded-Proto`
    count.
    """
    max_head_bytes: int = Field(32 * 1024, ge=8 * 1024, le=1024 * 1024)
    """Address and headers of a request, together."""
    max_headers: int = Field(100, ge=30, le=128)
    """Headers of a request. The broadcaster's library refuses more than 128, and lines above 8 KiB,
    in any case.
    """
    head_seconds: float = Field(10.0, gt=0)
    """Longest time for the head of a request; for the login on a chat socket at most 5 seconds."""
    body_seconds: float = Field(20.0, gt=0)
    """Longest time for a body, plus a second for each 8 KiB."""
    body_gap_seconds: float = Field(10.0, gt=0)
    """The longest pause between two pieces of a body, or of a message on a chat socket."""
    max_body_seconds: float = Field(120.0, gt=0)
    """Longest time for a body of any length."""
    stalled_seconds: float = Field(60.0, gt=0)
    """A client that takes no byte of waiting output for this long is cut off, on web and on the
    broadcaster.
    """
    max_bodies_bytes: int = Field(256 * 1024 * 1024, ge=1024 * 1024)
    """Memory of a web process for incoming bodies and for unread answers above 64 KiB, all
    together. One user gets a quarter, the unread answers of one address half; one quarter is only
    for bodies up to 64 KiB.
    """
    max_body_values: int = Field(100_000, ge=1_000)
    """Values in the JSON of a body, lists and objects included: they, not bytes, decide the cost of
    parsing.
    """
    max_streams: int = Field(2_000, ge=1)
    """Open streamed answers (SSE) of one web process."""
    max_participants: int = Field(100, ge=1)
    """Participants and invited people of a conversation, its owner included."""
    max_invitations: int = Field(500, ge=1)
    """Open invitations by one user, and for one user."""
    concurrent_posts: Literal["queue", "reject", "cancel_previous", "steer"] = "queue"
    allowed_hosts: str = ""
    """Host names of this server besides localhost: `chat.example.com`, several with commas.
    Default: in development none, in production all.
    """
    cors_origins: str = ""
    """Other origins whose pages may use the API for their users: `https://app.example.com`, several
    with commas.
    """

    # AI SDK
    ai_sdk_profile: Literal["v5", "v6", "v7"] = "v5"
    """The profile for clients that name none."""
    max_chat_body_bytes: int = Field(8 * 1024 * 1024, ge=64 * 1024)
    """Longest body of clients that send their whole history (`POST /api/chat`, OpenAI's API): twice
    `max_history_bytes`.
    """
    object_schemas_file: Path | None = None
    """JSON: names and JSON Schemas for `POST /api/object?schema=name`."""

    # Broadcaster
    max_connections: int = Field(20_000, ge=1)
    heartbeat_idle_seconds: float = Field(25.0, gt=0)
    heartbeat_running_seconds: float = Field(5.0, gt=0)

    @field_validator("redis_url", "database_url", "broadcaster_url")
    @classmethod
    def _has_a_known_scheme(cls, url: str | None, info: ValidationInfo) -> str | None:
        schemes = _SCHEMES[info.field_name or ""]
        if url is not None and not url.startswith(schemes):
            raise ValueError(f"must begin with {' or '.join(schemes)}")
        if url is not None and not _has_a_port(url):
            raise ValueError("the port is invalid")
        return url

    @field_validator("token_key", "host_jwt_key")
    @classmethod
    def _is_a_key(cls, key: SecretStr | None) -> SecretStr | None:
        text = key.get_secret_value() if key is not None else None
        if text is not None and text.lower().startswith(("http://", "https://")):
            raise ValueError("is an address; the key itself is needed")
        if text is not None and len(text.encode()) < 32:
            raise ValueError("shorter than 32 bytes")
        return key

    @field_validator("models_file")
    @classmethod
    def _is_there(cls, path: Path) -> Path:
        if not path.is_file():
            raise ValueError(f"no such file: {path}")
        return path

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, text: str) -> str:
        for origin in _split(text):
            scheme, _, host = origin.partition("://")
            if scheme not in ("http", "https") or not host or "/" in host or "*" in host:
                raise ValueError("origins look like https://app.example.com")
        return text

    @field_validator("allowed_hosts")
    @classmethod
    def _are_hosts(cls, text: str) -> str:
        if not all(re.fullmatch(r"[0-9A-Za-z._-]+|[0-9A-Fa-f:.]+", name) for name in _split(text)):
            raise ValueError("names look like chat.example.com, without a port")
        return text

    @field_validator("forwarded_allow_ips")
    @classmethod
    def _are_addresses(cls, text: str) -> str:
        for part in _split(text):
            if part != "*":
                ipaddress.ip_network(part, strict=False)
        return text

    @field_validator("object_schemas_file")
    @classmethod
    def _holds_schemas(cls, path: Path | None) -> Path | None:
        if path is not None:
            _schemas(path)
        return path

    @model_validator(mode="after")
    def _fits_together(self) -> "Settings":
        if self.host_jwt_key is not None and self.host_jwt_key == self.token_key:
            raise ValueError("HOST_JWT_KEY and TOKEN_KEY are the same")
        if self.port == self.broadcaster_port and self.host == self.broadcaster_host:
            raise ValueError("PORT and BROADCASTER_PORT are the same")
        return self

    @cached_property
    def hosts(self) -> list[str]:
        """`allowed_hosts` as a list."""
        return _split(self.allowed_hosts)

    @cached_property
    def origins(self) -> list[str]:
        """`cors_origins` as a list."""
        return _split(self.cors_origins)

    @cached_property
    def object_schemas(self) -> dict[str, dict[str, Any]]:
        """The schemas of `object_schemas_file` by name."""
        return _schemas(self.object_schemas_file) if self.object_schemas_file else {}

    @cached_property
    def redis(self) -> str:
        """The address of Redis or Valkey, embedded or not."""
        password = (
            f":{quote(self.redis_password.get_secret_value(), safe='')}@"
            if self.redis_password
            else ""
        )
        return self.redis_url or f"redis://{password}127.0.0.1:{self.redis_port}/0"

    @cached_property
    def secrets(self) -> list[str]:
        """The secrets that no log may show: secret settings, and passwords in addresses.

        Both as they are written and decoded.
        """
        hidden = [value.get_secret_value() for _, value in self if isinstance(value, SecretStr)]
        passwords = [
            password
            for url in (self.redis_url, self.database_url)
            if url and (password := _password(url))
        ]
        return [*hidden, *passwords, *map(unquote, passwords)]


def _has_a_port(url: str) -> bool:
    """Whether the address has a valid port, or none. A password may hold any character."""
    found = re.match(r"\w+://(?>.*@)?+(?:\[[^]]*\]|[^:/?#,]*):([^/?#,]*)", url)
    return found is None or not found[1] or (found[1].isdecimal() and 0 < int(found[1]) < 65536)


def _password(url: str) -> str | None:
    # urlsplit fails if another part of the address is odd.
    found = re.match(r"\w+://[^/@]*?:(.*)@", url)
    return found[1] if found else None


def _split(text: str) -> list[str]:
    return [part.strip().rstrip("/") for part in text.split(",") if part.strip()]


def _schemas(path: Path) -> dict[str, dict[str, Any]]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(f"no JSON file: {path}") from error
    if not isinstance(found, dict) or not all(
        isinstance(schema, dict) for schema in found.values()
    ):
        raise ValueError(f"not an object of schemas: {path}")
    return found


def explain(error: ValidationError) -> str:
    """One line for an operator: the variable and the mistake, never the value (it may be a
    secret).
    """
    first = error.errors(include_input=False, include_url=False)[0]
    name = "_".join(str(part) for part in first["loc"]).upper()
    message = first["msg"].removeprefix("Value error, ")
    return f"{name}: {message}" if name else message


def env_file() -> Path:
    """`.env`, or the file in ENV_FILE. The launcher names an empty one, since it gives each process
    its own variables.
    """
    return Path(os.environ.get("ENV_FILE") or ".env")


def load(needs: Collection[str] = ("redis_url", "token_key")) -> Settings:
    """The settings of this process; on a mistake, one line on standard error and exit code 78
    (EX_CONFIG).

    `needs`: what this process requires in production; in development everything has a default.
    """
    try:
        found = Settings(_env_file=env_file())
    except ValidationError as error:
        stop(explain(error))
    for name in needs:
        # Nobody chose a default: it fits one machine.
        if found.mode == "production" and (
            name not in found.model_fields_set or getattr(found, name) is None
        ):
            stop(f"{name.upper()} is missing (MODE is production)")
    return found


def table_prefix() -> str:
    """TABLE_PREFIX alone, even if another setting is wrong. Ends the process like `load`."""
    try:
        return TableNames(_env_file=env_file()).table_prefix
    except ValidationError as error:
        stop(explain(error))


def variables() -> dict[str, str]:
    """The environment over `.env`, for variables without a setting: those of the model
    catalogue.
    """
    read = dotenv_values(env_file()) if env_file().is_file() else {}
    return {name: value for name, value in read.items() if value is not None} | dict(os.environ)


def stop(reason: str) -> NoReturn:
    """End the process, because a setting is wrong."""
    sys.stderr.write(f"tokenwire: wrong setting: {reason}\n")
    raise SystemExit(os.EX_CONFIG)
