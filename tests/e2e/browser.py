"""A headless Chromium for tests of the page. Without it, tests are skipped on a laptop and fail in
CI. The shell without a browser's own windows comes first: it is the same engine, and takes a
quarter less of the processor.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from playwright.async_api import Browser, Locator, Page, async_playwright, expect

CHROMIUM = next(
    filter(
        None,
        map(
            shutil.which,
            ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"),
        ),
    ),
    None,
)
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WIDE = {"width": 1280, "height": 860}
PHONE = {"width": 375, "height": 740}
PATIENCE_MS = 60_000
"""Far above what anything takes: a page that was refused while the machine is busy waits 5 s."""
expect.set_options(timeout=PATIENCE_MS)


@asynccontextmanager
async def running_browser() -> AsyncIterator[Browser]:
    """Chromium as installed on the machine."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def open_page(browser: Browser, url: str, **options: Any) -> AsyncIterator[Page]:
    """The page at `url` in its own context. An error on its console, or a request to another host,
    fails the test.
    """
    context = await browser.new_context(**{"viewport": WIDE, **options})
    complaints: list[str] = []
    page = await context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "console",
        lambda said: (
            complaints.append(said.text)
            if said.type == "error" and not _expected(said.text)
            else None
        ),
    )
    page.on(
        "request",
        lambda asked: (
            None if "//127.0.0.1:" in asked.url else complaints.append(f"asked for {asked.url}")
        ),
    )
    await page.goto(url)
    try:
        yield page
    finally:
        await context.close()
    assert complaints == []


def _expected(text: str) -> bool:
    # Chromium itself reports refused requests and cut sockets; tests cause both.
    return "Failed to load resource" in text or "WebSocket" in text


async def say(page: Page, text: str) -> None:
    """Write a message and send it."""
    await page.fill("#prompt", text)
    await page.press("#prompt", "Enter")


async def settled_top(locator: Locator) -> float:
    """An element's top once it no longer moves: equal in ten checks, at least a frame apart."""
    last, same = float("nan"), 0
    while same < 10:
        top = (await locator.bounding_box() or {"y": float("nan")})["y"]
        last, same = top, same + 1 if top == last else 0
        await asyncio.sleep(0.02)
    return last


async def answered(page: Page, status: str = "complete", number: int = 1) -> str:
    """Wait until the page shows `number` answers and the last one has this status; its text."""
    await page.wait_for_function(
        """([status, number]) => {
            const answers = document.querySelectorAll(".answer");
            return answers.length === number && answers[number - 1].dataset.status === status;
        }""",
        arg=[status, number],
    )
    return await text_of(page)


async def text_of(page: Page) -> str:
    """The visible text of the last answer."""
    texts = page.locator(".answer").last.locator(".prose")
    return "\n".join(await texts.all_inner_texts())


async def growing(page: Page, length: int = 60) -> None:
    """Wait until the last answer is being written and is longer than this."""
    await page.wait_for_function(
        """(length) => {
            const last = [...document.querySelectorAll(".answer")].at(-1);
            return last?.dataset.status === "streaming"
                && last.querySelector(".prose")?.innerText.length > length;
        }""",
        arg=length,
    )
