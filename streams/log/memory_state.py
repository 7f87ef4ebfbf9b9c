"""A `MemoryLog`'s state of one conversation, and the rules that need nothing else.

These rules are: forks, window, packing, forgetting.
"""

import secrets
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from tokenwire.protocol.events import Entry
from tokenwire.streams.hub.log_cursor import fitting
from tokenwire.streams.log.packing import BLOCK_BYTES, BLOCK_EVENTS, pack
from tokenwire.streams.log.ports import (
    ENDING_SECONDS,
    HEARD_SECONDS,
    LONGEST_LEASE_SECONDS,
    UNHEARD_SECONDS,
    Limits,
    shared_top,
)

SLACK = 17 / 16
MAX_FORKS = 16
MAX_REMEMBERED = 512
"""Maximum of remembered answers and announced rows; above it, the older half of the ended ones is
forgotten.
"""


def epoch_name() -> str:
    """A new random name for an epoch, as on Redis."""
    return secrets.token_hex(4)


@dataclass(slots=True)
class LoggedAnswer:
    attempt: int = 0
    epoch: str | None = None
    next_index: int = 0
    last_batch: tuple[int, int] = (0, 0)
    lease_until: float = 0.0
    sealed: bool = False
    cancel_by: str | None = None
    waited_until: float = 0.0
    heard: bool = False

    def leased(self, now: float) -> bool:
        return now < self.lease_until <= now + LONGEST_LEASE_SECONDS

    def mark_heard(self) -> None:
        """The holder knows of the cancel. It gets a little more time, once."""
        if not self.heard:
            self.waited_until, self.heard = (
                self.waited_until + HEARD_SECONDS - UNHEARD_SECONDS,
                True,
            )

    def hold(self, now: float, *, to_end: bool) -> None:
        """Another caller has claimed the answer under a cancel, and gets time of its own."""
        if to_end or self.disobeys(now):
            self.waited_until, self.heard = now + ENDING_SECONDS, True
        else:
            self.mark_heard()

    def disobeys(self, now: float) -> bool:
        """Whether the holder had the time to stop, but did not."""
        return self.cancel_by is not None and not now < self.waited_until <= now + ENDING_SECONDS


@dataclass(slots=True)
class PackedBlock:
    entry: Entry
    at: float


@dataclass(slots=True)
class Block:
    """Events that Redis would hold packed; here only their counts."""

    events: int
    size: int
    at: float


@dataclass(slots=True)
class Announced:
    rev: int
    epoch: str
    seq: int


@dataclass(slots=True)
class LogState:
    epoch: str
    run: int
    expires_at: float
    top: int = 0
    size: int = 0
    kept: deque[PackedBlock] = field(default_factory=deque)
    blocks: deque[Block] = field(default_factory=deque)
    floors: dict[str, int] = field(default_factory=dict)
    answers: dict[str, LoggedAnswer] = field(default_factory=dict)
    announced: dict[str, Announced] = field(default_factory=dict)
    forks: dict[str, int] = field(default_factory=dict)

    @property
    def oldest(self) -> int:
        return self.kept[0].entry.seq if self.kept else self.top + 1

    @property
    def unpacked(self) -> int:
        """The seq of the oldest unpacked event."""
        return self.oldest + sum(block.events for block in self.blocks)

    def fork(self, run: int) -> None:
        forks = [
            (self.epoch, self.top),
            *((epoch, min(seq, self.top)) for epoch, seq in self.forks.items()),
        ]
        self.epoch, self.run, self.forks = epoch_name(), run, dict(forks[:MAX_FORKS])

    def shared(self, epoch: str | None) -> int | None:
        return shared_top(self.epoch, self.top, self.forks, epoch)

    def forget(self) -> None:
        if len(self.answers) + len(self.announced) <= MAX_REMEMBERED:
            return
        sealed = {name: g for name, g in self.answers.items() if g.sealed}
        ended: list[tuple[int, dict[str, Any], str]] = []
        ended += [(g.last_batch[1], self.answers, name) for name, g in sealed.items()]
        ended += [(a.seq, self.announced, name) for name, a in self.announced.items()]
        ended.sort(key=lambda item: item[0])
        for _, known, name in ended[: len(ended) // 2]:
            del known[name]

    def pack(self) -> int:
        """Count events as packed that no running answer needs; returns their number."""
        highest, first = min([self.top, *self.floors.values()]), self.unpacked
        while self.unpacked <= highest:
            start, stop = self.unpacked - self.oldest, highest - self.oldest + 1
            kept = [self.kept[place] for place in range(start, min(start + BLOCK_EVENTS, stop))]
            events = [entry.data for entry in fitting([item.entry for item in kept], BLOCK_BYTES)]
            block = Block(len(events), len(pack(events)), kept[len(events) - 1].at)
            self.size += block.size - sum(map(len, events))
            self.blocks.append(block)
        return self.unpacked - first

    def trim(self, limits: Limits, now: float) -> None:
        """Trim to the window in steps, packed blocks first and whole, never above the lowest
        floor.
        """
        if not self._over(limits, now, SLACK):
            return
        while self.blocks and (
            len(self.kept) - self.blocks[0].events >= limits.max_events
            or self._too_much(limits, now, 1)
        ):
            self._drop_block()
        highest = min(self.floors.values(), default=self.top)
        while (
            not self.blocks
            and self.kept
            and self.kept[0].entry.seq <= highest
            and self._over(limits, now, 1)
        ):
            self.size -= len(self.kept.popleft().entry.data)

    def _drop_block(self) -> None:
        block = self.blocks.popleft()
        self.size -= block.size
        for _ in range(block.events):
            self.kept.popleft()

    def _over(self, limits: Limits, now: float, slack: float) -> bool:
        return len(self.kept) > limits.max_events * slack or self._too_much(limits, now, slack)

    def _too_much(self, limits: Limits, now: float, slack: float) -> bool:
        first = self.blocks[0] if self.blocks else self.kept[0] if self.kept else None
        too_old = first is not None and now - first.at > limits.max_seconds * slack
        return too_old or self.size > limits.max_bytes * slack
