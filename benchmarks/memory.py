"""The memory that finished answers take in Redis: 6,000 characters in 1,500 chunks each, before and
after packing.

`used_memory` of the server with the answers, minus that without them. Each conversation is
realistic: the user's message, the answer's row, a start, chunks in the batches of a loaded worker,
the end. Exits non-zero if a reader gets different bytes afterwards, or if packing saves less than
four fifths.
"""

import asyncio
import sys
import time

import redis.asyncio

from tests.valkey import Valkey
from tokenwire.config.settings import ROOT
from tokenwire.protocol.events import AnyEvent, Chunk, Complete, Start, Title
from tokenwire.streams.log.redis import RedisLog

ANSWERS = 100
CHUNKS = 1500
TEXT = (ROOT / "PROTOCOL.md").read_text("utf-8").replace("\n", " ")[1000:7000]
"""English, neither random nor repeated."""
EVENTS_PER_CALL = 20
GOAL = 1 / 5


def message(number: int) -> str:
    return f"0198f7c2-6a51-7c3e-9b1d-{number:012x}"


async def answer(log: RedisLog, number: int) -> None:
    name = message(number)
    await log.announce(name, name, 1, Title("What the beginning was", 1))
    claim = await log.claim(name, name, 0, 30)
    events: list[AnyEvent] = [Start(name, 1, "demo")]
    events += [
        Chunk(name, 1, 4 * place, TEXT[4 * place : 4 * place + 4], 0) for place in range(CHUNKS)
    ]
    starts = range(0, len(events), EVENTS_PER_CALL)
    for index, start in enumerate(starts):
        await log.append(claim, index, 0, events[start : start + EVENTS_PER_CALL])
    await log.append(
        claim, len(starts), 0, [Complete(name, 1, "stop", None, 4 * CHUNKS, 0, [], 0, 0)]
    )


async def whole(log: RedisLog, name: str) -> list[bytes]:
    page = await log.read(name, None, 0, 10_000)
    return [entry.data for entry in page.entries]


async def used(client: "redis.asyncio.Redis") -> int:
    return int((await client.info("memory"))["used_memory"])


async def measure(url: str) -> tuple[float, float, float]:
    """Bytes of each answer before and after, and milliseconds of this process to pack one."""
    log = RedisLog(url)
    async with redis.asyncio.Redis.from_url(url) as client:
        await answer(log, 0)
        await log.pack(message(0))  # loads scripts and allocates buffers
        empty = await used(client)
        for number in range(1, ANSWERS + 1):
            await answer(log, number)
        before, read = (
            await used(client),
            [await whole(log, message(number)) for number in (1, ANSWERS)],
        )
        began = time.process_time()
        for number in range(1, ANSWERS + 1):
            await log.pack(message(number))
        took = time.process_time() - began
        after = await used(client)
        if read != [await whole(log, message(number)) for number in (1, ANSWERS)]:
            sys.exit("a reader gets something else than before")
    await log.aclose()
    return (before - empty) / ANSWERS, (after - empty) / ANSWERS, took / ANSWERS * 1000


def main() -> int:
    server = Valkey()
    server.start()
    try:
        before, after, took = asyncio.run(measure(server.url))
    finally:
        server.remove()
    print(f"{4 * CHUNKS:,} characters in {CHUNKS:,} chunks:\n")
    print("| a finished answer | KB in Redis | GB a day at one in two seconds |\n|---|---|---|")
    for name, size in (("as it was written", before), ("packed", after)):
        print(f"| {name} | {size / 1e3:.1f} | {size * 43_200 / 1e9:.1f} |")
    met = after <= GOAL * before
    print(
        f"\nPacking one takes a worker {took:.1f} ms of CPU. Goal: a fifth of the memory: "
        f"{'met' if met else 'missed'}"
    )
    return int(not met)


if __name__ == "__main__":
    sys.exit(main())
