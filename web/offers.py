"""Which models can be offered right now: those of the catalogue whose key is set, and of local servers those that answer.

Local servers are tried by a TCP connect in the background, so that no request waits for one. What the catalogue says is
`config.catalogue`'s business.
"""

import asyncio
import contextlib

from config.catalogue import Catalogue
from web.problems import ApiProblem

PROBE_SECONDS = 0.3
"""A local server that takes longer to accept a connection is not there."""
INTERVAL_SECONDS = 5.0

Address = tuple[str, int]


class Offers:
    """The models on offer, kept up to date by `watch`."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._addresses = set(catalogue.probes.values())
        self._reachable: set[Address] = set()

    @property
    def default(self) -> str:
        """The model of conversations that name none."""
        return self._catalogue.default

    def names(self) -> list[str]:
        """The models on offer, the default first."""
        return self._catalogue.offered(self._reachable)

    def require(self, name: str | None) -> str:
        """The model to use for a name (None: the default). Raises ApiProblem (422 `unknown_model`) listing those on offer."""
        wanted = self.default if name is None else name
        offered = self.names()
        if wanted not in offered:
            listed = ", ".join(offered) or "none at the moment"
            raise ApiProblem("unknown_model", f"There is no such model here. Offered: {listed}.", offered=offered)
        return wanted

    async def watch(self) -> None:
        """Try the local servers now and then, for ever."""
        while True:
            await asyncio.sleep(INTERVAL_SECONDS)
            await self.probe()

    async def probe(self) -> None:
        """Try the local servers once."""
        addresses = list(self._addresses)
        answers = await asyncio.gather(*(_answers(address) for address in addresses))
        self._reachable = {address for address, answered in zip(addresses, answers, strict=True) if answered}


async def _answers(address: Address) -> bool:
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            _reader, writer = await asyncio.open_connection(*address)
    except OSError:  # refused, unknown host, too slow
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True
