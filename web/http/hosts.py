"""The host names of this server, and the broadcaster's address for browsers.

Another site's name may resolve to this machine (DNS rebinding): then the browser treats this server
as part of that site, and sends its requests with that name as `Host`. In development, without a
login, only names that cannot be another site's are answered: localhost, loopback addresses, the
address that the server listens on, and ALLOWED_HOSTS. In production ALLOWED_HOSTS counts if it is
set. An unknown name never appears in an address of an answer.
"""

import re
from ipaddress import ip_address
from urllib.parse import urlsplit

from tokenwire.config.settings import Settings
from tokenwire.web.problems import ApiProblem

_NAME = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<name>[0-9A-Za-z._-]+))(?::[0-9]{1,5})?")


class Hosts:
    """The names of one server."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._named = {name.lower() for name in settings.hosts}
        self._strict = settings.mode == "development" or bool(self._named)

    @property
    def has_name(self) -> bool:
        """Whether the broadcaster's address can be given to remote browsers."""
        return self._settings.mode == "development" or bool(
            self._named or self._settings.broadcaster_url
        )

    def answers_to(self, header: str) -> bool:
        """Whether a request with this `Host` is answered."""
        return not self._strict or self.known(header)

    def known(self, header: str) -> bool:
        """Whether the name is this server's own."""
        name = _name(header)
        return name is not None and (
            name in self._named or name == self._settings.host or _is_local(name)
        )

    def broadcaster(self, scheme: str, header: str) -> str:
        """BROADCASTER_URL, else the request's host with the broadcaster's port. Raises ApiProblem
        (400, 421).
        """
        settings = self._settings
        if settings.broadcaster_url is not None:
            return settings.broadcaster_url.rstrip("/")
        name = _name(header)
        if name is None:
            raise ApiProblem("bad_request", "The Host header is not a host.")
        if not self.known(header):
            raise ApiProblem(
                "unknown_host",
                "The broadcaster's address is unknown: set BROADCASTER_URL or ALLOWED_HOSTS.",
            )
        secure = "wss" if scheme == "https" else "ws"
        return f"{secure}://{f'[{name}]' if ':' in name else name}:{settings.broadcaster_port}"

    def broadcaster_origin(self, scheme: str, header: str) -> str | None:
        """The same without a path, for a page's security policy (which cannot name IPv6); None if
        it is unknown.
        """
        try:
            address = urlsplit(self.broadcaster(scheme, header))
        except ApiProblem:
            return None
        return (
            f"{address.scheme}:"
            if "[" in address.netloc
            else f"{address.scheme}://{address.netloc}"
        )


def _name(header: str) -> str | None:
    """The host of a `Host` header in lower case, without its port; None if it is invalid."""
    found = _NAME.fullmatch(header)
    return None if found is None else (found["six"] or found["name"]).lower()


def _is_local(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):  # browsers never resolve these by DNS
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
