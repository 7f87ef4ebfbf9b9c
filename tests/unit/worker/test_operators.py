"""worker.operators: one hook tells a person, by log and by Sentry where it is configured."""

import logging
import sys
from functools import partial

import pytest
import sentry_sdk
import structlog
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport

from tokenwire.config import logs
from tokenwire.providers.base import AuthenticationFailed
from tokenwire.worker.operators import open_hook


def test_without_sentry_it_is_logged() -> None:
    """The facts that lead to the cause are in the line."""
    with structlog.testing.capture_logs() as lines:
        open_hook(None)(
            AuthenticationFailed("bad key"),
            {"message_id": "m", "code": "authentication_failed", "bug": False},
        )
    assert lines[0]["log_level"] == "error"
    assert lines[0]["message_id"] == "m"


def test_a_text_that_cannot_be_encoded_is_not_quoted() -> None:
    """It may be an answer: the error knows all of it."""
    with pytest.raises(UnicodeEncodeError) as failed:
        "what somebody wrote \ud800".encode()
    with structlog.testing.capture_logs() as lines:
        open_hook(None)(failed.value, {"message_id": "m", "code": "internal_error", "bug": True})
    assert "somebody" not in lines[0]["error"]
    assert "position 20" in lines[0]["error"]


def test_sentry_without_its_package_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The setting is named."""
    monkeypatch.setitem(sys.modules, "sentry_sdk", None)
    with pytest.raises(ValueError, match="SENTRY_DSN"):
        open_hook("https://key@sentry.invalid/1")


def ask_with(key: str) -> None:
    headers, _body = {"Authorization": f"Bearer {key}"}, {"messages": "what somebody wrote"}
    raise AuthenticationFailed(f"the provider knows no {headers['Authorization']}")


def test_sentry_gets_the_error_and_the_facts_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real package, but for its way out. Neither variables, nor what a provider echoes, nor a
    logged line brings a key along.
    """
    sent: list[str] = []

    class Kept(Transport):
        def capture_envelope(self, envelope: Envelope) -> None:
            sent.extend(item.payload.get_bytes().decode() for item in envelope.items)

    monkeypatch.setattr(sentry_sdk, "init", partial(sentry_sdk.init, transport=Kept))
    monkeypatch.setattr(logs, "_redaction", logs._Redaction(["sk-secret-key"]))
    tell = open_hook("https://key@sentry.invalid/1")
    try:
        ask_with("sk-" + "secret-key")
    except AuthenticationFailed as error:
        logging.getLogger("worker").exception("a line that is logged, not sent")
        tell(error, {"message_id": "m-1", "bug": True})
    finally:
        sentry_sdk.get_client().close()
        sentry_sdk.get_global_scope().set_client(None)
    (event,) = sent
    assert "AuthenticationFailed" in event
    assert "m-1" in event
    assert "the provider knows no Bearer [redacted]" in event
    assert [
        word
        for word in ("sk-secret-key", "what somebody wrote", "a line that is logged")
        if word in event
    ] == []
