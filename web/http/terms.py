"""The terms of every connection of a process, for requests and WebSockets."""

import asyncio
from dataclasses import dataclass, field

import structlog

from tokenwire.streams.addresses import Addresses
from tokenwire.streams.limits.occupancy import Occupancy
from tokenwire.streams.limits.stalled import Stalled
from tokenwire.web.http.receiving import BodyMemory, MinimumRate

log_line = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ConnectionTerms:
    """The limits of all connections of a process."""

    head_seconds: float
    stalled_seconds: float
    pace: MinimumRate
    addresses: Addresses
    memory: BodyMemory
    open: Occupancy = field(default_factory=lambda: Occupancy(None))

    def name(self, client: tuple[str, int] | None) -> str | None:
        """The name under which a connection is counted."""
        return self.addresses.name(client[0] if client else None)

    def watch(self, transport: asyncio.Transport) -> Stalled:
        """Cut the connection if its client takes nothing of the waiting output."""

        def cut() -> None:
            log_line.info(
                "a client that does not read is cut", unsent=transport.get_write_buffer_size()
            )
            transport.abort()

        return Stalled(transport, self.stalled_seconds, cut)
