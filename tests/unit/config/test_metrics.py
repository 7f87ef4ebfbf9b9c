"""config/metrics.py: each process serves its metrics on its own port."""

import socket
import urllib.error
import urllib.request

import pytest
import structlog
from prometheus_client import CollectorRegistry, Counter

from tests.servers.service import free_port
from tokenwire.config import metrics


def _told(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return str(answer.read().decode())


def test_metrics_are_served_while_the_block_runs() -> None:
    """Only the metrics of this process, and only during the block."""
    port, registry = free_port(), CollectorRegistry()
    Counter("mine", "Mine", registry=registry).inc()
    with metrics.served("127.0.0.1", port, registry):
        assert "mine_total 1.0" in _told(port)
        assert "python_info" not in _told(port)  # the libraries' own metrics are not our interface
    with pytest.raises(urllib.error.URLError):
        _told(port)


def test_nothing_listens_unless_asked() -> None:
    """Port 0 means no port."""
    with metrics.served("256.256.256.256", 0):
        pass


def test_a_port_that_is_taken_costs_the_metrics_alone() -> None:
    """During a deploy, the old process may still have the port."""
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        structlog.testing.capture_logs() as logged,
    ):
        metrics.log_line = structlog.get_logger("tests")
        with metrics.served("127.0.0.1", taken.getsockname()[1]):
            pass
    assert [line["event"] for line in logged] == ["cannot serve metrics"]


def test_a_connection_that_asks_for_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each connection has a thread."""
    monkeypatch.setattr(metrics, "SILENCE_SECONDS", 0.2)
    port = free_port()
    with (
        metrics.served("127.0.0.1", port, CollectorRegistry()),
        socket.create_connection(("127.0.0.1", port), 10) as silent,
    ):
        assert silent.recv(1) == b""
