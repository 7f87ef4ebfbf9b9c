"""Places in threads, and which user gets the next one.

Guarantees: users who wait get places in turn, and each user's calls in their order. One user's
calls hold at most three quarters of the places (rounded up), so tools of one user that hang leave
room for others.

Rejected: one queue for all (a user with 400 calls made all others wait for them); half of the
places or less for a user (an installation without logins has one user).
"""

import asyncio
import math
from collections import Counter, deque


class ThreadPlaces:
    """The places of a process. Belongs to the loop on which it is used."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._most = math.ceil(count * 3 / 4)
        self._held: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        """By user, in the order of their turns."""

    @property
    def free(self) -> int:
        """How many nobody holds."""
        return self._free

    async def take(self, user_id: str) -> None:
        """Wait for a place."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(user_id, deque()).append(turn)
        self._hand_out()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._leave(user_id, turn)
            else:  # it came at the same moment
                self.give_back(user_id)
            raise

    def give_back(self, user_id: str) -> None:
        """Free a place that this user took."""
        self._free += 1
        self._held[user_id] -= 1
        if not self._held[user_id]:
            del self._held[user_id]
        self._hand_out()

    def _hand_out(self) -> None:
        while self._free and (user_id := self._next()) is not None:
            turn = self._waiting[user_id][0]
            self._leave(user_id, turn)
            if turn.cancelled():  # its task does not know yet
                continue
            if user_id in self._waiting:  # behind the others
                self._waiting[user_id] = self._waiting.pop(user_id)
            self._free -= 1
            self._held[user_id] += 1
            turn.set_result(None)

    def _next(self) -> str | None:
        return next((one for one in self._waiting if self._held[one] < self._most), None)

    def _leave(self, user_id: str, turn: asyncio.Future[None]) -> None:
        turns = self._waiting.get(user_id, deque())
        if turn in turns:
            turns.remove(turn)
            if not turns:
                del self._waiting[user_id]
