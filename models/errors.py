"""What can go wrong with the store, in the words of this project. No exception of the SQL library leaves `models`.

StoreError
  StoreUnavailable     no answer in time (connection, lock, pool): what a write did is not known
  NotFound             no such row, or none that this user may see
  Conflict             the database refused a row that contradicts another
    GenerationRunning  a post was refused because an answer is still being written (policy `reject`)
    KeyReused          an Idempotency-Key came back with another body
  MigrationRefused     the database is at a revision that this version does not know
  BadCursor            a page cursor that no page has given out
"""


class StoreError(Exception):
    """Base; never raised itself."""


class StoreUnavailable(StoreError):
    """The database did not answer in time."""


class NotFound(StoreError):
    """No such row for this user."""


class Conflict(StoreError):
    """The row contradicts another one."""


class GenerationRunning(Conflict):
    """An earlier answer of the conversation has not ended."""


class KeyReused(Conflict):
    """The Idempotency-Key belongs to another body."""


class MigrationRefused(StoreError):
    """The database belongs to another version of the program."""


class BadCursor(StoreError):
    """Not a cursor of this store."""
