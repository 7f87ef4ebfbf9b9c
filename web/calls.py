"""Pure: the names under which dialects show tool calls."""

from collections.abc import Sequence

from tokenwire.protocol.fold import Part


class CallIds:
    """The ids of an answer's calls: no two calls of the answer have the same.

    It is the provider's id, unless an earlier call has that: providers repeat ids from turn to
    turn. It depends only on the parts up to this one, so it is known when the call begins, and
    stays. The parts may grow between two questions, and a reset may shorten them: what was read
    before is not read again.
    """

    def __init__(self) -> None:
        self._forget()

    def of(self, parts: Sequence[Part], number: int) -> str:
        """The id of the call with this number; "" if the part is no call."""
        read = len(self._read)
        if read and (len(parts) < read or parts[read - 1] is not self._read[-1]):
            self._forget()
        for place in range(len(self._read), number + 1):
            self._add(place, parts[place])
        return self._ids.get(number, "")

    def _forget(self) -> None:
        self._read: list[Part] = []
        self._ids: dict[int, str] = {}
        self._taken: set[str] = set()

    def _add(self, place: int, part: Part) -> None:
        self._read.append(part)
        if part.type != "tool_call":
            return
        found = str(part.fields.get("id") or "")
        if found in self._taken:
            found = f"{found}.{place}"
        while found in self._taken:  # a provider chose just this id
            found += "."
        self._taken.add(found)
        self._ids[place] = found
