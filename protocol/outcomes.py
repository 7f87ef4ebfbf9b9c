"""Pure: what a model gets back for a tool call.

A call that ended without a word about it gets a sentence by its state: providers refuse a history
with an open call, and a model repeats such a call.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

_WITHDRAWN: Final = "This call was withdrawn before it was carried out."
_UNKNOWN: Final = "It is unknown whether this call took effect."
_SENTENCES: Final[Mapping[str, str]] = {
    "invalid": "This call was not carried out: its input is no JSON object, holds a name twice, or "
    "is cut off.",
    "failed": "This call failed.",
    "denied": "This call was not allowed.",
    "withdrawn": _WITHDRAWN,
    "awaiting_approval": _WITHDRAWN,
    "awaiting_client": _WITHDRAWN,
    "unknown": _UNKNOWN,
    "running": _UNKNOWN,
    "awaiting_outcome": _UNKNOWN,
}


def outcome_of(call: Mapping[str, Any]) -> tuple[str, bool] | None:
    """The text for a call with these fields, and whether it is an error.

    None: nobody has seen to the call yet; its result may come in a later message.
    """
    state = call.get("state")
    if "error" in call:
        return _text(call["error"]), True
    if "result" in call or state == "done":  # a result that is null is left out
        return _text(call.get("result")), False
    sentence = _SENTENCES.get(state) if isinstance(state, str) else None
    return None if sentence is None else (sentence, True)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
