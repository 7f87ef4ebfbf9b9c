"""Housekeeping of a web process: every hour expired rows are deleted, each kind independently.

The first time comes at a random moment within a minute of the start: otherwise processes that a
deploy replaces each hour would never clean, and processes that start together would clean together.
"""

import asyncio
import random

import structlog

from tokenwire.config.background import failed
from tokenwire.models.errors import StoreError
from tokenwire.models.store import Store
from tokenwire.streams.log.ports import Log

log_line = structlog.get_logger(__name__)
FIRST_SECONDS = 60.0
PERIOD_SECONDS = 3600.0
_sleep = asyncio.sleep


async def keep_house(store: Store, log: Log) -> None:
    """Delete expired rows once an hour, until cancelled."""
    await _sleep(random.uniform(0, FIRST_SECONDS))  # noqa: S311 -- spreads load, guards nothing
    while True:
        await clean(store, log)
        await _sleep(PERIOD_SECONDS)


async def clean(store: Store, log: Log) -> None:
    """Delete what has expired. A kind that fails is logged and tried again next time."""
    for forget in (
        store.forget_keys,
        store.forget_unlisted,
        lambda: store.forget_deleted(int(log.tombstone_seconds * 1000)),
    ):
        try:
            await forget()
        except StoreError as error:
            log_line.warning("expired data was not deleted", error=repr(error))
        except Exception as error:  # noqa: BLE001 -- a bug in one of them: counted and logged
            failed("housekeeping", error)
