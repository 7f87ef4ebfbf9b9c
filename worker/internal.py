"""Pure: how a bug of ours is told to people, and how many workers an answer may kill. Whoever ends answers may load it, web too."""

INTERNAL = "Something went wrong on our side."
INTERNAL_ERROR: dict[str, object] = {
    "code": "internal_error",
    "error": INTERNAL,
    "retryable": False,
}
"""As the row of an answer holds it."""
MAX_DEATHS = 8
"""More than a bad day of deploys and crashes brings to one answer, and few enough for a service that loses a worker to each of them."""
DEADLY = MAX_DEATHS + 2
"""After so many deaths the log is not read for an end either: a worker has died over that, too. Readers are told the row's text anew."""
