"""config/logs.py: all processes log in the same format, whatever library writes the line."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from tokenwire.config import logs


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers = root.handlers[:]
    names = [None, "ours", "theirs", *logs._OURS, *logs._AT_MOST_INFO]
    levels = {name: logging.getLogger(name).level for name in names}
    yield
    root.handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    structlog.reset_defaults()


def test_one_json_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Our lines and a library's have one format on standard error: time, level, name and extra
    fields.
    """
    logs.setup("info", "json")
    structlog.get_logger("tokenwire.web.ours").info("closed", code=4400)
    logging.getLogger("theirs").warning("lost %s", "it", extra={"port": 1})
    out, err = capsys.readouterr()
    ours, theirs = map(json.loads, err.splitlines())
    assert (ours["event"], ours["code"], ours["level"], ours["logger"]) == (
        "closed",
        4400,
        "info",
        "tokenwire.web.ours",
    )
    assert (theirs["event"], theirs["port"], theirs["level"], theirs["logger"]) == (
        "lost it",
        1,
        "warning",
        "theirs",
    )
    assert "timestamp" in ours
    assert out == ""


def test_a_message_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    """uvicorn adds a copy for coloured terminals; it is dropped."""
    logs.setup("info", "json")
    logging.getLogger("theirs").warning(
        "Started [%d]", 7, extra={"color_message": "Started [\x1b[36m%d\x1b[0m]"}
    )
    [line] = capsys.readouterr().err.splitlines()
    assert json.loads(line)["event"] == "Started [7]"
    assert "color" not in line


def test_a_traceback_stays_in_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    """An exception is a field, not further lines."""
    logs.setup("info", "json")
    try:
        int("broken")
    except ValueError:
        logging.getLogger("theirs").exception("failed")
    [line] = capsys.readouterr().err.splitlines()
    assert "ValueError: invalid literal" in json.loads(line)["exception"]


def test_below_the_level_nothing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """Talkative libraries log from warning up."""
    logs.setup("info", "text")
    structlog.get_logger("tokenwire.web.ours").debug("no")
    logging.getLogger("websockets.server").info("no")
    logging.getLogger("websockets.server").warning("yes")
    [line] = capsys.readouterr().err.splitlines()
    assert "yes" in line


def test_in_detail_only_we_speak(capsys: pytest.CaptureFixture[str]) -> None:
    """Debug lines of libraries hold what people wrote: queries, WebSocket frames, provider
    events.
    """
    logs.setup("debug", "text")
    for name in (
        "aiosqlite",
        "websockets.server",
        "uvicorn.error",
        "sqlalchemy.engine.Engine",
        "anything.new",
        "dramatiq.worker",
    ):
        logging.getLogger(name).debug("a secret thought")
    logging.getLogger("anything.new").info("a secret thought")
    logging.getLogger("dramatiq.worker").info("ready")
    structlog.get_logger("tokenwire.worker.attempt.run").debug("ours")
    shown = capsys.readouterr().err
    assert "secret thought" not in shown
    assert "ready" in shown
    assert "ours" in shown


@pytest.mark.parametrize("form", ["json", "text"])
def test_secrets_that_the_process_knows_are_cut_out(
    capsys: pytest.CaptureFixture[str], form: logs.Form
) -> None:
    """Whoever wrote the line, and wherever the secret is: in a field, a message, an exception,
    escaped or not.
    """
    key, odd = "sk-0123456789", 'pass"word\\ü'
    logs.setup("info", form, [key, odd, "ab"])
    structlog.get_logger("tokenwire.web.ours").info(
        "asked", key=key, nested={"a": [odd]}, about="ab"
    )
    error = ValueError(f"refused {key} and {odd}")
    logging.getLogger("theirs").error("no %s", key, exc_info=error)
    logging.getLogger("theirs").error("no %r", error)
    shown = capsys.readouterr().err
    assert key not in shown
    assert "word" not in shown
    assert shown.count("[redacted]") >= 6
    assert "ab" in shown  # too short to be redacted in every line
