"""Errors of the store. No exception of the SQL library leaves `models`.

StoreError
  StoreUnavailable     no answer in time (connection, lock, pool); a write may have succeeded
    GivenUp            the database works, and gave up this transaction (lock, deadlock, time limit)
  StatementFailed      the database works, and this statement fails: a damaged row, a limit of a
                       row; nothing was written
  Unstorable           a value that a column cannot hold; nothing was written
    FileTooLong        a file of an answer exceeds the limit
  NotFound             no such row, or none that this user may see
  NotAuthor            another user's message would be changed or superseded
  NotDecider           the user may not decide about the calls of this answer
  Conflict             the database refused a row that contradicts another
    AnswerRunning      an answer has not ended (policy `reject`)
    TooManyParticipants  the maximum of participants and invitations
    KeyReused          an Idempotency-Key came back with another body
    NotAwaited         the call does not await this decision
      AlreadyDecided     another decision came first
      DecisionExpired    the time for a decision is over
      AnswerEnded        the answer has ended, is cancelled or superseded
  QuotaReached         a limit of one user; never raised itself
    TooManyQueued      the maximum of waiting posts in the conversation
    TooManyUnfinished  the maximum of the user's unfinished answers
    TooManyWaiting     the maximum of the user's answers that wait for a decision
    TooManyInvitations  the maximum of open invitations by a user, or for one
    StorageFull        the user has stored the maximum
    HistoryTooLong     the text before an answer exceeds the limit
  MigrationRefused     the database has a revision that this version does not know
  BadCursor            a page cursor that no page has returned
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenwire.models.tables import CallDecision, CallRow


class StoreError(Exception):
    """Base class; never raised itself."""


class StoreUnavailable(StoreError):
    """The database did not answer in time."""


class GivenUp(StoreUnavailable):
    """The database works, and gave this transaction up: a lock, a deadlock, or its time limit.

    Code that writes many rows continues with the others; for other code it is an outage that may be
    over at the next try.
    """


class StatementFailed(StoreError):
    """The database works, and this statement always fails: a row is damaged or meets a limit.
    Waiting does not help.

    Code that writes many rows continues with the others. The message holds a code and never the
    database's text, which may quote a row.
    """


class Unstorable(StoreError):
    """A value that a column cannot hold. Its message names the kind of failure and never the
    value.
    """


class FileTooLong(Unstorable):
    """A file of an answer exceeds the limit."""


class NotFound(StoreError):
    """No such row for this user."""


class NotAuthor(StoreError):
    """Another person's message is not the caller's to change."""


class NotDecider(StoreError):
    """Only the owner, and whoever is answered, may decide about calls."""


class Conflict(StoreError):
    """The row contradicts another one."""


class AnswerRunning(Conflict):
    """An earlier answer of the conversation has not ended."""


class TooManyParticipants(Conflict):
    """The conversation has the maximum of participants and invitations."""


class KeyReused(Conflict):
    """The Idempotency-Key belongs to another body."""


class NotAwaited(Conflict):
    """The call does not await this decision."""


class AlreadyDecided(NotAwaited):
    """Another decision came first: `record`, about `call`."""

    def __init__(self, call: "CallRow", record: "CallDecision") -> None:
        super().__init__(f"{call.message_id}/{call.number}")
        self.call, self.record = call, record


class DecisionExpired(NotAwaited):
    """The time for a decision is over."""


class AnswerEnded(NotAwaited):
    """The answer has ended, is cancelled or superseded: nobody waits for the decision."""


class QuotaReached(StoreError):
    """A limit of one user."""


class TooManyQueued(QuotaReached):
    """The conversation has the maximum of waiting posts."""


class TooManyUnfinished(QuotaReached):
    """The user has the maximum of unfinished answers."""


class TooManyWaiting(QuotaReached):
    """The user has the maximum of answers that wait for a decision."""


class StorageFull(QuotaReached):
    """The user has stored the maximum."""


class TooManyInvitations(QuotaReached):
    """Too many open invitations by the user, or for the user."""


class HistoryTooLong(QuotaReached):
    """The text before the answer exceeds the limit."""


class MigrationRefused(StoreError):
    """The database belongs to another version of the program."""


class BadCursor(StoreError):
    """Not a cursor of this store."""
