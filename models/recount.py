"""`python -m tokenwire.models.recount [--look]`: recount each user's storage from the rows, and
correct the quotas' sums.

The transactions that write rows keep the sum, so it should never be wrong. A partial restore, rows
changed by hand, or an answer that ended uncounted can make it wrong for ever; this corrects it
during operation. It reads all messages once, so an unreadable row must be repaired or deleted
before.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence

from tokenwire.models import quotas
from tokenwire.models.database import Database
from tokenwire.models.errors import StatementFailed, StoreUnavailable
from tokenwire.models.quotas import Drift

QUERY_TIMEOUT_SECONDS = 3600.0
"""Reading every row may take long; nobody waits for it."""


async def recount(database: Database, *, amend: bool = True) -> list[Drift]:
    """The users with a wrong sum. Raises StoreUnavailable. Concurrent posts and deletions are
    counted as always.
    """
    async with database.reading() as session:
        found = await quotas.drifts(session)
    for drift in found if amend else ():
        async with database.writing() as session:
            await quotas.amend(session, drift)
    return found


async def _run(url: str, *, amend: bool) -> list[Drift]:
    database = Database(url, timeout_seconds=QUERY_TIMEOUT_SECONDS)
    try:
        return await recount(database, amend=amend)
    finally:
        await database.aclose()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: one line for each wrong sum. Exit code 0, or 1 if the database is away or cannot
    read a row.
    """
    from tokenwire.config.settings import load

    parser = argparse.ArgumentParser(
        prog="python -m tokenwire.models.recount", description="Count anew what users have stored."
    )
    parser.add_argument("--look", action="store_true", help="only say what is wrong")
    dry_run: bool = parser.parse_args(arguments).look
    try:
        found = asyncio.run(_run(load(needs=["database_url"]).database_url, amend=not dry_run))
    except ValueError as error:
        sys.stderr.write(f"tokenwire: wrong setting: {error}\n")
        return os.EX_CONFIG
    except (StoreUnavailable, StatementFailed) as error:
        sys.stderr.write(f"tokenwire: users cannot be counted: {error.__cause__ or error}\n")
        return 1
    for drift in found:
        sys.stdout.write(f"{drift.user_id}: {drift.counted} bytes counted, {drift.stored} stored\n")
    sys.stdout.write(f"{len(found)} sums {'are wrong' if dry_run else 'were put right'}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
