"""One statement for many rows, and the row that the database fails at: it harms itself alone."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from tokenwire.models.errors import StoreUnavailable

T = TypeVar("T")


async def by_halves(
    items: Sequence[T],
    work: Callable[[Sequence[T]], Awaitable[None]],
    refused: Callable[[T, Exception], None],
) -> None:
    """Do `work` with all items; if it fails, with one half after another, until the failing item is
    alone: `refused`.

    Raises StoreUnavailable: an outage belongs to no item. Neither does a statement that took too
    long: no row makes it wait, so the database is slow, and halves would make it slower.
    """
    if not items:
        return
    try:
        await work(items)
    except StoreUnavailable:
        raise
    except Exception as error:  # noqa: BLE001 -- whatever it is: the caller is told, and it must not keep others from being dealt with
        if len(items) == 1:
            refused(items[0], error)
        else:
            half = len(items) // 2
            await by_halves(items[:half], work, refused)
            await by_halves(items[half:], work, refused)
