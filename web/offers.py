"""Which models can be offered right now: those of the catalogue whose key is set, and of local servers those that answer.

Local servers are tried in the background, so that no request waits for one. What the catalogue says is `config.catalogue`'s business, who
answers is `local_servers.py`'s.
"""

import asyncio

from config.catalogue import Catalogue, LocalServer
from web import local_servers
from web.problems import ApiProblem

INTERVAL_SECONDS = 5.0


class Offers:
    """The models on offer, kept up to date by `watch`."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._local = list(set(catalogue.local_servers.values()))
        self._there: set[LocalServer] = set()

    @property
    def default(self) -> str:
        """The model of conversations that name none."""
        return self._catalogue.default

    def names(self) -> list[str]:
        """The models on offer, the default first."""
        return self._catalogue.offered(self._there)

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
        answers = await asyncio.gather(*(local_servers.answers(server, before=server in self._there) for server in self._local))
        self._there = {server for server, answered in zip(self._local, answers, strict=True) if answered}
