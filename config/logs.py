"""Logging of every process: structlog over the standard library, to standard error, one line per
event.

Libraries that use `logging` have the same format, from warnings up. Each module decides what to
log; texts of messages never are, and the process's secrets are cut out of every line.
"""

import json
import logging
import re
import sys
from collections.abc import Iterable
from typing import Any, Literal

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from tokenwire.config.settings import Settings

Form = Literal["json", "text"]
_OURS = ("__main__", "tokenwire")
"""Loggers that may write below warning. Libraries' details hold queries with people's texts, frames
and requests.
"""
_AT_MOST_INFO = ("dramatiq",)
"""Logs at this level when a worker starts and stops."""
_HIDDEN = "[redacted]"
_SHORTEST_SECRET = 6
"""Shorter secrets would hide words in every line."""


def setup_for(settings: Settings, secrets: Iterable[str] = ()) -> None:
    """Set up logging by a process's settings. Its secrets, and these ones, are never shown."""
    setup(
        settings.log_level,
        "text" if settings.mode == "development" else "json",
        [*settings.secrets, *secrets],
    )


def setup(level: str = "info", form: Form = "json", secrets: Iterable[str] = ()) -> None:
    """Log from `level` up (`debug`, `info`, `warning`, `error`). `json` is for machines; `text` is
    key=value for a terminal.

    `secrets` are cut out of every line, whoever wrote it: a provider may echo a key, an exception
    an address.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    global _redaction
    _redaction = _Redaction(secrets)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder(), _plain],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(form),
                _redaction,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    wanted = logging.getLevelNamesMapping()[level.upper()]
    root.setLevel(max(wanted, logging.WARNING))
    for name in _OURS:
        logging.getLogger(name).setLevel(wanted)
    for name in _AT_MOST_INFO:
        logging.getLogger(name).setLevel(max(wanted, logging.INFO))


class _Redaction:
    """The last processor: by then the line is text."""

    def __init__(self, secrets: Iterable[str]) -> None:
        known = {secret for secret in secrets if len(secret) >= _SHORTEST_SECRET}
        # An exception's repr and JSON show it escaped, perhaps twice.
        shown = {form for secret in known for form in (secret, repr(secret)[1:-1])}
        forms = shown | {json.dumps(form)[1:-1] for form in shown}
        self._pattern = (
            re.compile("|".join(map(re.escape, sorted(forms, key=len, reverse=True))))
            if forms
            else None
        )

    def __call__(self, _logger: WrappedLogger, _method: str, line: Any) -> str:
        return self.cut(str(line))

    def cut(self, text: str) -> str:
        return self._pattern.sub(_HIDDEN, text) if self._pattern else text


_redaction = _Redaction(())


def redact(text: str) -> str:
    """The text without this process's secrets, for output that does not pass the log."""
    return _redaction.cut(text)


def name(error: BaseException) -> str:
    """The error as text for a log line. `repr` of an encoding error quotes the whole text; this
    gives only its position.
    """
    return (
        f"{type(error).__name__}({str(error)!r})"
        if isinstance(error, UnicodeError)
        else repr(error)
    )


def _plain(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Uvicorn adds each message a second time with colours."""
    event.pop("color_message", None)
    return event


def _renderers(form: Form) -> list[Processor]:
    if form == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    return [
        structlog.dev.ConsoleRenderer(
            colors=False, exception_formatter=structlog.dev.plain_traceback
        )
    ]
