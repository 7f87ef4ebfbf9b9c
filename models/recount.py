"""`python -m tokenwire.models.recount [--look]`: recount what each user has stored and how many
messages each conversation has, and correct the quotas' sums and `message_count`.

The transactions that write rows keep both, so they should never be wrong. A partial restore, rows
changed by hand or by an earlier version, or an answer that ended uncounted can make them wrong for
ever; this corrects them during operation. It reads all messages once, so an unreadable row must be
repaired or deleted before.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence

from tokenwire.models import conversation_rows, quotas
from tokenwire.models.conversation_rows import Miscount
from tokenwire.models.database import Database
from tokenwire.models.errors import StatementFailed, StoreUnavailable
from tokenwire.models.quotas import Drift

QUERY_TIMEOUT_SECONDS = 3600.0
"""Reading every row may take long; nobody waits for it."""


async def recount(database: Database, *, amend: bool = True) -> list[Drift | Miscount]:
    """The users with a wrong sum, and the conversations with a wrong count. Raises
    StoreUnavailable. Concurrent posts and deletions are counted as always.
    """
    async with database.reading() as session:
        found: list[Drift | Miscount] = [*await quotas.drifts(session)]
        found += await conversation_rows.miscounts(session)
    for one in found if amend else ():
        async with database.writing() as session:
            if isinstance(one, Drift):
                await quotas.amend(session, one)
            else:
                await conversation_rows.amend_count(session, one)
    return found


async def _run(url: str, *, amend: bool) -> list[Drift | Miscount]:
    database = Database(url, timeout_seconds=QUERY_TIMEOUT_SECONDS)
    try:
        return await recount(database, amend=amend)
    finally:
        await database.aclose()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: one line for each wrong sum or count. Exit code 0, or 1 if the database is away
    or cannot read a row.
    """
    from tokenwire.config.settings import load

    parser = argparse.ArgumentParser(
        prog="python -m tokenwire.models.recount",
        description="Count anew what users and conversations have.",
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
    for one in found:
        name, unit = (
            (one.user_id, "bytes") if isinstance(one, Drift) else (one.conversation_id, "messages")
        )
        sys.stdout.write(f"{name}: {one.counted} {unit} counted, {one.stored} stored\n")
    sys.stdout.write(f"{len(found)} sums {'are wrong' if dry_run else 'were put right'}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
