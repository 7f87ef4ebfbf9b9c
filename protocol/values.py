"""Pure: JSON values."""

from datetime import UTC, datetime
from typing import Any


def timestamp(milliseconds: int) -> str:
    """`2026-08-01T12:00:00.123Z`."""
    return (
        datetime.fromtimestamp(milliseconds / 1000, UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )


def present(**fields: Any) -> dict[str, Any]:
    """The fields that are not None."""
    return {name: value for name, value in fields.items() if value is not None}
