"""Finds what readers hold of an answer, and repairs a log that forked or began again.

What is known without the log (a row, the text of a running attempt, a committed ending) has a
cursor. If the log still has that cursor, its later events are folded over what is known: this is
what readers hold. A log that lost the cursor may lack the end of the text. Then this module finds
what survived, and appends the difference as ordinary events. Only if that is unknown, it appends
the whole text again behind a `reset`.

Guarantees: afterwards the log ends in exactly the answer that is returned, so the next event fits.
Readers lose text to a `reset` only if nobody can know what they hold.

Rejected: a `reset` after each fork (the text would vanish and come again for every reader); the row
alone (readers may hold text that no checkpoint has saved).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from tokenwire.models.call_states import StoredCall
from tokenwire.models.parts import answer_of
from tokenwire.models.tables import Message
from tokenwire.protocol.cursors import Cursor
from tokenwire.protocol.events import Entry, PartEvent, Start
from tokenwire.protocol.fold import Answer
from tokenwire.protocol.replay import begins, catch_up
from tokenwire.streams.log import ports
from tokenwire.worker.attempt.rounds import differences
from tokenwire.worker.resume.continuation import (
    Held,
    folded,
    folded_whole,
    mark_lost,
    still_proven,
)

log_line = structlog.get_logger(__name__)
PAGE_EVENTS = 500


@dataclass(frozen=True, slots=True)
class Known:
    """What is known without the log. `held.seq` counts in `epoch` (None: no log ever held it)."""

    held: Held
    epoch: str | None


def saved_in(row: Message) -> Held:
    """What the row holds. Readers may hold less."""
    answer = answer_of(row)
    return Held(answer, row.seq, still_proven(answer.parts, row.proven_parts))


def _with_calls(held: Held, calls: Sequence[StoredCall], attempt: int) -> Held:
    """What readers hold once they have what rows hold of the calls."""
    changes = list(differences(held.answer, calls))
    if not changes:
        return held
    answer = held.answer.copy()
    for part, fields in changes:
        answer.apply(PartEvent(answer.id, attempt, part, {"type": "tool_call", **fields}))
    return held._replace(answer=answer)


async def recover(
    log: ports.Log,
    row: Message,
    claim: ports.Claim,
    lease_seconds: float,
    calls: Sequence[StoredCall] = (),
) -> tuple[ports.Claim, Held]:
    """What the holder of `claim` resumes from: what readers hold, or the row if it has more.

    Also returns the claim to use from now on (batch index 0). `calls`: of an answer that is about
    to end. What readers lack of them is appended.

    Raises like `Log.read` and `Log.adopt`.
    """
    known = Known(saved_in(row), row.epoch)
    while True:
        try:
            found = await _read_log(log, claim, known)
            proven = still_proven(found.newest.answer.parts, known.held.proven)
            newest = found.newest._replace(proven=proven)
            mark_lost(known.held.answer, newest, row.run_parts or 0)
            shown = _with_calls(newest, calls, claim.attempt)
            is_there = found.survived == found.newest and shown is newest
            if found.epoch == claim.epoch and is_there:
                return claim, newest
            return await _adopt(log, claim, found, shown, lease_seconds)
        except ports.Lost:
            log_line.info("the log changed while it was read", message_id=row.id)


async def recover_anyway(
    log: ports.Log,
    row: Message,
    claim: ports.Claim,
    lease_seconds: float,
    calls: Sequence[StoredCall],
) -> tuple[ports.Claim, Held]:
    """The same, for an end that must come. If log and row do not fit, readers get the row's text.

    Raises like `Log.read` and `Log.adopt`, and nothing else.
    """
    try:
        return await recover(log, row, claim, lease_seconds, calls)
    except ports.LogError:
        raise
    except Exception:  # after any error: this log cannot be continued
        log_line.exception("the log does not continue the row", message_id=row.id)
    return await restate(log, row, claim, lease_seconds, calls)


async def restate(
    log: ports.Log,
    row: Message,
    claim: ports.Claim,
    lease_seconds: float,
    calls: Sequence[StoredCall],
) -> tuple[ports.Claim, Held]:
    """Send readers the row's text again. The entries of the log are not read.

    Raises like `Log.read` and `Log.adopt`.
    """
    held = _with_calls(saved_in(row)._replace(seq=0), calls, claim.attempt)
    page = await log.read(row.conversation_id, None, 0, 0)
    return await _adopt(log, claim, _Found(page.epoch, page.top, None, held), held, lease_seconds)


async def restore(
    log: ports.Log, claim: ports.Claim, known: Known, lease_seconds: float
) -> tuple[ports.Claim, Held]:
    """Make the log end in exactly `known`, whatever it holds: the caller knows the whole answer.

    Batches begin at index 0. Raises like `Log.adopt`.
    """
    while True:
        try:
            found = await _read_log(log, claim, known)
            return await _adopt(log, claim, found, known.held, lease_seconds)
        except ports.Lost:
            log_line.info("the log changed while it was read", message_id=claim.message_id)


@dataclass(frozen=True, slots=True)
class _Found:
    """A log, read up to `seq`: what its readers hold (None: unknown), and the most known."""

    epoch: str
    seq: int
    survived: Held | None
    newest: Held


async def _adopt(
    log: ports.Log, claim: ports.Claim, found: _Found, target: Held, lease_seconds: float
) -> tuple[ports.Claim, Held]:
    survived = found.survived and found.survived.answer
    events = catch_up(survived, target.answer, claim.attempt)
    if events and survived is not None and not (survived.attempt or survived.parts):
        # Readers who lost the row, too, take up an answer only with its start.
        events.insert(0, Start(claim.message_id, claim.attempt, target.answer.model or ""))
    adopted, done = await log.adopt(claim, Cursor(found.epoch, found.seq), events, lease_seconds)
    if claim.epoch != adopted.epoch:
        log_line.warning(
            "an answer continues in a new epoch",
            message_id=claim.message_id,
            epoch=adopted.epoch,
            appended=len(events),
        )
    return adopted, target._replace(seq=done.last_seq)


async def _read_log(log: ports.Log, claim: ports.Claim, known: Known) -> _Found:
    """Read the log from the fork, where it parted from what is known.

    A process that continues a log appends first what the log lacks. So if the log has anything of
    this answer behind the fork, readers hold everything that is known. Otherwise they hold what
    the log has before the fork. If the fork is unknown (a server without this epoch replaced the
    old one), the log alone shows what they hold.
    """
    page = await log.read(claim.conversation_id, None, 0, 0)
    shared = page.reached(known.epoch, known.held.seq)
    parted = known.epoch in page.forks
    end, after = await _entries(log, claim, page, shared)
    newest = folded(known.held._replace(answer=known.held.answer.copy(), seq=shared), after)
    if known.epoch is None and known.held.answer.parts:  # the post wrote them, and no log has them
        nothing = Held(Answer(claim.message_id))
        return _Found(page.epoch, end, folded(nothing, after), newest)
    if known.epoch in (None, page.epoch) or (
        parted and (shared == known.held.seq or newest.seq > shared)
    ):
        return _Found(page.epoch, end, newest, newest)
    _, all_there_is = await _entries(log, claim, page, page.oldest - 1)
    survived = folded_whole(claim.message_id, all_there_is, from_first=page.oldest == 1)
    if survived is None or (survived.seq == 0 and not parted):
        return _Found(page.epoch, end, None, newest)
    if not begins(known.held.answer, survived.answer):
        return _Found(page.epoch, end, survived, known.held)
    _give_kept(known.held.answer, survived.answer)
    survived = survived._replace(proven=known.held.proven)
    return _Found(page.epoch, end, survived, survived)


def _give_kept(known: Answer, survived: Answer) -> None:
    """Copy the kept values of parts: no log has them."""
    for part, other in zip(known.parts, survived.parts, strict=False):
        other.kept = part.kept


async def _entries(
    log: ports.Log, claim: ports.Claim, seen: ports.Page, after: int
) -> tuple[int, list[Entry]]:
    """All entries after a seq, and the seq of the last one.

    If the log was trimmed beyond that seq, they begin with its oldest event: events of a running
    attempt after its checkpoint are never trimmed. Raises Lost if the log changed its epoch.
    """
    entries: list[Entry] = []
    while True:
        page = await log.read(claim.conversation_id, seen.epoch, after, PAGE_EVENTS)
        if page.epoch != seen.epoch:
            raise ports.Lost
        if after < page.oldest - 1:
            after = page.oldest - 1
            continue
        entries += page.entries
        after = entries[-1].seq if page.entries else after
        if after >= page.top:
            return after, entries
