"""Servers that tests start end with the tests, even if these are killed."""

import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.integration.test_nginx import NGINX
from tokenwire.config.settings import ROOT

SECONDS = 30.0
POSTGRES = """
from tests.databases import launch
server = launch(Path(sys.argv[1]))
print(server.port, flush=True)
"""
VALKEY = """
from tests.valkey import Valkey
server = Valkey(folder=Path(sys.argv[1]))
server.start()
print(server.port, flush=True)
"""
NGINX_ALONE = """
import asyncio, http.server, threading
from tests.integration.test_nginx import Nginx
from tests.servers.service import free_port
class Fine(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
web = http.server.HTTPServer(("127.0.0.1", 0), Fine)
threading.Thread(target=web.serve_forever, daemon=True).start()
server = Nginx(Path(sys.argv[1]), web.server_port, free_port(), free_port())
asyncio.run(server.start())
print(server.port, flush=True)
"""
BEFORE = "import sys, time\nfrom pathlib import Path\n"
AFTER = "time.sleep(600)\n"


@pytest.mark.sampled(1)
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
@pytest.mark.parametrize(
    "program",
    [
        pytest.param(POSTGRES, id="postgres"),
        pytest.param(VALKEY, id="valkey"),
        pytest.param(NGINX_ALONE, id="nginx"),
    ],
)
def test_a_server_ends_with_tests_that_are_killed(
    program: str, request: pytest.FixtureRequest
) -> None:
    """SIGKILL of the process that started it: soon no process is in its folder and no port is
    open.
    """
    if program == NGINX_ALONE and NGINX is None:
        pytest.skip("no nginx on this machine")
    if program == POSTGRES:
        request.getfixturevalue(
            "postgres_server"
        )  # if it cannot be installed, the test is skipped there
    folder = Path(tempfile.mkdtemp())  # PostgreSQL's account may enter it, unlike pytest's folder
    try:
        tests = subprocess.Popen(
            [sys.executable, "-c", BEFORE + program + AFTER, str(folder)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        try:
            assert tests.stdout is not None
            port = int(tests.stdout.readline())
            assert _listens(port)
        finally:
            tests.send_signal(signal.SIGKILL)
            tests.communicate()
        deadline = time.monotonic() + SECONDS
        while _listens(port) or _of(folder):
            assert time.monotonic() < deadline, _of(folder)
            time.sleep(0.05)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _of(folder: Path) -> list[str]:
    """Command lines of the processes that name this folder or work in it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if str(folder) in command or (entry / "cwd").readlink().is_relative_to(folder):
                found.append(f"{entry.name} {command}")
    return found
