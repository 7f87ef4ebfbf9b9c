"""Redis errors that mean "not now". The log's client and Dramatiq's broker share this list.

A reachable server may be unable to serve: it loads its data, has reached `maxmemory`, cannot save,
or was demoted to a replica. The first word of its error says so, and nothing was written. Such an
error counts as a lost connection: wait, then try again.
"""

from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import ResponseError

PASSING = (
    "LOADING",
    "READONLY",
    "OOM",
    "MISCONF",
    "BUSY",
    "MASTERDOWN",
    "NOREPLICAS",
    "TRYAGAIN",
    "CLUSTERDOWN",
    "UNKILLABLE",
)
"""Error words of a reachable server that cannot serve now; nothing was written."""


def error_word(error: BaseException) -> str:
    """The first word of a server's error, which identifies it."""
    word = getattr(error, "status_code", None)
    return word if isinstance(word, str) else str(error).partition(" ")[0]


def cannot_serve(error: BaseException) -> bool:
    """Whether the server answered that it cannot serve now. Then close the connection: after a
    failover the address may lead to another server, while the old connection stays with the demoted
    one.
    """
    return isinstance(error, ResponseError | Disconnected) and error_word(error) in PASSING
