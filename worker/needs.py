"""What web processes and workers need, and how to check it: at their start, and by `/readyz`."""

from typing import NamedTuple, Protocol, cast

from tokenwire.config.startup import Check
from tokenwire.models.store import Store
from tokenwire.streams.log import ports


class Need(NamedTuple):
    """The checks of one service: a full disk, or a Redis at its `maxmemory`, answers every read
    while it refuses every write.
    """

    answers: Check
    writes: Check


class _Checked(Protocol):
    """A log that can say what is wrong with its server (None: nothing)."""

    async def check(self) -> str | None: ...
    async def check_write(self) -> str | None: ...


def needs(store: Store, log: ports.Log) -> dict[str, Need]:
    """Each service, by the name that the log and `/readyz` give it."""
    checked = cast("_Checked", log)
    return {
        "database": Need(store.check, store.check_write),
        "redis": Need(checked.check, checked.check_write),
    }
