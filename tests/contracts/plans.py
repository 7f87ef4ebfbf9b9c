"""How the database answers the statements that a store made.

On PostgreSQL each statement is prepared and explained with its generic plan: for the values of a
test the planner would find out that nothing fits, and plan no access at all. A table of a few rows
is always read whole, so sequential scans are switched off. A plan that still has one, or that reads
a whole index, found no index for its conditions. For a condition on a later column alone PostgreSQL
also reads the whole index.
"""

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncConnection

from tokenwire.models.store import Store

_BY_INDEX = ("Index Scan", "Index Only Scan", "Bitmap Index Scan")
_PARAMETER = re.compile(r"%\((\w+)\)s")


@contextmanager
def recorded(store: Store) -> Iterator[list[str]]:
    """The statements of the block, as the driver gets them."""
    ran: list[str] = []

    def note(_c: Any, _s: Any, statement: str, _p: Any, _x: Any, _m: Any) -> None:
        ran.append(statement)

    engine = store._engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield ran
    finally:
        event.remove(engine, "before_cursor_execute", note)


async def without_index(store: Store, statements: Collection[str]) -> list[str]:
    """Steps that read a whole table or a whole index, each with its statement."""
    found = []
    async with store.reading(by_index=True) as session:
        connection = await session.connection()
        for statement in sorted({*statements}):
            steps = await (_sqlite if store.is_sqlite else _postgresql)(connection, statement)
            found += [f"{step}: {statement}" for step in steps]
    return found


async def _sqlite(connection: AsyncConnection, statement: str) -> list[str]:
    nulls = statement.replace("?", "NULL")  # values change no plan there
    rows = (await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {nulls}")).all()
    steps = [str(row[-1]) for row in rows]
    return [step for step in steps if step.startswith("SCAN") and "CONSTANT ROW" not in step]


async def _postgresql(connection: AsyncConnection, statement: str) -> list[str]:
    names = list(dict.fromkeys(_PARAMETER.findall(statement)))
    numbered = _PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}", statement)
    nulls = f"({', '.join(['NULL'] * len(names))})" if names else ""
    await connection.exec_driver_sql("SET LOCAL plan_cache_mode = force_generic_plan")
    await connection.exec_driver_sql(f"PREPARE explained AS {numbered}")
    told = await connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) EXECUTE explained{nulls}")
    plan = told.scalar_one()[0]["Plan"]
    await connection.exec_driver_sql("DEALLOCATE explained")
    return [
        f"{node['Node Type']} of {node.get('Relation Name') or node.get('Index Name')}"
        for node in _nodes(plan)
        if not await _is_selective(connection, node)
    ]


async def _is_selective(connection: AsyncConnection, node: dict[str, Any]) -> bool:
    if node["Node Type"] not in _BY_INDEX:
        return bool(node["Node Type"] != "Seq Scan")
    first = f"SELECT pg_get_indexdef('{node['Index Name']}'::regclass, 1, true)"
    column = (await connection.exec_driver_sql(first)).scalar_one()
    return column in node.get("Index Cond", "")


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for each in plan.get("Plans", ()):
        yield from _nodes(each)
