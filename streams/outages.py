"""Which errors of Redis mean "not now": one list for every client of it, those of the log and that of Dramatiq's broker.

A server can be there and yet not serve: it loads its data, has reached `maxmemory`, cannot save, or was demoted to a replica. It says so
in the first word of its error and has written nothing. Whoever meets such an error treats it like a lost connection: wait, then try again.
"""

from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as Silent

PASSING = ("LOADING", "READONLY", "OOM", "MISCONF", "BUSY", "MASTERDOWN", "NOREPLICAS", "TRYAGAIN", "CLUSTERDOWN", "UNKILLABLE")
"""Error words of a server that is there but cannot serve for the moment; nothing was written."""


def cannot_serve(error: Exception) -> bool:
    """Whether the server answered that it cannot serve now. The connection is better given up: after a failover the address may lead
    to another server, and who stays connected stays with the demoted one."""
    if not isinstance(error, ResponseError | Disconnected):
        return False
    return (error.status_code or str(error).partition(" ")[0]) in PASSING


def is_outage(error: RedisError) -> bool:
    """Whether the same command may succeed later: no connection, no answer, or a server that cannot serve now."""
    return isinstance(error, Disconnected | Silent) or cannot_serve(error)
