"""JSON Schemas from strangers: is this one usable, and does a text fit it?

Guarantees: a check ends after `CPU_SECONDS` of computing and within `LONGEST_SECONDS` of its
beginning, and holds no loop and no lease meanwhile, whatever schema and text say. The first limit
is theirs; the second is the machine's, and the same check may pass later. At most `MOST_AT_A_TIME`
checks of strangers' schemas are under way, and one of each asker. A check that has computed for
`QUICK_SECONDS` is ended and begun again where `MOST_SLOW_AT_A_TIME` have a place, with the least
priority: a crowd that asks for dear checks waits for itself, and others pass it. It waits for such
a place for `LONGEST_SECONDS`. What the operator's schemas demand waits for no stranger. Nothing is
fetched: a reference leads into the schema itself. What fits can be stored as JSON, and has at most
MAX_JSON_DEPTH levels.

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
CPU_SECONDS = 4.0
QUICK_SECONDS = 0.25
LONGEST_SECONDS = 20.0
MOST_AT_A_TIME = 4
MOST_SLOW_AT_A_TIME = 2
_POOL = ThreadPoolExecutor(MOST_AT_A_TIME, thread_name_prefix="schemas")
"""Where checks wait for their process: nothing else waits behind them."""
_SLOW_POOL = ThreadPoolExecutor(MOST_SLOW_AT_A_TIME, thread_name_prefix="slow-schemas")
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


class TooDear(BadSchema):
    """The check has computed for as long as it may."""


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
        await in_turn(asker, lambda seconds: require_usable_now(*schemas, cpu_seconds=seconds))


def require_usable_now(*schemas: Mapping[str, Any], cpu_seconds: float = CPU_SECONDS) -> None:
    """The same, for callers without a loop. One process checks all of them."""
    for number, schema in enumerate(schemas):
        try:
            size = len(json.dumps(schema))
        except (RecursionError, ValueError, TypeError) as error:
            raise BadSchema(f"#: it is no JSON ({type(error).__name__})", number) from error
        if size > MAX_SCHEMA_BYTES:
            words = f"#: it has {size} bytes, and {MAX_SCHEMA_BYTES} are allowed"
            raise BadSchema(words, number)
    _ask({"schemas": schemas, "cpu_seconds": cpu_seconds})


async def in_turn(asker: str | None, check: Callable[[float], T]) -> T:
    """Run a check in a thread; its argument is for how many seconds it may compute. Raises what
    the check raises; Unchecked. `asker`: the user or the server whose schema it is; None: the
    operator. A check that waits is dropped if its task is cancelled.
    """
    if asker is None:
        return await asyncio.wrap_future(_OPERATORS_POOL.submit(check, CPU_SECONDS))
    loop, turn = asyncio.get_running_loop(), _turns.setdefault(asker, asyncio.Lock())
    await turn.acquire()
    under_way = _POOL.submit(check, QUICK_SECONDS)

    def end(_check: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(turn.release)

    try:
        with contextlib.suppress(TooDear):
            return await asyncio.wrap_future(under_way)
        under_way = _SLOW_POOL.submit(check, CPU_SECONDS)
        async with asyncio.timeout(LONGEST_SECONDS):
            return await asyncio.wrap_future(under_way)
    except TimeoutError as error:
        raise Unchecked(_TOO_DEAR) from error
    finally:
        if under_way.done():
            turn.release()
        else:  # a thread goes on when its task is cancelled
            under_way.add_done_callback(end)


async def check(schema: Mapping[str, Any], text: str, asker: str) -> Document:
    """Whether the text is one JSON document that fits the schema. Fences are no JSON. `asker`: the
    user whose request it is.
    """
    try:
        found = await in_turn(asker, lambda seconds: mistakes(schema, text, seconds))
    except BadSchema as error:
        return Document(None, (str(error),))
    if found:
        return Document(None, tuple(f"{'/'.join(['#', *path])}: {words}" for path, words in found))
    value = json.loads(text)
    return Document(value) if is_shallow(value) else Document(None, (_TOO_DEEP,))


def mistakes(
    schema: Mapping[str, Any], text: str, cpu_seconds: float = CPU_SECONDS
) -> Sequence[tuple[list[str], str]]:
    """What is wrong with the text: paths, and words about each. It takes up to LONGEST_SECONDS.

    Raises BadSchema; TooDear, if the time does not suffice; Unchecked.
    """
    question = {"schemas": [schema], "text": text, "cpu_seconds": cpu_seconds}
    return [(path, words) for path, words in _ask(question)]


def _ask(question: Mapping[str, Any]) -> Sequence[Any]:
    """The errors that the process finds. Raises BadSchema, TooDear, Unchecked."""
    is_quick = question["cpu_seconds"] < CPU_SECONDS
    niceness = 10 if is_quick else 15  # leases and streams come first
    try:
        done = subprocess.run(  # noqa: S603 -- our own program; what strangers sent is its input
            [sys.executable, "-I", str(_PROGRAM)],
            input=json.dumps({**question, "nice": niceness}).encode(),
            capture_output=True,
            timeout=LONGEST_SECONDS,
            check=True,
        )
    except subprocess.CalledProcessError as error:  # a limit has ended it
        if not is_quick:
            log_line.warning("a schema could not be checked", error=repr(error))
        raise TooDear(_TOO_DEAR) from error
    except (subprocess.SubprocessError, OSError) as error:
        log_line.warning("the machine is too busy to check a schema", error=repr(error))
        raise Unchecked(_TOO_DEAR) from error
    answer: dict[str, Any] = json.loads(done.stdout)
    if (reason := answer.get("bad_schema")) is not None:
        raise BadSchema(reason, answer["number"])
    errors: Sequence[Any] = answer["errors"]
    return errors
