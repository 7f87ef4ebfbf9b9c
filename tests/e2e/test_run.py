"""`make run`: starts, heals, stops, and leaves nothing behind."""

import os
import signal
import socket
import sys
import urllib.request
from pathlib import Path

import pytest

from config.settings import ROOT
from tests.e2e.stack import Stack, running_stack
from tests.servers.service import free_port

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def _make_run() -> list[str]:
    """`make run` in another directory, with this Python's virtual environment taken as installed."""
    return ["make", "--file", str(ROOT / "Makefile"), f"VENV={sys.prefix}", f"--old-file={sys.prefix}/run.stamp", "run"]


def test_it_is_ready_when_it_says_so(stack: Stack) -> None:
    """The page, readiness and the API answer at the printed address."""
    assert [stack.answers(path) for path in ("/", "/healthz", "/readyz", "/api/conversations")] == [True] * 4


@linux
@pytest.mark.parametrize("kind", ["web", "broadcaster", "worker", "redis"])
def test_a_killed_process_comes_back(stack: Stack, kind: str) -> None:
    """SIGKILL of any process: it runs again, with nothing left of the old one, and the others live on."""
    others = {pid for each in ("web", "broadcaster", "worker", "redis") if each != kind for pid in stack.pids(each)}
    killed = set(stack.pids(kind))
    os.kill(min(killed), signal.SIGKILL)
    assert stack.eventually(lambda: stack.pids(kind) and not killed & set(stack.pids(kind))), stack.shown
    assert stack.eventually(stack.answers), stack.shown
    assert others <= set(stack.processes()), stack.shown


@linux
def test_a_worker_that_loses_its_fork_comes_back(stack: Stack) -> None:
    """Dramatiq ends all of itself when the process that it forked dies; the launcher starts it again."""
    assert stack.eventually(lambda: len(stack.pids("worker")) == 2), stack.shown
    killed = set(stack.pids("worker"))
    os.kill(max(killed), signal.SIGKILL)
    assert stack.eventually(lambda: len(stack.pids("worker")) == 2 and not killed & set(stack.pids("worker"))), stack.shown


SECRETS = {
    "TOKEN_KEY": "t" * 40,
    "HOST_JWT_KEY": "j" * 40,
    "OPENAI_API_KEY": "sk-of-the-worker-alone",
    "AWS_SECRET_ACCESS_KEY": "somebody-elses-business",
}


@linux
def test_each_process_has_its_own_secrets_alone(tmp_path: Path) -> None:
    """Whether they come from the environment or from `.env`; what they log shows none, nor what people wrote, in all detail."""
    (tmp_path / ".env").write_text(f"TOKEN_KEY={SECRETS['TOKEN_KEY']}\nDATABASE_URL=sqlite:///{tmp_path}/mine.db\nLOG_LEVEL=debug\n")
    given = {name: value for name, value in SECRETS.items() if name != "TOKEN_KEY"}
    with running_stack(tmp_path, METRICS_PORT=str(free_port()), **given) as stack:
        known = {kind: stack.environ_of(stack.pids(kind)[-1]) for kind in ("web", "broadcaster", "worker")}
        assert known["broadcaster"].keys() & {*SECRETS, "DATABASE_URL"} == {"TOKEN_KEY"}
        assert known["web"].keys() & {*SECRETS, "DATABASE_URL"} == {"TOKEN_KEY", "HOST_JWT_KEY", "OPENAI_API_KEY", "DATABASE_URL"}
        assert known["worker"].keys() & {*SECRETS, "DATABASE_URL"} == {"OPENAI_API_KEY", "DATABASE_URL"}
        assert known["worker"]["OPENAI_API_KEY"] == SECRETS["OPENAI_API_KEY"] != known["web"]["OPENAI_API_KEY"]
        conversation = stack.post("/api/conversations", {})["id"]
        stack.post(f"/api/conversations/{conversation}/messages", {"content": "!short zanzibar-of-my-dreams"})
        assert stack.eventually(lambda: "answer ended" in stack.shown), stack.shown
        said = [metrics_of(int(known[kind]["METRICS_PORT"])) for kind in known]
    assert "zanzibar" not in stack.shown
    assert not [value for value in SECRETS.values() if value in stack.shown]
    assert ["tokenwire_posts_total 1.0" in said[0], "tokenwire_viewers 0.0" in said[1]] == [True, True]
    assert 'tokenwire_answers_ended_total{status="complete"} 1.0' in said[2]


