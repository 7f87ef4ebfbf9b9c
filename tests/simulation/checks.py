"""What must be true in any case: checked as it happens (`Observer`) and when everything has come to
rest (`at_rest`).
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from tests.simulation.client import Client
from tests.simulation.database import Row
from tests.simulation.faults import Plan
from tests.simulation.net import Weather
from tests.simulation.processes import Site
from tests.simulation.provider import Script
from tokenwire.protocol import events
from tokenwire.protocol.states import UNFINISHED
from tokenwire.protocol.text import checksum, utf16_length
from tokenwire.streams.log import keys

TAKEOVER_SECONDS = 5.0
HAND_OVER_SECONDS = 1.0
KEEPING = ("attach", "prefix", "turn")


class Observer:
    """Sees everything that is published, in order, and complains about anything that a log must
    never hold.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._tops: dict[str, tuple[str, int]] = {}
        self.owners: dict[tuple[str, str], int] = {}
        """(epoch, message id) -> the newest attempt seen."""
        self._answers: dict[str, Script] = {}
        self.begun: dict[tuple[str, int], float] = {}
        """(message id, attempt) -> when its first event was appended."""
        self._ends_at: dict[tuple[str, str, str], int] = {}
        self.ends: dict[str, list[tuple[str, int, events.Terminal]]] = {}
        """message id -> (epoch, life of what Redis remembers, terminal event)."""
        self.restarted: set[str] = set()
        """Answers that a worker began anew."""
        self._awaited: dict[str, asyncio.Event] = {}
        site.server.listen(self._published)

    def asked(self, message_id: str, script: Script) -> None:
        """This answer is the script's."""
        self._answers[message_id] = script

    async def written(self, message_id: str) -> None:
        """Returns at the moment in which something of this answer is appended next."""
        await self._awaited.setdefault(message_id, asyncio.Event()).wait()

    def _published(self, channel: str, payload: bytes) -> None:
        if channel in (keys.CONTROL, keys.CHANGES) or payload == b"gone":
            return
        epoch, number, data = payload.decode().split(":", 2)
        seq = int(number)
        where, before = self._tops.get(channel, (epoch, 0))
        self._tops[channel] = (epoch, seq)
        state = self._site.server.state(channel)
        # A server may have lost even the epoch itself: then it continues from the end of the newest
        # epoch that it knows.
        if seq != (
            before + 1
            if where == epoch
            else state.forks.get(where, max(state.forks.values(), default=0)) + 1
        ):
            self._site.complain(f"log of {channel}: {epoch}:{seq} after {where}:{before}")
        if where != epoch:
            self._begin_epoch(epoch, state, seq)
        _, event = events.decode(data.encode())
        message_id = getattr(event, "message_id", None)
        if event is not None and message_id is not None:
            self.begun.setdefault((message_id, event.attempt), self._site.loop.time())
            if message_id in self._awaited:
                self._awaited.pop(message_id).set()
            self._check_owner(epoch, message_id, event)
            self._check_offset(epoch, message_id, event)
            self._check_event(epoch, message_id, event)

    def _begin_epoch(self, epoch: str, state: Any, first: int) -> None:
        """The surviving part of the earlier epochs: each answer's text continues at its end."""
        for kept in state.kept:
            if kept.entry.seq < first:
                _, event = events.decode(kept.entry.data)
                if event is not None and getattr(event, "message_id", None) is not None:
                    self._note_offset(epoch, event.message_id, event)  # type: ignore[union-attr]

    def _check_owner(self, epoch: str, message_id: str, event: Any) -> None:
        writer = self._site.server.writer
        attempt = (
            writer.attempt if writer is not None else event.attempt
        )  # an adoption writes events of its own attempt
        claims = self._site.server.claims
        newest = max(
            [
                number
                for (name, number), where in claims.items()
                if name == message_id and where == epoch
            ],
            default=0,
        )
        newest = max(newest, self.owners.get((epoch, message_id), 0))
        self.owners[epoch, message_id] = max(newest, attempt)
        if attempt < newest:
            self._site.complain(
                f"attempt {attempt} of {message_id} wrote {type(event).__name__} although "
                f"{newest} had begun"
            )

    def _check_offset(self, epoch: str, message_id: str, event: Any) -> None:
        """Each piece begins where the previous one ends: readers would hide a repetition, and a
        hole shows only to some.
        """
        if isinstance(event, events.Chunk | events.Reasoning):
            at = self._ends_at.get((epoch, message_id, type(event).__name__), event.offset)
            if at != event.offset:
                self._site.complain(f"{message_id} was written up to {at}, then came {event}")
        self._note_offset(epoch, message_id, event)

    def _note_offset(self, epoch: str, message_id: str, event: Any) -> None:
        if isinstance(event, events.Reset):
            self._ends_at[epoch, message_id, "Chunk"] = event.keep
            self._ends_at[epoch, message_id, "Reasoning"] = event.keep_reasoning
        elif isinstance(event, events.Chunk | events.Reasoning):
            self._ends_at[epoch, message_id, type(event).__name__] = event.offset + utf16_length(
                event.content
            )

    def _check_event(self, epoch: str, message_id: str, event: events.AnyEvent) -> None:
        script = self._answers.get(message_id)
        adopted = self._site.server.writer is None
        if isinstance(event, events.Reset) and not adopted:
            self.restarted.add(message_id)
        if (
            isinstance(event, events.Reset)
            and not adopted
            and script
            and script.rung in KEEPING
            and not script.reasoning
        ):
            self._site.complain(f"reset of {message_id}, whose model can continue")
        earlier = self.ends.get(message_id, [])
        if any(where == epoch for where, _, _ in earlier) or (
            earlier
            and isinstance(event, events.Terminal)
            and earlier[-1][1] == self._site.server.lives
        ):
            self._site.complain(f"{type(event).__name__} of {message_id} after its end: {earlier}")
        if isinstance(event, events.Terminal):
            self.ends.setdefault(message_id, []).append((epoch, self._site.server.lives, event))


