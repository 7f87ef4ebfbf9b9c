"""The environment of each process: this process's own, the lines of `.env`, and development's
defaults.

Each process gets only the variables that it needs: a compromised broadcaster knows no provider's
key and no database.
"""

import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

from tokenwire.config.settings import Settings

_FOR_DEVELOPMENT = {"MODE": "development", "DRAIN_SECONDS": "1"}
"""Defaults for development: one local user, and no long wait for running answers at a stop (they
continue at the next start).
"""

_SERVERS = frozenset({"web", "broadcaster", "worker"})
_SQL = frozenset({"web", "worker", "migrate"})
_OWNERS = {
    "database_url": _SQL,
    "redis_url": _SERVERS,
    "redis_password": _SERVERS | {"redis"},
    "token_key": frozenset({"web", "broadcaster"}),
    "host_jwt_key": frozenset({"web"}),
    "sentry_dsn": frozenset({"worker"}),
}
"""The kinds of process that need a secret setting. Settings without a secret are for all."""

_SYSTEM = frozenset(
    [
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "SHELL",
        "PWD",
        "LANG",
        "LANGUAGE",
        "TZ",
        "TMPDIR",
        "TMP",
        "TEMP",
        "TERM",
        "COLORTERM",
        "NO_COLOR",
        "VIRTUAL_ENV",
    ]
)
_SYSTEM_PREFIXES = ("LC_", "PYTHON", "LD_", "DYLD_", "SSL_CERT_", "XDG_")
_WORKER = frozenset({"worker"})
_PREFIXES = {"PG": _SQL, "SENTRY_": _WORKER, "dramatiq_": _WORKER, "TOOLS_": _WORKER}
"""Variables of libraries: libpq's, Sentry's, Dramatiq's; and those of the application's tools."""
_PROXIES = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"})
"""Only the worker calls other machines by HTTP; a proxy's address may hold a password."""

KEY_FILE = Path("var/token.key")
REDIS_KEY_FILE = Path("var/valkey.key")

_KEY_IS_THERE = "a key that only the worker knows"


def combine(environ: Mapping[str, str], dotenv: Mapping[str, str | None]) -> dict[str, str]:
    """The environment comes before `.env`, and `.env` before development's defaults. An empty value
    counts as unset.
    """
    given = {
        name: value
        for source in (_FOR_DEVELOPMENT, dotenv, environ)
        for name, value in source.items()
        if value
    }
    given["PATH"] = os.pathsep.join(
        [str(Path(sys.executable).parent), environ.get("PATH", os.defpath)]
    )
    given["PYTHONUNBUFFERED"] = "1"
    return given


def for_kind(kind: str, given: Mapping[str, str], catalogue: Mapping[str, bool]) -> dict[str, str]:
    """The variables that a process of this kind needs. `catalogue`: the variables of the model
    catalogue, and whether each is a key.

    Web offers models without calling them, so it learns only that a key is set.
    """
    mine = {name: value for name, value in given.items() if _is_for(kind, name)}
    if kind in ("web", "worker"):
        for name in catalogue.keys() & given.keys():
            mine[name] = _KEY_IS_THERE if catalogue[name] and kind == "web" else given[name]
    # Otherwise the process would read secrets of others by itself.
    return mine | {"ENV_FILE": os.devnull}


def _is_for(kind: str, name: str) -> bool:
    setting = name.lower()
    if name.isupper() and setting in Settings.model_fields:
        return kind in _OWNERS.get(setting, (kind,))
    if name.upper() in _PROXIES:
        return kind == "worker"
    owners = next((kinds for prefix, kinds in _PREFIXES.items() if name.startswith(prefix)), ())
    return name in _SYSTEM or name.startswith(_SYSTEM_PREFIXES) or kind in owners


def kept_key(path: Path) -> str:
    """The key in `path`; created there if missing, readable only by its owner."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(file, "w") as handle:
            handle.write(secrets.token_hex(32))
    return path.read_text().strip()
