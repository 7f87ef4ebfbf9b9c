"""Types of the JSON columns, checked when a row is read: a misshapen value affects only itself.

A row may be damaged, repaired by hand, or written by another version. Its reader (an attempt, a
cancel, a sweep) must be able to end the answer, and would raise for a missing field. So misshapen
values are dropped here, at the one place that all rows pass, and logged.
"""

import json
from collections.abc import Callable
from typing import Any

import structlog
from sqlalchemy import JSON
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from tokenwire.protocol.events import TOKEN_FIELDS
from tokenwire.protocol.text import is_shallow

log_line = structlog.get_logger(__name__)
Shape = Callable[[Any], Any]
"""Returns the valid part of a value, or None."""


class Shaped(TypeDecorator[Any]):
    """JSON of one shape. None is NULL."""

    impl = JSON
    cache_ok = True

    def __init__(self, shape: Shape) -> None:
        super().__init__(none_as_null=True)
        self.shape = shape

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002
        """The value, or its valid part."""
        if value is None:
            return None
        found = self.shape(value)
        if found != value:
            log_line.error(
                "a row holds a value of another shape: it is left out", shape=self.shape.__name__
            )
        return found


def loads(text: str | bytes) -> Any:
    """JSON from the database; None if it is invalid (SQLite accepts any text)."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        log_line.exception("a row holds invalid JSON: it is left out")
        return None


def any_json(value: Any) -> Any:
    """Any value of at most MAX_JSON_DEPTH levels: no view could show a much deeper one."""
    return value if is_shallow(value) else None


def json_object(value: Any) -> dict[str, Any] | None:
    """Any object."""
    return value if isinstance(value, dict) else None


def json_list(value: Any) -> list[Any] | None:
    """Any list."""
    return value if isinstance(value, list) else None


def tool_calls(value: Any) -> list[dict[str, Any]] | None:
    """Calls as the previous version stored them."""
    return _fitting_entries(
        value,
        lambda call: (
            _texts(call, "id", "name", "status") and isinstance(call.get("arguments"), dict | str)
        ),
    )


def kept(value: Any) -> list[dict[str, Any]] | None:
    """What the previous version kept beside the text: all of its entries, or none."""
    found = _fitting_entries(
        value,
        lambda entry: (
            _texts(entry, "dialect", "kind")
            and _count(entry.get("at"))
            and isinstance(entry.get("value"), dict)
        ),
    )
    return found if found == value else None


def part_kept(value: Any) -> dict[str, Any] | None:
    """The kept value of one part: `{dialect, kind?, value}`."""
    return value if isinstance(value, dict) and _texts(value, "dialect") else None


def parts_kept(value: Any) -> list[dict[str, Any]] | None:
    """Kept values with their parts' numbers: all of them, or none."""
    found = _fitting_entries(
        value, lambda entry: _texts(entry, "dialect") and _count(entry.get("part"))
    )
    return found if found == value else None


def seams(value: Any) -> list[int] | None:
    """Offsets."""
    return [offset for offset in value if _count(offset)] if isinstance(value, list) else None


def usage(value: Any) -> dict[str, Any] | None:
    """Tokens, as on the wire."""
    found: dict[str, Any] = _counts(value)
    if not ("input_tokens" in found and "output_tokens" in found):
        return None
    if isinstance(value.get("estimated"), bool):
        found["estimated"] = value["estimated"]
    if type(value.get("cost")) in (int, float) and value["cost"] >= 0:
        found["cost"] = value["cost"]
    return found


def reported(value: Any) -> dict[str, Any] | None:
    """Tokens of the requests so far, and the prices of the present one."""
    if not isinstance(value, dict):
        return None
    found: dict[str, Any] = {name: _counts(value.get(name), "cost") for name in ("before", "now")}
    if lost := _counts(value.get("lost"), "cost"):
        found["lost"] = lost
    prices = value.get("prices")
    return found | ({"prices": prices} if _are_prices(prices) else {})


def _are_prices(value: Any) -> bool:
    """Fields of `providers.cost.Prices`."""
    numbers = ("input", "output", "cached", "written")
    habits = ("input_excludes_cached", "output_excludes_reasoning")
    return (
        isinstance(value, dict)
        and value.keys() == {*numbers, *habits}
        and all(_count(value[name]) for name in numbers)
        and all(isinstance(value[name], bool) for name in habits)
    )


def error(value: Any) -> dict[str, Any] | None:
    """The reason why an answer failed."""
    return (
        value
        if isinstance(value, dict)
        and _texts(value, "code", "error")
        and isinstance(value.get("retryable"), bool)
        else None
    )


def _fitting_entries(
    value: Any, fits: Callable[[dict[str, Any]], bool]
) -> list[dict[str, Any]] | None:
    return (
        [entry for entry in value if isinstance(entry, dict) and fits(entry)]
        if isinstance(value, list)
        else None
    )


def _texts(entry: dict[str, Any], *names: str) -> bool:
    return all(isinstance(entry.get(name), str) for name in names)


def _count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _counts(value: Any, *more: str) -> dict[str, int]:
    return (
        {name: value[name] for name in (*TOKEN_FIELDS, *more) if _count(value.get(name))}
        if isinstance(value, dict)
        else {}
    )
