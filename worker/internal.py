"""Pure: how people learn of a bug of ours, and how many workers an answer may kill. Any process
that ends answers may load it, even web.
"""

INTERNAL = "Something went wrong on our side."
INTERNAL_ERROR: dict[str, object] = {
    "code": "internal_error",
    "error": INTERNAL,
    "retryable": False,
}
"""As the row of an answer holds it."""
MAX_DEATHS = 8
"""More than a bad day of deploys and crashes causes for one answer, and few enough for a service
that loses a worker each time.
"""
DEADLY = MAX_DEATHS + 2
"""After this many deaths the log is not read for an end either: a worker has died over that, too.
Readers get the row's text again.
"""