def unsettled(site: Site, clients: Iterable[Client]) -> str | None:
    """Why the schedule is not at rest yet; None when it is."""
    for row in site.database.messages.values():
        if row.role == "assistant" and row.status in UNFINISHED:
            return f"{row.id} is {row.status}"
        if not row.terminal_announced:
            return f"{row.id}: its end is not announced"
        if row.announced_rev < row.rev:
            return f"{row.id}: the row is not announced"
    for script in site.scripts.values():
        if any(node.alive for node in script.open):
            return f"{script.name}: a provider's connection is open"
        if script.running:
            return f"{script.name}: runs go on that nobody reads: {sorted(script.running)}"
    if site.database.runs:
        return f"runs are not known to have ended: {sorted(site.database.runs)}"
    for client in clients:
        if client.conversation_id not in site.database.conversations:
            told = client.conversation_id in site.server._tombstones
            if told and not client.gone:
                return f"{client.name} does not know that its conversation was deleted"
            continue
        state = site.server._states.get(client.conversation_id)
        if not client.live:
            return f"{client.name} is not live"
        if state is not None and (client.epoch, client.seq) != (state.epoch, state.top):
            return (
                f"{client.name} holds {client.epoch}:{client.seq}, the log "
                f"{state.epoch}:{state.top}"
            )
    return None


def at_rest(
    site: Site, clients: Iterable[Client], observer: Observer, scripts: dict[str, Script]
) -> None:
    """Complain about every difference between readers, announcements, SQL and the providers'
    answers.
    """
    for row in site.database.answers():
        script = scripts.get(row.id)
        if script is not None:
            _check_content(site.complain, row, script)
        _check_ends(site.complain, row, observer)
    for client in clients:
        if client.conversation_id in site.database.conversations:
            for row in site.database.messages.values():
                if row.conversation_id == client.conversation_id:
                    _check_view(site.complain, client, row)
    _check_writers(site)
    finished = [write.message_id for write in site.database.history if write.kind == "finish"]
    if len(finished) != len(set(finished)):
        site.complain(f"an answer was finished twice: {finished}")


