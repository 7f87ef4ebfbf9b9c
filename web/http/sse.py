"""Pure: the headers of every stream of server-sent events, whatever its dialect."""

from collections.abc import Mapping

MEDIA_TYPE = "text/event-stream"
HEADERS: Mapping[str, str] = {
    "Content-Type": f"{MEDIA_TYPE}; charset=utf-8",
    "Cache-Control": "no-store, no-transform",  # proxies neither cache nor compress it
    "X-Accel-Buffering": "no",  # nginx: pass on every byte at once
}
