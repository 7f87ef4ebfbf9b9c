"""What must be true in any case: checked as it happens (`Observer`) and when everything has come to
rest (`at_rest`).
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from tests.simulation.author import shown, up_to_pause, words_of
from tests.simulation.calls import ENDED
from tests.simulation.client import Client
from tests.simulation.database import Row
from tests.simulation.faults import Plan
from tests.simulation.net import Weather
from tests.simulation.parts import (
    LogReader,
    Part,
    Parts,
    by_turn,
    is_dropping,
    own_files,
    public,
    row_as_parts,
    said_as_parts,
)
from tests.simulation.processes import Site
from tests.simulation.provider import Script
from tests.simulation.rounds import Rounds
from tests.simulation.steering import Acknowledged
from tokenwire.models.parts import answer_of
from tokenwire.protocol import events
from tokenwire.protocol.states import UNFINISHED
from tokenwire.protocol.text import checksum, utf16_length
from tokenwire.providers.base import Kept
from tokenwire.streams.log import keys
from tokenwire.worker.history import history_of

TAKEOVER_SECONDS = 5.0
HAND_OVER_SECONDS = 1.0


LOST = {}
"""What stands in a row where something may have been kept that went with its worker."""


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
        self.logs = Logs(site)
        self._steps = Acknowledged(site)
        site.server.listen(self._published)
        site.database.on_saved = self.logs.check_saved

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
            self.logs.take(epoch, seq, message_id, event)
            self._check_call(message_id, event)
            self._steps.take(epoch, message_id, event)

    def _check_call(self, message_id: str, event: events.AnyEvent) -> None:
        """Nobody gets an outcome before it is stored."""
        if isinstance(event, events.PartEvent):
            call = self._site.database.call_rows.get(message_id, {}).get(event.part)
            told = event.value.get("state")
            if call is not None and told in ENDED and told != call.state:
                self._site.complain(f"{message_id}/{event.part} is {call.state}, shown as {told}")

    def _begin_epoch(self, epoch: str, state: Any, first: int) -> None:
        """The surviving part of the earlier epochs: each answer's text continues at its end."""
        self.logs.begin(epoch, whole=state.oldest <= 1)
        for kept in state.kept:
            if kept.entry.seq < first:
                _, event = events.decode(kept.entry.data)
                message_id = getattr(event, "message_id", None)
                if event is not None and message_id is not None:
                    self._note_offset(epoch, message_id, event)
                    self.logs.take(epoch, kept.entry.seq, message_id, event)

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
        if isinstance(event, events.Reset) and not adopted and script and script.can_continue:
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


