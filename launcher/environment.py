"""What the processes find in their environment: this process's own, the lines of `.env`, and what development adds."""

import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

_FOR_DEVELOPMENT = {"MODE": "development", "DRAIN_SECONDS": "1"}
"""Where nothing else is said: one local user; on a stop, no long wait for running generations (they go on at the next start)."""

KEY_FILE = Path("var/token.key")

_OF_MAKE = ("MAKELEVEL", "MAKEFLAGS", "MFLAGS", "MAKE_TERMOUT", "MAKE_TERMERR")


def combine(environ: Mapping[str, str], dotenv: Mapping[str, str | None]) -> dict[str, str]:
    """The environment wins over `.env`, which wins over development's own; an empty value counts as none."""
    given = {name: value for source in (_FOR_DEVELOPMENT, dotenv, environ) for name, value in source.items() if value}
    given["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environ.get("PATH", os.defpath)])
    given["PYTHONUNBUFFERED"] = "1"
    return {name: value for name, value in given.items() if name not in _OF_MAKE}


def kept_key(path: Path) -> str:
    """The key in `path`; made and written there, for its owner's eyes only, where there is none yet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(file, "w") as handle:
            handle.write(secrets.token_hex(32))
    return path.read_text().strip()
