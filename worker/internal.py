"""Pure: how a bug of ours is told to people."""

INTERNAL = "Something went wrong on our side."
INTERNAL_ERROR: dict[str, object] = {"code": "internal_error", "error": INTERNAL, "retryable": False}
"""As the row of an answer holds it."""
