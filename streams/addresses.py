"""Pure: the name under which a client's address is counted.

A proxy's address says nothing about the caller: a request without a client from a trusted proxy
counts under no address, or all users of the proxy would share one count. An IPv6 client may use a
whole /64, so that is its name.
"""

import ipaddress


class Addresses:
    """`proxies`: addresses and networks of trusted proxies, separated by commas; `*` trusts every
    header.
    """

    def __init__(self, proxies: str) -> None:
        """Raises ValueError for anything that is neither an address nor a network."""
        named = [part.strip() for part in proxies.split(",") if part.strip()]
        self._proxies = [ipaddress.ip_network(part, strict=False) for part in named if part != "*"]

    def client(self, peer: str | None, forwarded: str) -> str | None:
        """The caller's address: the peer's, unless the peer is a trusted proxy.

        Behind proxies it is the last address in `X-Forwarded-For` that is no trusted proxy.
        """
        listed = [part.strip() for part in forwarded.split(",")]
        return next(
            (host for host in (peer, *reversed(listed)) if host and not self._trusts(host)), peer
        )

    def name(self, host: str | None) -> str | None:
        """The name to count `host` under; None for a proxy, and for a non-address (a Unix
        socket).
        """
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
