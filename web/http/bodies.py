"""The only way from a request's bytes to a JSON value that every store accepts.

Invalid JSON is refused (400), and so is what Python's parser would accept: NaN, infinities (`1e999`
too), endless nesting, overlong integers. Texts and names are made `storable`. Callers check the
shape.

A C parser handles nearly every body alone. Only a body that may need repairs is walked. Its size is
measured before (`census`); large ones are parsed in a thread (`aside`).
"""

import contextlib
from typing import Any

import msgspec

from tokenwire.protocol.text import (
    MAX_JSON_DEPTH,
    NameTwice,
    TooBroken,
    fits,
    storable_json,
    strict_json,
)
from tokenwire.web.http import census
from tokenwire.web.http.census import Census, TooMany
from tokenwire.web.problems import ApiProblem

MAX_ID = 255
MAX_REPLACED = 1000
"""Per body: JavaScript sometimes cuts a text within a character; replacing a million halves would
take long.
"""


def decode(body: bytes, most: int | None = None, *, once: bool = False) -> Any:
    """Parse a JSON body. Raises ApiProblem: 400 `malformed_json`, 413 above `most` values.

    `once` refuses an object that has a name twice: whoever stands between may take the first value
    for the one that counts. It costs the fast path, so long histories go without.
    """
    found = surveyed(body, most)
    try:
        if found.plain and not once:
            with contextlib.suppress(
                msgspec.DecodeError
            ):  # perhaps half a character: the slow path can repair it
                return msgspec.json.decode(body)
        return storable_json(strict_json(body.decode(), once=once), MAX_REPLACED)
    except TooBroken as error:
        detail = (
            f"The body holds more than {MAX_REPLACED} characters that are none: U+0000, or "
            f"halves of a surrogate pair."
        )
        raise ApiProblem("malformed_json", detail) from error
    except NameTwice as error:
        detail = "The body has an object in which a name occurs twice."
        raise ApiProblem("malformed_json", detail) from error
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise _no_json() from error


def surveyed(body: bytes, most: int | None = None) -> Census:
    """Count the values of a body before it is parsed. Raises ApiProblem (400 for endless nesting,
    413 for more than `most` values).
    """
    try:
        found = census.take(body, most)
    except TooMany as error:
        raise ApiProblem("body_too_large", f"The body holds more than {most} values.") from error
    if found.depth > MAX_JSON_DEPTH:
        detail = f"The body is nested more than {MAX_JSON_DEPTH} levels deep."
        raise ApiProblem("malformed_json", detail)
    return found


def _no_json() -> ApiProblem:
    return ApiProblem("malformed_json", "The body is not JSON.")


def is_id(value: str) -> bool:
    """Whether a text is a possible id: 1 to 255 characters without repairs (another text would give
    the same id).
    """
    return bool(value) and fits(value, MAX_ID) and "\ufffd" not in value
