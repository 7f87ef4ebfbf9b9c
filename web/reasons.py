"""Pure: why a stream ends before its answer, in the words of every dialect."""

EXPIRED = "The login has expired."
REMOVED = "You take no part in this conversation any more."
