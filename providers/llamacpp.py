"""Pure: llama.cpp's addition to `openai.chat`: an answer that can be attached to.

With the header `X-Conversation-Id` (builds since May 2026; older ones ignore it) the server
continues without its client and keeps the last 4 MiB of the stream for 300 s; `GET
/v1/stream?conv_id=...&from=<byte offset>` replays and follows it, `DELETE` ends it. The cursor is
the byte after the last complete event. One run has one such id: a second POST with it would cancel
the first.
"""

import uuid
from collections.abc import Callable
from urllib.parse import quote

from tokenwire.providers.base import Continuation, Delta, InvalidRequest
from tokenwire.providers.dialect import Call
from tokenwire.providers.openai_chat import ChatDecoder

_EVENT_END = b"\n\n"


class ResumableDecoder(ChatDecoder):
    """Counts the bytes that it reads."""

    def __init__(self, run_id: str, offset: int = 0) -> None:
        super().__init__()
        self.run_id = run_id
        self.cursor = offset
        self._read = offset
        self._last = b""

    def feed(self, data: bytes) -> list[Delta]:
        """The deltas that `data` completes. The cursor moves to the end of its last whole event."""
        seen = self._last + data  # a line end of two bytes may come in two reads
        end = seen.rfind(_EVENT_END)
        if end >= 0:
            self.cursor = self._read - len(self._last) + end + len(_EVENT_END)
        self._read += len(data)
        self._last = seen[-1:]
        return super().feed(data)


def resumable() -> tuple[dict[str, str], Callable[[], ResumableDecoder]]:
    """The headers that make a new run resumable, and its decoder."""
    run_id = uuid.uuid4().hex
    return {"x-conversation-id": run_id}, lambda: ResumableDecoder(run_id)


def attach(continuation: Continuation) -> Call:
    """Attach to a run. Raises InvalidRequest without its id."""
    run_id, cursor = continuation.run_id, continuation.cursor or 0
    if not run_id:
        raise InvalidRequest("there is no run to attach to", code="no_run_id")
    return Call(
        f"/stream?conv_id={quote(run_id, safe='')}&from={cursor}",
        None,
        method="GET",
        decoder=lambda: ResumableDecoder(run_id, cursor),
        attaches=True,
    )


def cancel(run_id: str) -> Call:
    """Stop a run."""
    return Call(f"/stream?conv_id={quote(run_id, safe='')}", None, method="DELETE", ends_run=True)
