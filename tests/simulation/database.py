"""The database of a simulation: the rows, and each method of `models.store.Store` as one atomic
step.

`store.py` is a process's part. Rows are plain objects with the columns of `models.tables`.
`history` records every write to an answer for the checks.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from tests.simulation.author import FILE_BYTES
from tests.simulation.call_tables import FIRST_MS, CallTables, Row, copy_of, is_unfinished
from tests.simulation.steering_rows import SteeringRows
from tokenwire.models import tables
from tokenwire.models.answers import Checkpoint, Ending
from tokenwire.models.conversations import Post, Posted, Snapshot
from tokenwire.models.errors import AnswerRunning, FileTooLong, NotFound
from tokenwire.models.files import FileKey, StoredFile, checked_media_type
from tokenwire.models.parts import StoredPart, assembled, whole
from tokenwire.models.runs import RunToEnd
from tokenwire.models.steering import STEER
from tokenwire.models.sweeps import Due, Kind, Outstanding, SweepKey, Unannounced
from tokenwire.protocol.files import digest_of
from tokenwire.protocol.states import UNFINISHED
from tokenwire.protocol.values import brought_by


@dataclass(frozen=True, slots=True)
class Write:
    """A write that changed an answer, and when."""

    at: float
    message_id: str
    attempt: int
    kind: str
    content: str
    status: str


@dataclass(slots=True)
class ProviderRun:
    """A row of `provider_runs`, but for its key."""

    model: str
    attempt: int
    due_at: int | None
    tries: int = 0


class Database(CallTables, SteeringRows):
    """`clock` gives seconds. The methods are the store's, without waiting; their results are
    detached.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock = clock
        self._ids = itertools.count(1)
        self.conversations: dict[str, Row] = {}
        self.messages: dict[str, Row] = {}
        self.parts: dict[str, dict[int, StoredPart]] = {}
        self.runs: dict[tuple[str, str], ProviderRun] = {}
        self.undeleted: dict[str, int] = {}
        self.deleted: dict[str, int] = {}
        self.files_stored: dict[FileKey, StoredFile] = {}
        self.history: list[Write] = []
        self.on_saved: Callable[[Any], None] = lambda _row: None
        """Is given each row that a checkpoint has changed, as whoever reads it would be."""

    # --- the store's methods: worker ---

    def now_ms(self) -> int:
        return FIRST_MS + int(self._clock() * 1000)

    def message(self, message_id: str) -> Any:
        row = self.messages.get(message_id)
        return row and self._whole(row)

    def conversation_of(self, message_id: str) -> Any:
        row = self.messages.get(message_id)
        return row and copy_of(self.conversations[row.conversation_id])

    def history_of(self, conversation_id: str, before_ordinal: int) -> list[Any]:
        return [
            self._whole(row) for row in self._shown(conversation_id) if row.ordinal < before_ordinal
        ]

    def blocked_by(self, message_id: str) -> str | None:
        mine = self.messages.get(message_id)
        if mine is None:
            return None
        return next(
            (
                row.id
                for row in self._of(mine.conversation_id)
                if row.ordinal < mine.ordinal and is_unfinished(row)
            ),
            None,
        )

    def next_queued(self, conversation_id: str) -> str | None:
        first = next((row for row in self._of(conversation_id) if is_unfinished(row)), None)
        return first.id if first is not None and first.status == "queued" else None

    def unfinished(self, conversation_id: str) -> list[Any]:
        return [self._whole(row) for row in self._of(conversation_id) if is_unfinished(row)]

    def begin_attempt(
        self,
        message_id: str,
        attempt: int,
        model: str,
        *,
        survived: bool = False,
        closes: bool = False,
    ) -> Any:
        row = self.messages.get(message_id)
        if row is None or row.attempt >= attempt or not is_unfinished(row):
            return None
        if row.status == "waiting" and not closes:
            return None
        self._set(row, deaths=row.deaths + (row.status == "streaming" and not survived))
        self._set(
            row,
            attempt=attempt,
            status="streaming",
            model=row.model or model,
            due_at=None,
            starts=row.starts + 1,
            saves=0,
            updated_at=self.now_ms(),
        )
        self._note(row, attempt, "begin")
        return self._whole(row)

    def checkpoint(self, items: Sequence[Checkpoint], *, wait: bool = True) -> frozenset[str]:
        for item in items:
            row = self._mine(item.message_id, item.attempt)
            if row is not None:
                self._save(row, item, "checkpoint")
        return frozenset()

    def hand_back(self, item: Checkpoint, billed_input: int) -> bool:
        row = self._mine(item.message_id, item.attempt)
        if row is None:
            return False
        self._set(
            row, status="queued", billed_input=billed_input, starts=0, enqueued_at=self.now_ms()
        )
        self._save(row, item, "hand back")
        return True

    def finish_now(self, ending: Ending) -> bool:
        row = self._mine(ending.message_id, ending.attempt)
        if row is None or ending.calls_rev not in (None, row.calls_rev):
            return False
        first = row.cancel_by
        self._set(
            row, **_values(ending), due_at=None, updated_at=self.now_ms(), ended_at=self.now_ms()
        )
        self._set(row, part_count=0, open_text=None, open_reasoning=None)
        self.parts.pop(row.id, None)
        self._set(row, cancel_by=first or ending.cancel_by)
        self.close_calls(row)
        self.end_placeholders(row, [n for part in ending.parts or () for n in brought_by(part)])
        self._note(row, ending.attempt, "finish")
        return True

    def save_file(
        self, message_id: str, attempt: int, number: int, media_type: str, data: bytes
    ) -> str | None:
        if len(data) > FILE_BYTES:
            raise FileTooLong(message_id)
        if self._mine(message_id, attempt) is None:
            return None
        digest = digest_of(data)
        file = StoredFile(checked_media_type(media_type), data)
        self.files_stored.setdefault((message_id, digest), file)
        return digest

    def files(self, keys: Sequence[FileKey]) -> dict[FileKey, bytes]:
        found = self.files_stored
        return {key: found[key].data for key in keys if key in found}

    def terminal_announced(self, message_id: str, attempt: int) -> None:
        row = self.messages.get(message_id)
        if row is not None and row.attempt == attempt:
            self._set(row, terminal_announced=True)

    def note_attempt(self, message_id: str, attempt: int, deaths: int, started_with: int) -> None:
        row = self.messages.get(message_id)
        if row is not None and row.attempt == attempt:
            self._set(row, deaths=deaths, started_with=started_with)

    def note_bill(self, message_id: str, attempt: int, billed_input: int, requests: int) -> None:
        row = self.messages.get(message_id)
        if row is not None and row.attempt == attempt:
            self._set(row, billed_input=billed_input, requests=requests)

    def schedule_retry(
        self,
        message_id: str,
        attempt: int,
        delay_ms: int,
        tries: int,
        billed_input: int,
        *,
        run_is_silent: bool = False,
        model: str | None = None,
    ) -> bool:
        row = self._mine(message_id, attempt)
        if row is None:
            return False
        now = self.now_ms()
        self._set(
            row,
            status="retrying",
            due_at=now + delay_ms,
            tries=tries,
            billed_input=billed_input,
            starts=0,
            updated_at=now,
        )
        self._set(row, run_silent_since=(row.run_silent_since or now) if run_is_silent else None)
        if model is not None:
            self._set(row, model=model, first_model=row.first_model or row.model)
        return True

    def count_start(self, message_id: str) -> int:
        row = self.messages.get(message_id)
        if row is None or row.status not in UNFINISHED:
            return 0
        self._set(row, starts=row.starts + 1)
        return row.starts  # type: ignore[no-any-return]

    def mark_enqueued(self, *message_ids: str) -> None:
        for message_id in message_ids:
            if message_id in self.messages:
                self._set(self.messages[message_id], enqueued_at=self.now_ms())

    def mark_announced(self, message_id: str, rev: int) -> None:
        row = self.messages.get(message_id)
        if row is not None and row.announced_rev < rev:
            self._set(row, announced_rev=rev)

    def request_cancel(self, message_id: str, by: str) -> Any:
        row = self.messages.get(message_id)
        if row is None or not is_unfinished(row):
            return None
        self._set(row, cancel_by=row.cancel_by or by, updated_at=self.now_ms())
        return self._whole(row)

    # --- the store's methods: runs at providers ---

    def begin_run(self, run_id: str, model: str, item: Checkpoint) -> bool:
        self.note_run(run_id, model, item.message_id, item.attempt)
        row = self._mine(item.message_id, item.attempt)
        if row is not None:
            self._save(row, item, "run")
        return row is not None

    def note_run(self, run_id: str, model: str, message_id: str, attempt: int) -> None:
        known = self.runs.get((message_id, run_id))
        if known is None:
            self.runs[message_id, run_id] = ProviderRun(model, attempt, due_at=self.now_ms())
        else:
            known.attempt = max(known.attempt, attempt)

    def run_ended(self, message_id: str, run_id: str) -> None:
        self.runs.pop((message_id, run_id), None)

    def runs_to_end(self, limit: int, longest_wait_ms: int) -> list[RunToEnd]:
        now = self.now_ms()
        waits = range(now + 1, now + longest_wait_ms + 1)
        due = [
            (key, run)
            for key, run in self.runs.items()
            if run.due_at is not None and run.due_at not in waits and not self._wanted(key, run)
        ]
        return [RunToEnd(*key, run.model, run.tries) for key, run in due[:limit]]

    def try_to_end(self, run: RunToEnd, again_ms: int | None) -> bool:
        known = self.runs.get((run.message_id, run.run_id))
        if known is None or known.tries != run.tries or known.due_at is None:
            return False
        known.tries, known.due_at = (
            run.tries + 1,
            None if again_ms is None else self.now_ms() + again_ms,
        )
        return True

    def _wanted(self, key: tuple[str, str], run: "ProviderRun") -> bool:
        row = self.messages.get(key[0])
        if row is None or not is_unfinished(row):
            return False
        return bool(
            row.run_id == key[1] or (row.attempt == run.attempt and row.status == "streaming")
        )

    # --- the store's methods: sweeper ---

    def outstanding(self, due: Due, longest_pause: int) -> set[str]:
        asked = (
            "begun",
            "ended",
            "unannounced_rows",
            "unannounced_titles",
            "undeleted_logs",
            "unannounced_revocations",
        )
        found = {name: getattr(self, name)(due, "", 1) for name in asked}
        found |= {
            "to_cancel": self.to_cancel("", 1),
            "runs_to_end": self.runs_to_end(1, longest_pause),
            "expired_calls": self.expired_calls(None, 1),
        }
        found["heads"] = [
            row for row in self.answers() if is_unfinished(row) and self._waits_long(row, due)
        ]
        return {name for name, rows in found.items() if rows}

    def to_cancel(self, after: str, limit: int) -> list[Outstanding]:
        return _page(
            [
                _answer(row)
                for row in self.answers()
                if is_unfinished(row) and row.cancel_by is not None
            ],
            after,
            limit,
        )

    def begun(self, due: Due, after: str, limit: int) -> list[Outstanding]:
        rows = [
            row
            for row in self.answers()
            if row.cancel_by is None and not self._recent(row.enqueued_at, due.claimed)
        ]
        silent = [
            row
            for row in rows
            if row.status == "streaming" and not self._recent(row.updated_at, due.silent)
        ]
        overdue = [row for row in rows if row.status == "retrying" and not self._waits(row, due)]
        return _page([_answer(row) for row in [*silent, *overdue]], after, limit)

    def heads(self, due: Due, after: str, limit: int) -> list[Outstanding]:
        heads = {row.conversation_id: row for row in reversed(self.answers()) if is_unfinished(row)}
        return _page(
            [
                replace(_answer(row), key=name, due=self._waits_long(row, due))
                for name, row in heads.items()
            ],
            after,
            limit,
        )

    def changed_lately(
        self, kind: Kind, since_ms: int, after: SweepKey | None, limit: int
    ) -> list[SweepKey]:
        places = {
            "ends": [
                SweepKey(row.ended_at, row.id)
                for row in self.messages.values()
                if row.ended_at is not None
            ],
            "rows": [SweepKey(0, row.id) for row in self.messages.values()],
            "titles": [
                SweepKey(row.updated_at, row.id)
                for row in self.conversations.values()
                if row.rev > 1
            ],
            "deletions": [SweepKey(at, name) for name, at in self.deleted.items()],
            "revocations": [],
        }[kind]
        since = since_ms if kind != "rows" else -1
        return sorted(
            place for place in places if place.at > since and (after is None or place > after)
        )[:limit]

    def announce_again(self, kind: Kind, ids: Sequence[str]) -> list[str]:
        for name in ids:
            if kind == "ends" and name in self.messages:
                self._set(self.messages[name], terminal_announced=False)
            elif kind == "rows" and name in self.messages:
                self._set(self.messages[name], announced_rev=0)
            elif kind == "titles" and name in self.conversations:
                self._set(self.conversations[name], announced_rev=0)
            elif kind == "deletions":
                self.undeleted[name] = self.deleted[name]
        return []

    def ended(self, due: Due, after: str, limit: int) -> list[Outstanding]:
        rows = [
            row for row in self.answers() if not is_unfinished(row) and not row.terminal_announced
        ]
        return _page(
            [_answer(row) for row in rows if not self._recent(row.updated_at, due.unannounced)],
            after,
            limit,
        )

    def unannounced_rows(self, due: Due, after: str, limit: int) -> list[Any]:
        page = _page(self._unannounced(self.messages, due), after, limit)
        return [Unannounced(row.id, row.conversation_id, row.ordinal) for row in page]

    def unannounced_titles(self, due: Due, after: str, limit: int) -> list[Any]:
        return _page(
            [row for row in self._unannounced(self.conversations, due) if row.title is not None],
            after,
            limit,
        )

    def undeleted_logs(self, due: Due, after: str, limit: int) -> list[str]:
        return sorted(
            name
            for name, at in self.undeleted.items()
            if name > after and not self._recent(at, due.unannounced)
        )[:limit]

    def unannounced_revocations(self, due: Due, after: str, limit: int) -> list[Any]:
        return []  # one user, who stays

    def log_deleted(self, conversation_id: str) -> None:
        self.undeleted.pop(conversation_id, None)

    def _unannounced(self, table: dict[str, Row], due: Due) -> list[Any]:
        rows = [row for row in table.values() if row.announced_rev < row.rev]
        return [copy_of(row) for row in rows if not self._recent(row.updated_at, due.unannounced)]

    def _recent(self, at: int | None, milliseconds: int) -> bool:
        return at is not None and 0 <= self.now_ms() - at < milliseconds

    def _waits(self, row: Row, due: Due) -> bool:
        return row.due_at is not None and self.now_ms() - row.due_at < due.overdue

    def _waits_long(self, row: Row, due: Due) -> bool:
        recent = self._recent(row.updated_at, due.waiting) or self._recent(
            row.enqueued_at, due.claimed
        )
        return row.status == "queued" and row.cancel_by is None and not recent

    # --- the store's methods: web ---

    def create_conversation(
        self, user_id: str, *, model: str | None = None, instructions: str | None = None
    ) -> Any:
        now = self.now_ms()
        row = Row(
            tables.Conversation,
            id=f"c{next(self._ids)}",
            user_id=user_id,
            model=model,
            instructions=instructions,
            created_at=now,
            updated_at=now,
        )
        self.conversations[row.id] = row
        return copy_of(row)

    def conversation(self, conversation_id: str, user_id: str) -> Any:
        row = self.conversations.get(conversation_id)
        if row is None or row.user_id != user_id:
            raise NotFound("conversation")
        return copy_of(row)

    def snapshot(
        self, conversation_id: str, user_id: str, limit: int, before: int | None = None
    ) -> Snapshot:
        conversation = self.conversation(conversation_id, user_id)
        rows = self._shown(conversation_id)
        rows = [row for row in rows if before is None or row.ordinal < before]
        page = [self._whole(row) for row in rows[-limit:]]
        older = page[0].ordinal if len(rows) > limit else None
        return Snapshot(conversation, page, older, archived=False)

    def visible_message(self, message_id: str, user_id: str) -> Any:
        row = self.messages.get(message_id)
        if row is None:
            raise NotFound("message")
        self.conversation(row.conversation_id, user_id)
        return self._whole(row)

    def delete_conversation(self, conversation_id: str) -> bool:
        for row in self._of(conversation_id):
            del self.messages[row.id]
            self.parts.pop(row.id, None)
            self.delete_calls(row.id)
        kept = self.messages
        self.files_stored = {key: f for key, f in self.files_stored.items() if key[0] in kept}
        if conversation_id in self.conversations:
            self.undeleted[conversation_id] = self.deleted[conversation_id] = self.now_ms()
        return self.conversations.pop(conversation_id, None) is not None

    def post(self, post: Post) -> Posted:
        conversation = self.conversations.get(post.conversation_id)
        if conversation is None:
            raise NotFound("conversation")
        rows = self._of(post.conversation_id)
        running = [row for row in rows if is_unfinished(row)]
        if running and post.policy == "reject":
            raise AnswerRunning(running[0].id)
        now = self.now_ms()
        conversation.updated_at = conversation.last_message_at = now
        conversation.message_count += 2
        superseded = running if post.policy == "cancel_previous" else []
        for row in superseded:
            self._set(row, cancel_by=row.cancel_by or "superseded")
        resumed = self.withdraw_questions(post.conversation_id)
        last = rows[-1] if rows else None
        common: dict[str, Any] = {
            "conversation_id": post.conversation_id,
            "created_at": now,
            "updated_at": now,
        }
        user = Row(
            tables.Message,
            id=f"m{next(self._ids)}",
            ordinal=(last.ordinal if last else 0) + 1,
            role="user",
            content=post.content,
            status="complete",
            terminal_announced=True,
            user_id=post.user_id,
            parent_id=last.id if last else None,
            **common,
        )
        assistant = Row(
            tables.Message,
            id=f"m{next(self._ids)}",
            ordinal=user.ordinal + 1,
            role="assistant",
            status="queued",
            model=post.model,
            parent_id=user.id,
            while_running=STEER if resumed is not None or post.policy == STEER else None,
            **common,
        )
        self.messages[user.id], self.messages[assistant.id] = user, assistant
        cancelled = [row.id for row in superseded]
        return Posted(copy_of(user), copy_of(assistant), cancelled, resumed)

    def mark_posted(
        self, user_message_id: str, assistant_message_id: str, rev: int, *, enqueued: bool
    ) -> None:
        self.mark_announced(user_message_id, rev)
        self.mark_announced(assistant_message_id, rev)
        if enqueued:
            self.mark_enqueued(assistant_message_id)

    # --- rows ---

    def answers(self) -> list[Row]:
        """The rows themselves, of all answers."""
        return [row for row in self.messages.values() if row.role == "assistant"]

    def _of(self, conversation_id: str) -> list[Row]:
        # Rows are added in order of their ordinal.
        return [row for row in self.messages.values() if row.conversation_id == conversation_id]

    def _shown(self, conversation_id: str) -> list[Row]:
        """Without what was replaced."""
        return [row for row in self._of(conversation_id) if row.superseded_by is None]

    def _mine(self, message_id: str, attempt: int) -> Row | None:
        row = self.messages.get(message_id)
        return row if row is not None and row.attempt == attempt and is_unfinished(row) else None

    def _save(self, row: Row, item: Checkpoint, kind: str) -> None:
        if item.saves < row.saves:
            return
        self._set(row, **_values(item), updated_at=self.now_ms())
        first, parts = item.changes.deleted_from, self.parts.setdefault(row.id, {})
        for number in [n for n in parts if first is not None and n >= first]:
            del parts[number]
        parts.update((part.number, part) for part in item.changes.parts)
        self._note(row, item.attempt, kind)
        self.on_saved(self._whole(row))

    def _whole(self, row: Row) -> Any:
        """What a reader is given: the row with its parts."""
        copied = copy_of(row)
        if row.part_count:
            texts = (row.open_text, row.content), (row.open_reasoning, row.reasoning)
            answer = assembled(row.part_count, *texts, self.parts[row.id].values())
            copied.__dict__.update(whole(answer)._asdict())
        return copied

    def _set(self, row: Row, **values: Any) -> None:
        row.__dict__.update(values)

    def _note(self, row: Row, attempt: int, kind: str) -> None:
        self.history.append(Write(self._clock(), row.id, attempt, kind, row.content, row.status))


def _values(item: Checkpoint | Ending) -> dict[str, Any]:
    return {
        field.name: getattr(item, field.name)
        for field in fields(item)
        if field.name not in ("message_id", "attempt", "changes", "calls_rev")
    }


def _answer(row: Row) -> Outstanding:
    return Outstanding(row.id, row.id, row.conversation_id, row.status, row.cancel_by)


def _page(rows: list[Any], after: str, limit: int) -> list[Any]:
    by_key = sorted(
        ((getattr(row, "key", None) or row.id, row) for row in rows), key=lambda item: item[0]
    )
    return [row for key, row in by_key if key > after][:limit]
