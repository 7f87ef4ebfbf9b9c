"""Pure: how many workers an answer may kill, and how often it may meet a bug.

Each process that ends answers loads it, web too.
"""

MAX_FAILED_STARTS = 3
"""So many starts of an answer in a row may meet a bug. They are no tries: no provider was asked."""
MAX_DEATHS = 8
"""More than a bad day of deploys and crashes causes for one answer, and few enough for a service
that loses a worker each time.
"""
DEADLY = MAX_DEATHS + 2
"""After this many deaths the log is not read for an end either: a worker has died over that, too.
Readers get the row's text again.
"""
