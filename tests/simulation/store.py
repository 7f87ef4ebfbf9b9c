"""A process's part of the simulated database: the methods of `models.store.Store`, each a call over
the network.
"""

from typing import Any

from tests.simulation.database import Database
from tests.simulation.loop import Node
from tests.simulation.net import Net, NoAnswer, Service
from tokenwire.models.answers import Answers, Checkpoint, Ending
from tokenwire.models.calls import Calls
from tokenwire.models.decisions import Decisions
from tokenwire.models.errors import StoreUnavailable

REMOTE = {
    name: name
    for name in (
        *(
            "now_ms",
            "message",
            "conversation_of",
            "blocked_by",
            "next_queued",
            "unfinished",
            "begin_attempt",
            "checkpoint",
            "hand_back",
        ),
        *(
            "terminal_announced",
            "note_attempt",
            "schedule_retry",
            "mark_enqueued",
            "mark_announced",
            "request_cancel",
        ),
        *("note_bill", "begin_run", "note_run", "run_ended", "runs_to_end", "try_to_end"),
        *(
            "to_cancel",
            "begun",
            "heads",
            "ended",
            "unannounced_rows",
            "unannounced_titles",
            "undeleted_logs",
            "log_deleted",
            "count_start",
        ),
        *("unannounced_revocations", "outstanding"),
        *("changed_lately", "announce_again"),
        *("save_file", "files"),
        *(
            "create_conversation",
            "conversation",
            "snapshot",
            "visible_message",
            "delete_conversation",
            "post",
            "mark_posted",
        ),
        *(
            *("calls_of", "calls_at", "is_followed", "prove_turn", "lose_calls"),
            *("decisions_of", "expire_calls", "withdraw_calls", "expired_calls"),
            *("steering_behind", "take_in", "texts_of"),
        ),
    )
} | {
    "history": "history_of",
    "_finish": "finish_now",
    "_claim_call": "claim_now",
    "_claimed": "claimed",
    "_finish_call": "finish_call_now",
    "_has_finished": "has_finished",
    "_park": "park_now",
    "_has_parked": "has_parked",
    "_decide": "decide_now",
}


READS = frozenset(
    (
        *(
            "now_ms",
            "message",
            "conversation_of",
            "history",
            "blocked_by",
            "next_queued",
            "unfinished",
        ),
        *(
            "runs_to_end",
            "outstanding",
            "to_cancel",
            "begun",
            "heads",
            "ended",
            "unannounced_rows",
            "unannounced_titles",
            "undeleted_logs",
            "unannounced_revocations",
            "changed_lately",
            "conversation",
            "snapshot",
            "visible_message",
            "files",
        ),
        *("calls_of", "calls_at", "is_followed", "decisions_of", "expired_calls"),
        *("_claimed", "_has_finished", "_has_parked", "steering_behind", "texts_of"),
    )
)


class Store:
    """`models.store.Store` as one process sees it."""

    finish = Answers.finish
    _ended_by = Answers._ended_by
    claim_call = Calls.claim_call
    finish_call = Calls.finish_call
    park = Calls.park
    decide = Decisions.decide

    def __init__(self, net: Net, node: Node, service: Service, database: Database) -> None:
        self._net, self._node, self._service, self._database = net, node, service, database

    async def aclose(self) -> None:
        """Nothing to close."""


def _remote(name: str, target: str) -> Any:
    async def method(self: Store, *args: Any, **kwargs: Any) -> Any:
        act = getattr(self._database, target)
        what = f"sql {name}{_told(args)}"
        try:
            return await self._net.call(
                self._node,
                self._service,
                what,
                lambda: act(*args, **kwargs),
                writes=name not in READS,
            )
        except NoAnswer as error:
            raise StoreUnavailable(str(error)) from error

    method.__name__ = name
    return method


def _told(args: tuple[Any, ...]) -> str:
    told = []
    for item in args[0] if args and isinstance(args[0], list) else args:
        if isinstance(item, Checkpoint | Ending):
            told.append(
                f"{item.message_id}#{item.attempt} {getattr(item, 'status', '')} "
                f"{len(item.content)} to {item.epoch}:{item.seq}"
            )
            if getattr(item, "run_id", None):
                told[-1] += f" of {item.run_id}:{item.run_cursor}"
        else:
            told.append(str(item)[:40])
    return f"({', '.join(told)})"


for _name, _target in REMOTE.items():
    setattr(Store, _name, _remote(_name, _target))