def metrics_of(port: int) -> str:
    """What a process tells on a port of its own."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return str(answer.read().decode())


@linux
def test_two_of_each_share_their_ports(tmp_path: Path) -> None:
    """While one of them restarts the other answers: nobody is refused."""
    with running_stack(tmp_path, WEBS="2", BROADCASTERS="2", WORKERS="2") as stack:
        assert stack.eventually(lambda: [len(stack.pids(kind)) for kind in ("web", "broadcaster", "worker")] == [2, 2, 4]), stack.shown
        assert stack.eventually(lambda: stack.shown.count(" listening") == 4), stack.shown
        for kind in ("web", "broadcaster"):
            first = min(stack.pids(kind))
            os.kill(first, signal.SIGTERM)
            assert stack.eventually(lambda kind=kind, first=first: first not in stack.pids(kind)), stack.shown  # type: ignore[misc]
            for _ in range(20):
                port = stack.port if kind == "web" else stack.broadcaster_port
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
                    assert answer.status == 200


def test_a_second_start_goes_on_with_the_same_data(tmp_path: Path) -> None:
    """The database and the token key are those of the first run."""
    with running_stack(tmp_path):
        key = (tmp_path / "var" / "token.key").read_text()
    with running_stack(tmp_path) as again:
        assert (tmp_path / "var" / "token.key").read_text() == key
        assert (tmp_path / "var" / "tokenwire.db").exists()
        assert again.answers("/api/conversations")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_make_run_stops_with_nothing_left(idle_stack: Stack, number: signal.Signals) -> None:
    """Ctrl-C, SIGTERM and a closed terminal end all processes, also those that were forked."""
    idle_stack.start(_make_run())
    idle_stack.wait_until_ready()
    idle_stack.stop(number)


@linux
@pytest.mark.parametrize("who", ["make", "launcher"])
def test_nothing_outlives_a_killed_parent(idle_stack: Stack, who: str) -> None:
    """SIGKILL of `make`, or of the launcher, which can then clean up nothing: all processes end."""
    idle_stack.start(_make_run())
    idle_stack.wait_until_ready()
    launcher = next(pid for pid, command in idle_stack.processes().items() if "-m launcher" in command)
    os.kill(idle_stack.process.pid if who == "make" else launcher, signal.SIGKILL)
    idle_stack.ended()


def test_it_can_be_stopped_before_it_is_ready(idle_stack: Stack) -> None:
    """A signal in the middle of the start ends what has been started."""
    idle_stack.start()
    assert idle_stack.eventually(lambda: idle_stack.lines or (idle_stack.folder / "var" / "valkey").exists())
    idle_stack.stop()


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        ({"WORKERS": "none"}, "WORKERS: "),
        ({"MODELS_FILE": "absent.yml"}, "MODELS_FILE: no such file"),
        ({"DATABASE_URL": "mysql://root:hunter2@db/x"}, "DATABASE_URL: must begin with"),
        ({"TOKEN_KEY": "hunter2"}, "TOKEN_KEY: shorter than 32 bytes"),
        ({"MODE": "production"}, "REDIS_URL is missing"),
    ],
)
def test_a_wrong_setting_stops_the_start(tmp_path: Path, environ: dict[str, str], line: str) -> None:
    """One line that names it, exit code 78, and no value that may be a secret."""
    stack = Stack(tmp_path, environ)
    stack.start()
    assert stack.ended() == 78
    assert len(stack.lines) == 1
    assert f"wrong setting: {line}" in stack.lines[0]
    assert "hunter2" not in stack.shown


@pytest.mark.parametrize("name", ["PORT", "BROADCASTER_PORT", "REDIS_PORT"])
def test_a_port_in_use_stops_the_start(tmp_path: Path, name: str) -> None:
    """One line that names the port and its setting."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        stack = Stack(tmp_path, {name: str(port)})
        stack.start()
        assert stack.ended() == 69
    assert len(stack.lines) == 1
    assert f"port {port} is in use ({name})" in stack.lines[0]
