"""config/logs.py: every process logs the same way, whoever logs."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from config import logs


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_one_json_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Ours and a library's come out alike, on standard error, with time, level and name; extra fields are kept."""
    logs.setup("info", "json")
    structlog.get_logger("ours").info("closed", code=4400)
    logging.getLogger("theirs").warning("lost %s", "it", extra={"port": 1})
    out, err = capsys.readouterr()
    ours, theirs = map(json.loads, err.splitlines())
    assert (ours["event"], ours["code"], ours["level"], ours["logger"]) == ("closed", 4400, "info", "ours")
    assert (theirs["event"], theirs["port"], theirs["level"], theirs["logger"]) == ("lost it", 1, "warning", "theirs")
    assert "timestamp" in ours
    assert out == ""


def test_a_message_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Without the copy for coloured terminals that uvicorn sends along."""
    logs.setup("info", "json")
    logging.getLogger("theirs").info("Started [%d]", 7, extra={"color_message": "Started [\x1b[36m%d\x1b[0m]"})
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
    """And talkative libraries speak from warning up."""
    logs.setup("info", "text")
    structlog.get_logger("ours").debug("no")
    logging.getLogger("websockets.server").info("no")
    logging.getLogger("websockets.server").warning("yes")
    [line] = capsys.readouterr().err.splitlines()
    assert "yes" in line
