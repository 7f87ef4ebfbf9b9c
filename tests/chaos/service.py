"""The HTTP tools of a run: a service in the driver's process, which writes each run down like the
others. A caller that dies does not end a run.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.chaos.tools import PARAMETERS, Line, result

PATH = "/tool/{name}"
PAUSE_SECONDS = 0.4
REPLY_SECONDS = 0.03
"""Between the end of a run and its reply: an aimed kill may fall there."""
_TOOLS: Mapping[str, Mapping[str, bool]] = {
    "ring": {},
    "fetch": {"repeatable": True},
    "order": {"approve": True},
}


def entries(base: str) -> dict[str, dict[str, Any]]:
    """The catalogue's section `tools`. `base`: where the service answers."""
    common = {"description": "A service.", "parameters": PARAMETERS, "secret": f"whsec_{'A' * 32}"}
    return {
        name: {**common, "url": base + PATH.format(name=name), **more}
        for name, more in _TOOLS.items()
    }


class Service:
    """Answers the calls, and writes them to the file of the tools."""

    def __init__(self, file: Path) -> None:
        self._file = file

    async def handle(self, request: web.Request) -> web.Response:
        """One call, to its end."""
        data = (await request.json())["data"]
        peer = request.transport.get_extra_info("peername") if request.transport else ("", 0)
        return web.json_response(await asyncio.shield(self._run(data, peer[1])))

    async def _run(self, data: Mapping[str, Any], port: int) -> str:
        key, run = data["key"], data["run"]
        for word, seconds in (("begin", PAUSE_SECONDS), ("end", REPLY_SECONDS)):
            place = data["arguments"]["place"]
            line = Line(word, key, run, data["name"], -port, data["message_id"], place)
            line.write(self._file)
            await asyncio.sleep(seconds)
        return result(key, run)
