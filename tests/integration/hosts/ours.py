"""Tokenwire beside a host:
`python -m tests.integration.hosts.ours DATABASE_URL [migrate] [answer]`."""

import asyncio
import sys

from tokenwire.models import migrate, names
from tokenwire.models.answers import Ending
from tokenwire.models.conversations import Post
from tokenwire.models.store import Store

ME = "ada"


async def answer(store: Store) -> None:
    """Ask something and answer it."""
    conversation = await store.create_conversation(ME, title="ours")
    row = (await store.post(Post(conversation.id, ME, "hello?", "demo"))).assistant_message
    assert await store.begin_attempt(row.id, 1, "demo") is not None
    assert await store.finish(Ending(row.id, 1, "complete", "hello!", "", "e", 9))
    assert await store.check() is None
    await store.check_write()


async def read(store: Store) -> list[tuple[str | None, list[str]]]:
    """The texts of all conversations, by title."""
    rows, _ = await store.conversations(ME, 10)
    found = [(row.title, (await store.snapshot(row.id, ME, 10)).messages) for row in rows]
    return [(title, [message.content for message in messages]) for title, messages in found]


async def main(url: str, *commands: str) -> None:
    """Migrate, write an answer, then print everything."""
    if "migrate" in commands:
        migrate.migrate(url)
    store = Store.open(url)
    try:
        if "answer" in commands:
            await answer(store)
        sys.stdout.write(f"{names.PREFIX} {await read(store)}\n")
    finally:
        await store.aclose()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
