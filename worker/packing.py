"""Packs the logs of ended answers in the background, so that they cost little memory.

A log is packed a moment after the end, so nobody waits for it. Nothing depends on it: a log that
stays unpacked after a crash or an outage is packed with the conversation's next answer, or expires.
"""

import asyncio

import structlog

from tokenwire.streams.log import ports

log_line = structlog.get_logger(__name__)

PAUSE_SECONDS = 1.0
"""The pause between an end and the packing.

Later events (a title, for example) are packed too, and slightly late readers find the log
unpacked.
"""
MAX_WAITING = 10_000
"""The longest queue. Further conversations are not packed now."""


class Packing:
    """The logs that this process will pack. Belongs to one event loop."""

    def __init__(self, log: ports.Log, pause_seconds: float = PAUSE_SECONDS) -> None:
        self._log = log
        self._pause_seconds = pause_seconds
        self._waiting: set[str] = set()
        self._asked = asyncio.Event()
        log.on_end(self.ended)

    def ended(self, conversation_id: str) -> None:
        """Queue a conversation: an answer of it has its terminal event."""
        if len(self._waiting) < MAX_WAITING:
            self._waiting.add(conversation_id)
            self._asked.set()

    async def run(self) -> None:
        """Pack until cancelled."""
        while True:
            await self._asked.wait()
            await asyncio.sleep(self._pause_seconds)
            waiting, self._waiting = self._waiting, set()
            self._asked.clear()
            for conversation_id in sorted(waiting):
                await self._pack(conversation_id)

    async def _pack(self, conversation_id: str) -> None:
        try:
            count = await self._log.pack(conversation_id)
            log_line.debug("log packed", conversation_id=conversation_id, events=count)
        except ports.LogError as error:
            log_line.info(
                "log not packed", conversation_id=conversation_id, reason=type(error).__name__
            )
