"""Pure: how many workers an answer may kill, and how often it may meet a bug.

Every process that ends answers imports it, web included.
"""

MAX_FAILED_STARTS = 3
"""Starts of an answer in a row that may meet a bug. They are no tries: no provider was asked."""
MAX_DEATHS = 8
"""Deaths in a row. A bad day of deploys and crashes causes fewer for one answer.

The number is small because each death costs the service a worker.
"""
DEADLY = MAX_DEATHS + 2
"""After this many deaths, the answer ends without a read of its log: a worker died of that, too.

Readers get the row's text again.
"""