def in_time(
    site: Site, observer: Observer, alone: str | None, killed: list[tuple[float, str, int]]
) -> None:
    """Where nothing else went wrong, complain of answers that stood still for too long."""
    if alone == "kill_worker":
        for at, message_id, attempt in killed:
            _check_gap(
                site, observer, message_id, attempt, at, TAKEOVER_SECONDS, "its worker was killed"
            )
    if alone == "deploy_worker":
        for write in site.database.history:
            if write.kind == "hand back":
                _check_gap(
                    site,
                    observer,
                    write.message_id,
                    write.attempt,
                    write.at,
                    HAND_OVER_SECONDS,
                    "it was handed over",
                )


def undisturbed(site: Site, clients: Iterable[Client], plan: Plan, restarted: set[str]) -> None:
    """Redis restarted with all its data, and nothing else failed: nobody has to read anything
    again.

    `restarted`: answers that started over because their model cannot continue. A reader that was
    away finds other words in the row.
    """
    if (
        not plan.faults
        or any(name != "restart_redis" for _, name in plan.faults)
        or plan.redis != Weather()
        or plan.feed_trouble
    ):
        return
    for client in clients:
        if (
            any(reason != "trimmed" for reason in client.reasons)
            or set(client.withdrawn) - restarted
        ):
            site.complain(
                f"{client.name} was told to resync ({client.reasons}), or lost text, although "
                f"nothing was lost"
            )


def _check_gap(
    site: Site,
    observer: Observer,
    message_id: str,
    attempt: int,
    at: float,
    longest: float,
    why: str,
) -> None:
    row = site.database.messages.get(message_id)
    if row is None or row.attempt == attempt:  # deleted, or ended in the same moment
        return
    gap = observer.begun.get((message_id, attempt + 1), at + 1e9) - at
    if gap > longest:
        site.complain(f"{message_id} went on {gap:.2f} s after {why}")


def _check_writers(site: Site) -> None:
    """Only the attempt that SQL knows as the current one changes a row."""
    current: dict[str, int] = {}
    for write in site.database.history:
        if write.kind == "begin":
            current[write.message_id] = write.attempt
        elif write.attempt != current.get(write.message_id):
            site.complain(
                f"attempt {write.attempt} of {write.message_id} wrote ({write.kind}) after "
                f"{current.get(write.message_id)} had begun"
            )


def _check_content(complain: Callable[[str], None], row: Row, script: Script) -> None:
    wholes = script.endings()
    if row.status == "complete" and row.content not in wholes:
        complain(
            f"{row.id} ({script.rung}) is complete with {row.content!r}, answered were {wholes!r}"
        )
    if not any(whole.startswith(row.content) for whole in [*wholes, ""]):
        complain(
            f"{row.id} ({script.rung}) holds {row.content!r}, which is no beginning of {wholes!r}"
        )
    if not script.reasoning.startswith(row.reasoning):
        complain(
            f"{row.id} holds the reasoning {row.reasoning!r}, thought was {script.reasoning!r}"
        )


def _check_ends(complain: Callable[[str], None], row: Row, observer: Observer) -> None:
    ends = observer.ends.get(row.id, [])
    if not ends:
        complain(f"{row.id} is {row.status}, and no terminal event was ever appended")
    for _, _, event in ends:
        kind = type(event).__name__.lower()
        if (kind, event.length, event.crc32) != (
            row.status,
            utf16_length(row.content),
            checksum(row.content),
        ):
            complain(
                f"the row of {row.id} is {row.status} with {row.content!r}, its end was {event}"
            )


def _check_view(complain: Callable[[str], None], client: Client, row: Row) -> None:
    view = client.views.get(row.id)
    if view is None:
        complain(f"{client.name} does not know {row.id}")
    elif (view.text, view.shown, view.status) != (row.content, row.content, row.status):
        complain(
            f"{client.name} shows {view.shown!r} ({view.text!r}, {view.status}) for {row.id}, "
            f"SQL holds {row.content!r} ({row.status})"
        )
    elif view.reasoning != row.reasoning:
        complain(
            f"{client.name} holds the reasoning {view.reasoning!r} of {row.id}, SQL "
            f"{row.reasoning!r}"
        )
