"""The simulation's database behaves like the real ones: the tests of
`tests/contracts/test_store.py`, over it.
"""

import time
from collections.abc import Callable
from typing import Any

import pytest

# Found by name.
from tests.contracts.test_files import test_only_the_current_attempt_stores_files  # noqa: F401

# Tests are found by name.
from tests.contracts.test_pages import test_pages_of_messages_reach_the_beginning  # noqa: F401
from tests.contracts.test_parts import (  # noqa: F401 - the same
    running,
    test_a_cut_part_is_gone,
    test_a_refused_end_changes_nothing,
    test_hand_overs_and_names_of_runs_save_parts_too,
    test_of_two_checkpoints_the_later_one_counts,
)
from tests.contracts.test_store import (  # noqa: F401 - tests and fixtures are found by name
    conversation,
    test_a_checkpoint_saves_only_current_attempts,
    test_a_post_writes_both_rows,
    test_a_retry_is_due_by_the_database_clock,
    test_an_answer_ends_once,
    test_answers_of_a_conversation_wait_for_each_other,
    test_attempts_only_increase,
    test_checkpoints_and_posts_of_many_tasks_do_not_disturb_each_other,
    test_effects_of_a_post_are_noted_at_once,
    test_history_holds_earlier_messages,
    test_marks_only_go_forward,
    test_one_of_two_simultaneous_endings_counts,
    test_posts_at_once_get_different_ordinals,
    test_the_first_cancel_counts,
)
from tests.simulation.database import Database
from tests.simulation.loop import Node
from tests.simulation.net import Service
from tests.simulation.store import Store


class Direct:
    """A network without distance."""

    async def call(
        self, node: Node, service: Service, what: str, act: Callable[[], Any], *, writes: bool
    ) -> Any:
        return act()


@pytest.fixture
async def store() -> Any:
    return Store(Direct(), None, None, Database(time.monotonic))  # type: ignore[arg-type]
