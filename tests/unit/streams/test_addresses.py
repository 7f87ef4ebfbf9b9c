"""streams.addresses: under which name a client is counted."""

import pytest

from tokenwire.streams.addresses import Addresses


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("10.1.2.3", None),
        ("::1", None),
        ("unix:", None),
        (None, None),
    ],
)
def test_names(host: str | None, name: str | None) -> None:
    """Proxies have none; of IPv6 the network counts."""
    assert Addresses("10.0.0.0/8, ::1").name(host) == name


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.7", "198.51.100.1", "203.0.113.7"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "6.6.6.6, 198.51.100.1, 10.0.0.2", "198.51.100.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "10.0.0.2", "10.0.0.1"),
    ],
)
def test_clients(peer: str, forwarded: str, client: str) -> None:
    """Whoever is no proxy says nothing that counts; of a chain the last one that is none."""
    assert Addresses("10.0.0.0/8").client(peer, forwarded) == client


def test_what_is_no_address_is_refused() -> None:
    """A wrong setting."""
    with pytest.raises(ValueError, match="nonsense"):
        Addresses("nonsense")
