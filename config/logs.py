"""How every process logs: structlog over the standard library, to standard error, one line an event.

Libraries that log through `logging` come out the same way. What is logged is decided where it happens; secrets and texts of messages
never are.
"""

import logging
import sys
from typing import Literal

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

Form = Literal["json", "text"]
_QUIET = ("websockets", "httpx", "httpcore", "asyncio", "uvicorn.access")
"""Talkative below this level: each connection and request of theirs is a line."""


def setup(level: str = "info", form: Form = "json") -> None:
    """Log from `level` up (`debug`, `info`, `warning`, `error`). `json` for machines; `text`, key=value, to be read in a terminal."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder(), _plain],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_renderers(form)],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(root.level, logging.WARNING))


def _plain(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Uvicorn gives each of its messages twice, the second time in colours."""
    event.pop("color_message", None)
    return event


def _renderers(form: Form) -> list[Processor]:
    if form == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    return [structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)]
