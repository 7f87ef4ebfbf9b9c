"""`make run` while it runs: it becomes ready, restarts processes, and gives each its own secrets.
`test_run_ends.py` tests its end.
"""

import os
import signal
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.e2e.stack import Stack, running_stack
from tests.servers.service import free_ports

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def test_it_is_ready_when_it_prints_its_address(stack: Stack) -> None:
    """The page, readiness and the API answer there."""
    assert [stack.answers(path) for path in ("/", "/healthz", "/readyz", "/api/conversations")] == [
        True
    ] * 4


OTHERS = ("broadcaster", "redis")


@linux
@pytest.mark.parametrize(
    "kind", ["web", "worker", *(pytest.param(each, marks=pytest.mark.long) for each in OTHERS)]
)
def test_a_killed_process_comes_back(stack: Stack, kind: str) -> None:
    """SIGKILL of any process: it is restarted, nothing is left of the old one, and the others live
    on.
    """
    others = {
        pid
        for each in ("web", "broadcaster", "worker", "redis")
        if each != kind
        for pid in stack.pids(each)
    }
    killed = set(stack.pids(kind))
    os.kill(min(killed), signal.SIGKILL)
    assert stack.eventually(lambda: stack.pids(kind) and not killed & set(stack.pids(kind))), (
        stack.shown
    )
    assert stack.eventually(stack.answers), stack.shown
    assert others <= set(stack.processes()), stack.shown


@linux
def test_a_worker_that_loses_its_fork_is_restarted(stack: Stack) -> None:
    """Dramatiq ends itself when its forked process dies; the launcher restarts it."""
    assert stack.eventually(lambda: len(stack.pids("worker")) == 2), stack.shown
    killed = set(stack.pids("worker"))
    os.kill(max(killed), signal.SIGKILL)
    assert stack.eventually(
        lambda: len(stack.pids("worker")) == 2 and not killed & set(stack.pids("worker"))
    ), stack.shown


SECRETS = {
    "TOKEN_KEY": "t" * 40,
    "HOST_JWT_KEY": "j" * 40,
    "OPENAI_API_KEY": "sk-of-the-worker-alone",
    "AWS_SECRET_ACCESS_KEY": "somebody-elses-business",
}


@linux
def test_each_process_has_only_its_own_secrets(tmp_path: Path) -> None:
    """From the environment or from `.env`. Logs show no secret and, even at level debug, no
    message.
    """
    (tmp_path / ".env").write_text(
        f"TOKEN_KEY={SECRETS['TOKEN_KEY']}\nDATABASE_URL=sqlite:///{tmp_path}/"
        f"mine.db\nLOG_LEVEL=debug\n"
    )
    given = {name: value for name, value in SECRETS.items() if name != "TOKEN_KEY"}
    with running_stack(tmp_path, METRICS_PORT=str(free_ports(3)), **given) as stack:
        known = {
            kind: stack.environ_of(stack.pids(kind)[-1])
            for kind in ("web", "broadcaster", "worker")
        }
        assert known["broadcaster"].keys() & {*SECRETS, "DATABASE_URL"} == {"TOKEN_KEY"}
        assert known["web"].keys() & {*SECRETS, "DATABASE_URL"} == {
            "TOKEN_KEY",
            "HOST_JWT_KEY",
            "OPENAI_API_KEY",
            "DATABASE_URL",
        }
        assert known["worker"].keys() & {*SECRETS, "DATABASE_URL"} == {
            "OPENAI_API_KEY",
            "DATABASE_URL",
        }
        assert (
            known["worker"]["OPENAI_API_KEY"]
            == SECRETS["OPENAI_API_KEY"]
            != known["web"]["OPENAI_API_KEY"]
        )
        conversation = stack.post("/api/conversations", {})["id"]
        stack.post(
            f"/api/conversations/{conversation}/messages",
            {"content": "!short zanzibar-of-my-dreams"},
        )
        assert stack.eventually(lambda: "answer ended" in stack.shown), stack.shown
        said = [metrics_of(int(known[kind]["METRICS_PORT"])) for kind in known]
    assert "zanzibar" not in stack.shown
    assert not [value for value in SECRETS.values() if value in stack.shown]
    assert ["tokenwire_posts_total 1.0" in said[0], "tokenwire_readers 0.0" in said[1]] == [
        True,
        True,
    ]
    assert 'tokenwire_answers_ended_total{status="complete"} 1.0' in said[2]


def metrics_of(port: int) -> str:
    """The metrics on a process's own port."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return str(answer.read().decode())


@pytest.mark.long
@linux
def test_two_of_each_share_their_ports(tmp_path: Path) -> None:
    """While one restarts the other answers: no connection is refused."""
    with running_stack(tmp_path, WEBS="2", BROADCASTERS="2", WORKERS="2") as stack:
        assert stack.eventually(
            lambda: (
                [len(stack.pids(kind)) for kind in ("web", "broadcaster", "worker")] == [2, 2, 4]
            )
        ), stack.shown
        assert stack.eventually(lambda: stack.shown.count(" listening") == 4), stack.shown
        for kind in ("web", "broadcaster"):
            first = min(stack.pids(kind))
            os.kill(first, signal.SIGTERM)
            assert stack.eventually(lambda kind=kind, first=first: first not in stack.pids(kind)), (
                stack.shown
            )  # type: ignore[misc]
            for _ in range(20):
                port = stack.port if kind == "web" else stack.broadcaster_port
                with urllib.request.urlopen(
                    f"http://127.0.0.1:{port}/healthz", timeout=5
                ) as answer:
                    assert answer.status == 200
