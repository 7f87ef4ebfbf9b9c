"""Notifies operators of problems that a person must fix: a refused key, a used-up quota, a bug.

Everything is logged. With SENTRY_DSN set, it is also sent to Sentry (`pip install
tokenwire[sentry]`): the error, its origin and the facts, no variables.
"""

from collections.abc import Callable, Mapping
from typing import Any

import structlog

from tokenwire.config import logs
from tokenwire.providers.base import ProviderError

OperatorHook = Callable[[BaseException, Mapping[str, object]], None]
"""Called with the error and the facts that help to find it; must not raise."""
log_line = structlog.get_logger(__name__)


def facts_of(
    error: BaseException, code: object, message_id: str, **known: object
) -> Mapping[str, object]:
    """The facts about an answer. `bug`: the error is ours, not its provider's."""
    bug = not isinstance(error, ProviderError)
    return {"message_id": message_id, "code": code, "bug": bug, **known}


def log_only(error: BaseException, facts: Mapping[str, object]) -> None:
    """Log one line, with a traceback unless the error is a provider's."""
    log_line.error(
        "an operator must act",
        error=logs.name(error),
        exc_info=error if facts.get("bug") else None,
        **facts,
    )


def open_hook(sentry_dsn: str | None) -> OperatorHook:
    """The hook of this process. Raises ValueError with the setting's name if Sentry is configured
    and unusable.
    """
    if sentry_dsn is None:
        return log_only
    try:
        import sentry_sdk  # optional: installed only where Sentry is configured
    except ImportError:
        raise ValueError("SENTRY_DSN is set, but the package sentry-sdk is not installed") from None
    sentry_sdk.init(
        dsn=sentry_dsn,
        include_local_variables=False,  # local variables hold keys and people's texts
        include_source_context=False,
        default_integrations=False,  # they would send log lines, requests and responses as well
        before_send=lambda event, _hint: _redacted(event),
    )

    def notify(error: BaseException, facts: Mapping[str, object]) -> None:
        log_only(error, facts)
        with sentry_sdk.new_scope() as scope:
            scope.set_context("answer", dict(facts))
            sentry_sdk.capture_exception(error, scope=scope)

    return notify


def _redacted(value: Any) -> Any:
    """The value without the secrets that this process knows, as in its log."""
    if isinstance(value, str):
        return logs.redact(value)
    if isinstance(value, Mapping):
        return {name: _redacted(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(item) for item in value]
    return value
