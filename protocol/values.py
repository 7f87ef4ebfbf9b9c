"""Pure: JSON values."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any


def timestamp(milliseconds: int) -> str:
    """`2026-08-01T12:00:00.123Z`."""
    return (
        datetime.fromtimestamp(milliseconds / 1000, UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )


def optional_timestamp(milliseconds: int | None) -> str | None:
    """The same, or None."""
    return None if milliseconds is None else timestamp(milliseconds)


def present(**fields: Any) -> dict[str, Any]:
    """The fields that are not None."""
    return {name: value for name, value in fields.items() if value is not None}


def brought_by(part: Mapping[str, Any]) -> Sequence[str]:
    """The ids of the users' messages that reached the model with the part of these fields."""
    names: Sequence[str] = part.get("message_ids", ())
    return names
