"""Work that is of no use once its client has left."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

T = TypeVar("T")


class ClientGone(Exception):
    """The client has left; nobody waits for an answer."""


async def until_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Run `work` and return its result. Cancel it if the client leaves first.

    `receive`: of the request (ASGI), after its body. `work` has ended when this returns. Raises
    ClientGone.
    """
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_departure(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientGone
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _departure(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
