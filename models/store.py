"""The store: every query of the project, as one object per process.

`conversations.py` is for people (web), `participants.py` for participation, `answers.py` for
workers, `calls.py` and `decisions.py` for tool calls, `steering.py` for what reaches a running
answer, `overviews.py` for lists, `deletions.py` for
deletions, `runs.py` for provider runs; `database.py` has the transactions. Each method is one
transaction and raises `models.errors.StoreUnavailable` if the database does not answer.
"""

from tokenwire.models.answers import Answers
from tokenwire.models.calls import Calls
from tokenwire.models.chats import Chats
from tokenwire.models.conversations import Conversations
from tokenwire.models.decisions import Decisions
from tokenwire.models.deletions import Deletions
from tokenwire.models.engines import TIMEOUT_SECONDS
from tokenwire.models.files import Files
from tokenwire.models.overviews import Overviews
from tokenwire.models.participants import Participants
from tokenwire.models.quotas import NO_QUOTAS, Quotas
from tokenwire.models.repairs import Repairs
from tokenwire.models.responses import Responses
from tokenwire.models.runs import Runs
from tokenwire.models.steering import Steering
from tokenwire.models.sweeps import Sweeps
from tokenwire.models.usage import Usages


class Store(
    Calls,
    Chats,
    Conversations,
    Decisions,
    Deletions,
    Answers,
    Files,
    Overviews,
    Participants,
    Repairs,
    Responses,
    Runs,
    Steering,
    Sweeps,
    Usages,
):
    """All queries over one database."""

    @classmethod
    def open(
        cls,
        database_url: str,
        quotas: Quotas = NO_QUOTAS,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> "Store":
        """A store for `sqlite:///path` or `postgresql://...`; connects at its first use. Raises
        ValueError for another address.

        `timeout_seconds`: a transaction counts as unanswered after this, whatever the database
        does.
        """
        return cls(database_url, quotas, timeout_seconds=timeout_seconds)
