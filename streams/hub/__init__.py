"""The hub: one tail of each followed conversation per process, and a reader's cursor in it."""
