"""Runs one statement for many rows, and isolates a row that the database fails at."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from tokenwire.models.errors import StoreUnavailable

T = TypeVar("T")


async def by_halves(
    items: Sequence[T],
    work: Callable[[Sequence[T]], Awaitable[None]],
    refused: Callable[[T, Exception], None],
) -> None:
    """Do `work` with all items. If it fails, do it with each half, until the failing item is alone.

    `refused` is called for that item. Raises StoreUnavailable: an outage is no item's fault. Nor is
    a statement that took too long: no row makes it wait, so the database is slow, and more
    statements would make it slower.
    """
    if not items:
        return
    try:
        await work(items)
    except StoreUnavailable:
        raise
    # `refused` gets any error, and the other items continue.
    except Exception as error:  # noqa: BLE001
        if len(items) == 1:
            refused(items[0], error)
        else:
            half = len(items) // 2
            await by_halves(items[:half], work, refused)
            await by_halves(items[half:], work, refused)
