"""JSON Schemas from strangers: is this one usable, and does a text fit it?

Guarantees: a check ends after `CPU_SECONDS` of computing and within `LONGEST_SECONDS` of its
beginning, and holds no loop and no lease meanwhile, whatever schema and text say. The first limit
is theirs; the second is the machine's, and the same check may pass later. At most `MOST_AT_A_TIME`
checks of strangers' schemas are under way, and one of each asker; what the operator's schemas
demand waits for none of them. Nothing is fetched: a reference leads into the schema itself. What
fits can be stored as JSON, and has at most MAX_JSON_DEPTH levels.

Why it works this way: a schema of some hundred bytes can mean 2^30 comparisons (references that
branch), and a pattern can backtrack. Only a process can be ended in the middle of that. It takes
about 50 ms, once for each document.

Rejected: a thread (nothing can end it, and it holds the interpreter's lock); schemas without
recursion only (trees and pydantic models recurse); a validator with a budget of our own.
"""

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import structlog

from tokenwire.protocol.text import MAX_JSON_DEPTH, is_shallow

log_line = structlog.get_logger(__name__)
T = TypeVar("T")
MAX_SCHEMA_BYTES = 64 * 1024
CPU_SECONDS = 4
LONGEST_SECONDS = 20.0
MOST_AT_A_TIME = 4
_POOL = ThreadPoolExecutor(MOST_AT_A_TIME, thread_name_prefix="schemas")
"""Where checks wait for their process: nothing else waits behind them."""
_OPERATORS_POOL = ThreadPoolExecutor(MOST_AT_A_TIME, thread_name_prefix="operators-schemas")
_turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
"""By asker, as long as a check is under way or waits."""
_PROGRAM = Path(__file__).with_name("schema_process.py")
_TOO_DEEP = f"#: the text is nested more than {MAX_JSON_DEPTH} levels deep"
_TOO_DEAR = "It could not be checked in the time allowed."


class BadSchema(ValueError):
    """The schema cannot be used. The sentence says why, and where. `number`: which of several."""

    def __init__(self, reason: str, number: int = 0) -> None:
        super().__init__(reason)
        self.number = number


class Unchecked(BadSchema):
    """The machine was too busy for the check. It may pass later."""


@dataclass(frozen=True, slots=True)
class Document:
    """A text that was checked. `value`: what it says, if it fits (no `errors`)."""

    value: Any
    errors: tuple[str, ...] = ()


async def require_usable(*schemas: Mapping[str, Any], asker: str) -> None:
    """Raises BadSchema, Unchecked. Without content, a schema allows any JSON. `asker`: the user
    whose request it is.
    """
    if any(schemas):
        await in_turn(asker, lambda: require_usable_now(*schemas))


def require_usable_now(*schemas: Mapping[str, Any]) -> None:
    """The same, for callers without a loop. One process checks all of them."""
    for number, schema in enumerate(schemas):
        try:
            size = len(json.dumps(schema))
        except (RecursionError, ValueError, TypeError) as error:
            raise BadSchema(f"#: it is no JSON ({type(error).__name__})", number) from error
        if size > MAX_SCHEMA_BYTES:
            words = f"#: it has {size} bytes, and {MAX_SCHEMA_BYTES} are allowed"
            raise BadSchema(words, number)
    _ask({"schemas": schemas})


async def in_turn(asker: str | None, check: Callable[[], T]) -> T:
    """Run a check in a thread. `asker`: the user or the server whose schema it is; None: the
    operator. A check that waits is dropped if its task is cancelled.
    """
    if asker is None:
        return await asyncio.wrap_future(_OPERATORS_POOL.submit(check))
    loop, turn = asyncio.get_running_loop(), _turns.setdefault(asker, asyncio.Lock())
    await turn.acquire()

    def end(_check: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(turn.release)

    under_way = _POOL.submit(check)
    under_way.add_done_callback(end)  # a thread goes on when its task is cancelled
    return await asyncio.wrap_future(under_way)


async def check(schema: Mapping[str, Any], text: str, asker: str) -> Document:
    """Whether the text is one JSON document that fits the schema. Fences are no JSON. `asker`: the
    user whose request it is.
    """
    try:
        found = await in_turn(asker, lambda: mistakes(schema, text))
    except BadSchema as error:
        return Document(None, (str(error),))
    if found:
        return Document(None, tuple(f"{'/'.join(['#', *path])}: {words}" for path, words in found))
    value = json.loads(text)
    return Document(value) if is_shallow(value) else Document(None, (_TOO_DEEP,))


def mistakes(schema: Mapping[str, Any], text: str) -> Sequence[tuple[list[str], str]]:
    """What is wrong with the text: paths, and words about each. It takes up to LONGEST_SECONDS.

    Raises BadSchema, also if the time does not suffice; Unchecked.
    """
    return [(path, words) for path, words in _ask({"schemas": [schema], "text": text})]


def _ask(question: Mapping[str, Any]) -> Sequence[Any]:
    """The errors that the process finds. Raises BadSchema, Unchecked."""
    try:
        done = subprocess.run(  # noqa: S603 -- our own program; what strangers sent is its input
            [sys.executable, "-I", str(_PROGRAM)],
            input=json.dumps({**question, "cpu_seconds": CPU_SECONDS}).encode(),
            capture_output=True,
            timeout=LONGEST_SECONDS,
            check=True,
        )
    except subprocess.CalledProcessError as error:  # a limit has ended it
        log_line.warning("a schema could not be checked", error=repr(error))
        raise BadSchema(_TOO_DEAR) from error
    except (subprocess.SubprocessError, OSError) as error:
        log_line.warning("the machine is too busy to check a schema", error=repr(error))
        raise Unchecked(_TOO_DEAR) from error
    answer: dict[str, Any] = json.loads(done.stdout)
    if (reason := answer.get("bad_schema")) is not None:
        raise BadSchema(reason, answer["number"])
    errors: Sequence[Any] = answer["errors"]
    return errors