class Logs:
    """What somebody holds of each answer who has read a whole log, at each place of each epoch."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._readers: dict[tuple[str, str], LogReader] = {}
        self._whole: dict[str, bool] = {}
        self._states: dict[tuple[str, str], list[tuple[int, list[Any]]]] = {}

    def begin(self, epoch: str, *, whole: bool) -> None:
        """A log goes on under this name. `whole`: what it holds is all there was."""
        self._whole[epoch] = whole

    def take(self, epoch: str, seq: int, message_id: str, event: events.AnyEvent) -> None:
        """The next event."""
        place = epoch, message_id
        is_first = isinstance(event, events.Start) and event.attempt == 1
        is_first = is_first or (isinstance(event, events.Reset) and event.keep_parts == 0)
        if place not in self._readers and (is_first or self._whole.get(epoch, True)):
            self._readers[place] = LogReader(message_id, self._site.complain)
        reader = self._readers.get(place)
        if reader is not None:
            reader.read(event)
            self._states.setdefault(place, []).append((seq, public(reader.parts)))
            self._check_files(message_id, reader.parts)

    def state(self, epoch: str, seq: int, message_id: str) -> list[Any] | None:
        """What a reader holds there; None: it cannot be said."""
        known = self._states.get((epoch, message_id), [])
        before = [state for at, state in known if at <= seq]
        return before[-1] if before else None

    def ended(self, message_id: str) -> list[Parts]:
        """What readers hold at the end, in each epoch that tells all of it."""
        found = [r for (_, name), r in self._readers.items() if name == message_id]
        return [reader.parts for reader in found if reader.ended]

    def check_saved(self, row: Any) -> None:
        """A checkpoint, read back, says what the log said when it was taken."""
        held = public(row_as_parts(row, files_of(self._site, row.id)))
        told = self.state(row.epoch, row.seq, row.id)
        if told is not None and told != held:
            self._site.complain(
                f"the row of {row.id} at {row.epoch}:{row.seq} reads {held}, its log says {told}"
            )

    def _check_files(self, message_id: str, parts: Parts) -> None:
        lost = set(own_files(message_id, parts)) - set(files_of(self._site, message_id))
        if lost and message_id in self._site.database.messages:
            self._site.complain(f"the log of {message_id} names files that nobody stored: {lost}")


def files_of(site: Site, message_id: str) -> dict[str, bytes]:
    """The files of an answer, by digest."""
    stored = site.database.files_stored
    return {digest: file.data for (name, digest), file in stored.items() if name == message_id}


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
        if script.open:
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
    site: Site, clients: Iterable[Client], observer: Observer, scripts: dict[str, Script | Rounds]
) -> None:
    """Complain about every difference between readers, announcements, SQL and the providers'
    answers.
    """
    for row in site.database.answers():
        script = scripts.get(row.id)
        if script is not None:
            _check_logs(site, row, observer)
        if isinstance(script, Script):
            _check_content(site.complain, row, script)
            _check_parts(site, row, script)
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
        or plan.pubsub_trouble
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
    ways = [*script.beginnings(), []]
    if row.finish_reason == "paused":
        ways = [up_to_pause(said) for said in ways]
    wholes = [shown(words_of(said)) for said in ways]
    if row.status == "complete" and row.content not in wholes[:-1]:
        complain(
            f"{row.id} ({script.rung}) is complete with {row.content!r}, answered were {wholes!r}"
        )
    if not any(whole.startswith(row.content) for whole in wholes):
        complain(
            f"{row.id} ({script.rung}) holds {row.content!r}, which is no beginning of {wholes!r}"
        )


def _check_logs(site: Site, row: Row, observer: Observer) -> None:
    """A log that tells all of an answer ends in the parts of its row."""
    parts = row_as_parts(row, files_of(site, row.id))
    for told in observer.logs.ended(row.id):
        if public(told) != public(parts):
            site.complain(f"the row of {row.id} has {public(parts)}, its log {public(told)}")


def _check_parts(site: Site, row: Row, script: Script) -> None:
    """Script, what is kept, files: all say the same of an answer that has ended."""
    files = files_of(site, row.id)
    parts = row_as_parts(row, files)
    if lost := set(own_files(row.id, parts)) - set(files):
        site.complain(f"{row.id} names files that nobody stored: {lost}")
    if not script.continued:
        _check_said(site.complain, row, parts, script)
    _check_kept(site.complain, row, parts, script)
    _check_history(site.complain, row, parts, files)


def _check_said(complain: Callable[[str], None], row: Row, parts: Parts, script: Script) -> None:
    """Nobody went on with what another call had said: then it is what one call has said."""
    ways = [
        said_as_parts(up_to_pause(said) if row.finish_reason == "paused" else said, row.id)
        for said in script.beginnings()
    ]
    if row.status == "complete":
        fits = any(_undropped(way) == _undropped(parts) for way in ways)
    else:
        fits = any(_begins(parts, way) for way in [*ways, []])
    if not fits:
        complain(f"{row.id} ({row.status}) has {public(parts)}, said was {list(map(public, ways))}")


def _undropped(parts: Parts) -> list[Any]:
    return [
        (kind, {name: item for name, item in fields.items() if name != "dropped"}, text)
        for kind, fields, text in public(parts)
    ]


def _begins(parts: Parts, way: Parts) -> bool:
    """Whether these parts are what came first of a way. Of calls, each may have been cut off."""
    if len(parts) > len(way):
        return False
    for held, said, is_last in zip(
        _undropped(parts), _undropped(way), [False] * (len(parts) - 1) + [True], strict=False
    ):
        may_grow = is_last or held[0] == "tool_call"
        fields = [{**one[1], "state": None} if may_grow else one[1] for one in (held, said)]
        whole = said[2].startswith(held[2]) if may_grow or held[0] != "file" else True
        if held[0] != said[0] or fields[0] != fields[1] or not whole:
            return False
    return True


def _check_kept(complain: Callable[[str], None], row: Row, parts: Parts, script: Script) -> None:
    """What is kept is what was given with that part; what is missing was dropped, and says so.

    What comes without a break, or is said again by a run, is not dropped but for what is too much.
    """
    given: dict[Any, list[Any]] = {}
    for said in (script.said, script.added):
        for part in said_as_parts(said, row.id):
            given.setdefault(part.mark, []).append(part.kept)
    lost = [part for part in parts if _is_lost(part)]
    dropped = {id(part) for part in lost}
    torn = [id(p) for turn in by_turn(parts) if any(map(_is_lost, turn)) for p in turn]
    if any(part.ends for part in parts) and not script.asked & {"prefix", "turn"}:
        complain(f"{row.id} was answered in one turn, and holds the end of another: {parts}")
    if (
        any(part.type != "file" for part in lost)
        and not is_dropping(script.said)
        and (row.attempt == 1 or (row.status == "complete" and script.asked <= {"fresh", "attach"}))
    ):
        complain(f"{row.id} has dropped what could be kept: {parts}")
    # An answer that was stopped, or never resumed, may lack the late end of its last reasoning.
    reasonings = [part for part in parts if part.type == "reasoning"]
    unended = reasonings[-1:] if row.finish_reason != "stop" else []
    for part in parts:
        may_lack = not _is_whole(part) or part in unended
        ways = [*given.get(part.mark, []), *([None] if may_lack else [])]
        if id(part) in dropped:
            continue
        if part.kept is not None and part.kept not in ways:
            complain(f"{row.id} keeps {part.kept} of {part}, given was {ways}")
        elif part.kept is None and ways and None not in ways and id(part) not in torn:
            complain(f"{row.id} forgot what was given with {part} in silence: {parts}")


def _is_lost(part: Part) -> bool:
    return bool(part.fields.get("dropped")) or part.kept == LOST


def _is_whole(part: Part) -> bool:
    """Whether a call is: what is kept comes with its end."""
    return part.fields.get("state") in (None, "proposed")


def _check_history(
    complain: Callable[[str], None], row: Row, parts: Parts, files: dict[str, bytes]
) -> None:
    """What goes back to the provider holds all that is kept of a turn, or nothing of it."""
    digests = [own_files(row.id, [part]) for part in parts]
    data = {n: files[names[0]] for n, names in enumerate(digests) if names and names[0] in files}
    try:
        sent = history_of(answer_of(row).parts, data)
    except Exception as error:  # noqa: BLE001 - whatever it raises is a finding
        complain(f"{row.id} cannot be sent back: {error!r}")
        return
    back = list[Any]()
    for part in sent:
        kept: Any = part if isinstance(part, Kept) else getattr(part, "kept", None)
        back += [one.value for one in kept] if isinstance(kept, tuple) else [kept and kept.value]
    back = [value for value in back if value is not None]
    whole = (turn for turn in by_turn(parts) if not any(map(_is_lost, turn)))
    wanted = [part.kept for turn in whole for part in turn if part.kept is not None]
    if back != wanted:
        complain(f"{row.id} is sent back with {back}, kept is {wanted}")


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
    if view is None and row.superseded_by is not None:
        return  # it came when this row had left
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
