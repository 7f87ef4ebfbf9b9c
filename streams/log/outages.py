"""Which errors of Redis mean "not now": one list for every client of it, those of the log and that of Dramatiq's broker.

A server can be there and yet not serve: it loads its data, has reached `maxmemory`, cannot save, or was demoted to a replica. It says so
in the first word of its error and has written nothing. Whoever meets such an error treats it like a lost connection: wait, then try again.
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
"""Error words of a server that is there but cannot serve for the moment; nothing was written."""


def error_word(error: BaseException) -> str:
    """The first word of a server's error, by which errors are told apart."""
    word = getattr(error, "status_code", None)
    return word if isinstance(word, str) else str(error).partition(" ")[0]


def cannot_serve(error: BaseException) -> bool:
    """Whether the server answered that it cannot serve now. The connection is better given up: after a failover the address may lead
    to another server, and who stays connected stays with the demoted one."""
    return isinstance(error, ResponseError | Disconnected) and error_word(error) in PASSING
