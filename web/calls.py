"""Pure: the names under which dialects show tool calls."""

from collections.abc import Sequence

from tokenwire.protocol.fold import Part


def call_id(parts: Sequence[Part], number: int) -> str:
    """The id of the call with this number: no earlier call of the answer has it.

    It is the provider's id, unless an earlier call has that: providers repeat ids from turn to
    turn. It depends only on the parts up to this one, so it is known when the call begins, and
    stays.
    """
    taken: set[str] = set()
    found = ""
    for place, part in enumerate(parts[: number + 1]):
        if part.type == "tool_call":
            found = str(part.fields.get("id") or "")
            if found in taken:
                found = f"{found}.{place}"
            while found in taken:  # a provider chose just this id
                found += "."
            taken.add(found)
    return found
