"""Pure: the one way from the bytes of a request to a JSON value that every store takes.

What is not JSON is refused (400), and so is what Python's parser would let pass: NaN, infinities (`1e999` too), endless nesting, integers
that no text could be shorter than. Texts and names are made `storable`. Shapes are the business of who asked.
"""

import json
import math
from typing import Any, NoReturn

from streams.text import fits, storable_json
from web.problems import ApiProblem

MAX_ID = 255


def decode(body: bytes) -> Any:
    """The value. Raises ApiProblem (400 `malformed_json`)."""
    try:
        return storable_json(json.loads(body.decode(), parse_constant=_refuse, parse_float=_finite))
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise ApiProblem("malformed_json", "The body is not JSON.") from error


def is_id(value: str) -> bool:
    """Whether a text can be somebody's id: 1 to 255 characters that were not mended (another text would become the same id)."""
    return bool(value) and fits(value, MAX_ID) and "\ufffd" not in value


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number beyond all bounds")
    return value
