"""The services that web processes and workers need, and their checks (start, `/readyz`)."""

from typing import NamedTuple

from tokenwire.config.startup import Check
from tokenwire.models.store import Store
from tokenwire.streams.log import ports


class Need(NamedTuple):
    """The checks of one service, one for reads and one for writes.

    A full disk, or a Redis at its `maxmemory`, answers every read and refuses every write.
    """

    answers: Check
    writes: Check


def needs(store: Store, log: ports.Log) -> dict[str, Need]:
    """The needed services, by their names in log lines and in `/readyz`."""
    return {
        "database": Need(store.check, store.check_write),
        "redis": Need(log.check, log.check_write),
    }
