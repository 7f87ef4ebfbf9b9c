"""One attempt: from a claim to the end of an answer, or to the next attempt."""
