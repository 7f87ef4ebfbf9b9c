"""The time that Tokenwire adds to the first token on an idle system: from the POST to the first
chunk at a waiting reader.

The provider answers at once, so all of it is ours: web, SQL, the job, the call, the log, the
broadcaster.
"""

import asyncio
import json
import statistics
import time
from typing import Any

import websockets

from benchmarks.end_to_end import call, running_stack, serve_tokens

WARM, POSTS = 6, 40
PAUSE_SECONDS = 0.25


async def first_chunk(base: str) -> float:
    """Milliseconds from the post to its first chunk."""
    _, conversation = await call(f"{base}/api/conversations", {})
    path = f"{base}/api/conversations/{conversation['id']}"
    _, subscription = await call(f"{path}/subscription")
    _, snapshot = await call(path, method="GET")
    async with websockets.connect(str(subscription["url"]), compression=None) as reader:
        await reader.send(
            json.dumps(
                {"type": "subscribe", "token": subscription["token"], "after": snapshot["cursor"]}
            )
        )
        while json.loads(await reader.recv())["type"] != "live":
            pass
        sent = time.monotonic()
        posting = asyncio.create_task(call(f"{path}/messages", {"content": "go"}))
        event: dict[str, Any] = {"type": ""}
        while event["type"] != "chunk":
            event = json.loads(await reader.recv())
        elapsed = (time.monotonic() - sent) * 1000
        await posting
        await call(f"{path}/cancel")
    await asyncio.sleep(PAUSE_SECONDS)
    return elapsed


async def run() -> None:
    """Print one line."""
    provider = await asyncio.start_server(serve_tokens, "127.0.0.1", 0)
    async with provider, running_stack(provider.sockets[0].getsockname()[1]) as stack:
        times = [await first_chunk(stack.base) for _ in range(WARM + POSTS)][WARM:]
    cuts = statistics.quantiles(times, n=20)
    print(
        f"POST to first chunk at a reader, {POSTS} posts one after the other: p50 {cuts[9]:.1f} "
        f"ms, p95 {cuts[18]:.1f} ms"
    )


def main() -> None:
    """Entry of `python -m benchmarks`."""
    asyncio.run(run())


if __name__ == "__main__":
    main()
