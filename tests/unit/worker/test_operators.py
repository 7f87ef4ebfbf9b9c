"""worker.operators: one hook tells a person, by log and by Sentry where it is configured."""

import sys
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from providers.base import AuthenticationFailed
from worker.operators import open_hook


def test_without_sentry_it_is_logged() -> None:
    """The facts that lead to the cause are in the line."""
    with structlog.testing.capture_logs() as lines:
        open_hook(None)(AuthenticationFailed("bad key"), {"message_id": "m", "code": "authentication_failed", "bug": False})
    assert lines[0]["log_level"] == "error"
    assert lines[0]["message_id"] == "m"


def test_sentry_without_its_package_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The setting is named."""
    monkeypatch.setitem(sys.modules, "sentry_sdk", None)
    with pytest.raises(ValueError, match="SENTRY_DSN"):
        open_hook("https://key@sentry.invalid/1")


def test_sentry_gets_the_error_and_the_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    """No personal data is sent along."""
    sent: list[Any] = []

    @contextmanager
    def new_scope() -> Any:
        yield SimpleNamespace(set_context=lambda name, facts: sent.append((name, facts)))

    stub = SimpleNamespace(
        init=lambda **options: sent.append(options),
        new_scope=new_scope,
        capture_exception=lambda error, **_scope: sent.append(error),
    )
    monkeypatch.setitem(sys.modules, "sentry_sdk", stub)
    error = KeyError("bug")
    open_hook("https://key@sentry.invalid/1")(error, {"message_id": "m", "bug": True})
    assert sent == [
        {"dsn": "https://key@sentry.invalid/1", "send_default_pii": False},
        ("generation", {"message_id": "m", "bug": True}),
        error,
    ]
