"""Pure: under which name the address of a client is counted.

The address of a proxy says nothing about who calls: a request that a trusted proxy names no client for is counted under no address, or
all users of that proxy would share one count. An IPv6 client has a whole /64 to choose from: that is its name.
"""

import ipaddress


class Addresses:
    """`proxies`: addresses and networks of trusted proxies, with commas between; `*` trusts what everybody says."""

    def __init__(self, proxies: str) -> None:
        """Raises ValueError for what is neither an address nor a network."""
        named = [part.strip() for part in proxies.split(",") if part.strip()]
        self._proxies = [ipaddress.ip_network(part, strict=False) for part in named if part != "*"]

    def client(self, peer: str | None, forwarded: str) -> str | None:
        """Who calls: the peer, or where that is a proxy, the last one in `X-Forwarded-For` that is none."""
        listed = [part.strip() for part in forwarded.split(",")]
        return next(
            (host for host in (peer, *reversed(listed)) if host and not self._trusts(host)), peer
        )

    def name(self, host: str | None) -> str | None:
        """The name to count `host` under; None for a proxy, and for what is no address (a Unix socket)."""
        try:
            address = ipaddress.ip_address(host or "")
        except ValueError:
            return None
        if self._trusts(str(address)):
            return None
        if isinstance(address, ipaddress.IPv6Address):
            return str(address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False))
        return str(address)

    def _trusts(self, host: str) -> bool:
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        return any(address in network for network in self._proxies)
