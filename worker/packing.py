"""Packs the logs of ended answers beside the work, so that what readers may need in the next hours
costs little memory.

It comes a moment after the end, so that nobody waits for it, and nothing depends on it: what a
crash or an outage leaves unpacked is packed with the conversation's next answer, or expires with
the log.
"""

import asyncio

import structlog

from tokenwire.streams.log import ports

log_line = structlog.get_logger(__name__)

PAUSE_SECONDS = 1.0
"""After an end: later events (a title, for example) are packed with it, and slightly late readers
find it unpacked.
"""
MAX_WAITING = 10_000
"""More conversations than this do not wait to be packed."""


class Packing:
    """The logs that a process is to pack: those of answers that it has ended, and others that it is
    given.

    Belongs to one event loop.
    """

    def __init__(self, log: ports.Log, pause_seconds: float = PAUSE_SECONDS) -> None:
        self._log = log
        self._pause_seconds = pause_seconds
        self._waiting: set[str] = set()
        self._asked = asyncio.Event()
        log.on_end(self.ended)

    def ended(self, conversation_id: str) -> None:
        """An answer of this conversation has its terminal event."""
        if len(self._waiting) < MAX_WAITING:
            self._waiting.add(conversation_id)
            self._asked.set()

    async def run(self) -> None:
        """For as long as the process lives."""
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
                "log left as it is", conversation_id=conversation_id, reason=type(error).__name__
            )
