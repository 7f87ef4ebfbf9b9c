"""The models on offer: those of the catalogue whose key is set and, for local servers, those that
answer. And what is known of the server's tools.

Local servers are probed in the background, so that no request waits for one. `providers.catalogue`
reads the catalogue, `local_servers.py` probes.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tokenwire.models.tool_choices import ToolChoices, usable
from tokenwire.providers import parameters
from tokenwire.providers.catalogue import Catalogue, LocalServer
from tokenwire.web import local_servers
from tokenwire.web.local_servers import ProbeResult
from tokenwire.web.problems import ApiProblem

INTERVAL_SECONDS = 5.0
FIRST_PROBES = 3
"""Maximum of probes before the process serves: on a busy machine the first may time out although
the server is there.
"""
PATIENCE = 2
"""Failed probes of a known server before its models are withdrawn. Workers retry for longer."""


class Offers:
    """The models on offer, kept up to date by `watch`."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._local = list(set(catalogue.local_servers.values()))
        self._there: set[LocalServer] = set()
        self._missed: Counter[LocalServer] = Counter()
        self._tools = dict.fromkeys(catalogue.tools, False)
        self._tools |= dict.fromkeys(catalogue.client_tools, True)
        self._reported: Mapping[str, bool] = {}

    @property
    def default(self) -> str:
        """The model of conversations without one."""
        return self._catalogue.default

    def names(self) -> list[str]:
        """The models on offer, the default first."""
        return self._catalogue.offered(self._there)

    def require(self, name: str | None) -> str:
        """The model for a name (None: the default). Raises ApiProblem with the models on offer: 503
        `model_unavailable` if its local server does not answer, so that a retry may help; else 422
        `unknown_model`.
        """
        wanted = self.default if name is None else name
        offered = self.names()
        if wanted in offered:
            return wanted
        listed = ", ".join(offered) or "none at the moment"
        if wanted in self._catalogue.local_servers:
            headers = {"Retry-After": str(math.ceil(INTERVAL_SECONDS))}
            raise ApiProblem(
                "model_unavailable",
                f"The server of this model does not answer. Offered: {listed}.",
                headers,
                offered=offered,
            )
        variable = self._catalogue.missing.get(wanted)
        reason = (
            f"This model needs {variable}, which is not set here"
            if variable
            else "There is no such model here"
        )
        raise ApiProblem("unknown_model", f"{reason}. Offered: {listed}.", offered=offered)

    def require_taken(self, model: str, options: Mapping[str, Any], field: str = "options") -> None:
        """Raises ApiProblem (422 `unsupported_parameter`) for the first parameter that a model of
        the catalogue does not take. `field`: where the parameters stand in the request.
        """
        refused = self.refusal(model, options)
        if refused is not None:
            place = f"{field}.{refused.parameter}"
            errors = [{"field": place, "message": refused.reason}]
            raise ApiProblem(
                "unsupported_parameter", refused.reason, errors=errors, parameter=refused.parameter
            )

    def require_tools(
        self, model: str, allowed: Sequence[str] | None, choices: ToolChoices, field: str
    ) -> None:
        """Raises ApiProblem (422 `unknown_tool`) for the first tool of the server that the request
        names, and that the catalogue's entry or the conversation (`allowed`) leaves out.

        Which tools the server has, only workers know.
        """
        spec = self._catalogue.models.get(model)
        for only in (spec.tools if spec else None, allowed):
            for name in choices.use or ():
                if only is not None and name not in only:
                    words = f"{name} is not among the tools here: {', '.join(only) or 'none'}."
                    errors = [{"field": field, "message": words}]
                    raise ApiProblem("unknown_tool", words, errors=errors, tool=name)

    def note_tools(self, names: Mapping[str, bool]) -> None:
        """Those that workers have reported; True: a client executes the tool."""
        self._reported = names

    def usable_tools(
        self, model: str, allowed: Sequence[str] | None, choices: ToolChoices, *, listed: bool
    ) -> set[str]:
        """The names of the server's tools that an answer may use, as far as they are known: those
        of modules and of MCP servers only while a worker reports them. `allowed`: of the
        conversation.
        """
        spec = self._catalogue.models.get(model)
        lists = (spec.tools if spec else None, allowed)
        return usable({**self._tools, **self._reported}, lists, choices, listed=listed)

    def refusal(self, model: str, options: Mapping[str, Any]) -> parameters.Refusal | None:
        """The first parameter that a model of the catalogue does not take."""
        spec = self._catalogue.models.get(model)
        return parameters.refusal_by(spec, options) if spec else None

    async def probe_until_found(self) -> None:
        """Before the first request: probe the local servers until all answer, a limited number of
        times.
        """
        for _ in range(FIRST_PROBES):
            await self.probe()
            if len(self._there) == len(self._local):
                return

    async def watch(self) -> None:
        """Probe the local servers regularly, for ever."""
        while True:
            await asyncio.sleep(INTERVAL_SECONDS)
            await self.probe()

    async def probe(self) -> None:
        """Probe the local servers once."""
        found = await asyncio.gather(*(local_servers.probe(server) for server in self._local))
        self._there = {
            server
            for server, what in zip(self._local, found, strict=True)
            if self._is_present(server, what)
        }

    def _is_present(self, server: LocalServer, found: ProbeResult) -> bool:
        """Whether it counts as present. A known server may miss a few probes: it restarts, or this
        process was paused.
        """
        self._missed[server] = self._missed[server] + 1 if found is ProbeResult.NOBODY else 0
        if found is ProbeResult.NOBODY and self._missed[server] > PATIENCE:
            return False
        return found is ProbeResult.MEANT or (
            found is not ProbeResult.ANOTHER and server in self._there
        )
