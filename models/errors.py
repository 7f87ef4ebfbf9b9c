"""What can go wrong with the store, in the words of this project. No exception of the SQL library leaves `models`.

StoreError
  StoreUnavailable     no answer in time (connection, lock, pool): what a write did is not known
    GivenUp            the database lives, and gave this one transaction up (a lock, a deadlock, its own time limit)
  StatementFailed      the database lives, and fails at this statement: a damaged row, a limit of one row; nothing was written
  Unstorable           a value that a column cannot hold; nothing was written
    FileTooLong        a file of an answer has more bytes than one may have
  NotFound             no such row, or none that this user may see
  NotAuthor            a message of somebody else would have to be changed or taken out
  Conflict             the database refused a row that contradicts another
    AnswerRunning  a post was refused because an answer is still being written (policy `reject`)
    TooManyParticipants  as many people as may take part or are invited
    KeyReused          an Idempotency-Key came back with another body
  QuotaReached         a limit on what one user may have; never raised itself
    TooManyQueued      as many posts wait in the conversation as may
    TooManyUnfinished  as many answers of the user are unfinished as may be
    StorageFull        the user has stored as much as they may
    HistoryTooLong     there is more text before an answer than any model is sent
  MigrationRefused     the database is at a revision that this version does not know
  BadCursor            a page cursor that no page has given out
"""


class StoreError(Exception):
    """Base; never raised itself."""


class StoreUnavailable(StoreError):
    """The database did not answer in time."""


class GivenUp(StoreUnavailable):
    """The database lives, and gave this transaction up: it waited too long for a lock, met a deadlock, or took too long itself.

    Whoever deals with many rows goes on with the others; for everybody else it is an outage that may be over at the next try.
    """


class StatementFailed(StoreError):
    """The database lives, and fails at this statement, now and later: a row is damaged, or meets a limit. Waiting does not help.

    Whoever deals with many rows goes on with the others. The message holds a code and never what the database says: it may quote a row.
    """


class Unstorable(StoreError):
    """A value that a column cannot hold. Its message names the kind of failure and never the value."""


class FileTooLong(Unstorable):
    """A file of an answer has more bytes than one may have."""


class NotFound(StoreError):
    """No such row for this user."""


class NotAuthor(StoreError):
    """Another person's message is not the caller's to change."""


class Conflict(StoreError):
    """The row contradicts another one."""


class AnswerRunning(Conflict):
    """An earlier answer of the conversation has not ended."""


class TooManyParticipants(Conflict):
    """As many people as may take part or are invited."""


class KeyReused(Conflict):
    """The Idempotency-Key belongs to another body."""


class QuotaReached(StoreError):
    """A limit on what one user may have."""


class TooManyQueued(QuotaReached):
    """As many posts wait in the conversation as may."""


class TooManyUnfinished(QuotaReached):
    """As many answers of the user are unfinished as may be."""


class StorageFull(QuotaReached):
    """The user has stored as much as they may."""


class TooManyInvitations(QuotaReached):
    """As many invitations by, or for, the user wait for an answer as may."""


class HistoryTooLong(QuotaReached):
    """There is more text before the answer than any model is sent."""


class MigrationRefused(StoreError):
    """The database belongs to another version of the program."""


class BadCursor(StoreError):
    """Not a cursor of this store."""
