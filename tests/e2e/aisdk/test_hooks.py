"""Unchanged `@ai-sdk/react` hooks in Chromium, on a page of another origin: reloads, two tabs,
stop, regeneration, single answers.
"""

import functools
import http.server
import json
import subprocess
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.async_api import Browser, Page, Route

from tests.e2e.aisdk.conftest import MODELS, PACKAGES
from tests.e2e.browser import open_page
from tests.e2e.stack import Stack, running_stack

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]
DOCUMENT = (
    '<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><div id="root"></div>'
    '<script type="module" src="page.js"></script>'
)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture(scope="module")
def site(node: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The bundled page at its own origin."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "index.html").write_text(DOCUMENT)
    command = [
        str(PACKAGES / "node_modules" / ".bin" / "esbuild"),
        str(PACKAGES / "page.jsx"),
        "--bundle",
        "--format=esm",
        "--jsx=automatic",
    ]
    bundled = subprocess.run(
        [*command, f"--outfile={folder / 'page.js'}"], capture_output=True, text=True, check=False
    )
    assert bundled.returncode == 0, bundled.stderr
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def stack_for_site(site: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack that allows pages of that origin."""
    folder = tmp_path_factory.mktemp("stack")
    (folder / "models.yml").write_text(MODELS)
    with running_stack(
        folder, MODELS_FILE=str(folder / "models.yml"), CORS_ORIGINS=site
    ) as running:
        yield running


def address(site: str, stack: Stack, chat: str, **more: str) -> str:
    return f"{site}/?{urllib.parse.urlencode({'api': stack.url, 'chat': chat, **more})}"


def stored(stack: Stack, chat: str) -> list[dict[str, Any]]:
    with urllib.request.urlopen(
        f"{stack.url}/api/chat/{urllib.parse.quote(chat, safe='')}/messages"
    ) as answer:
        return list(json.load(answer)["messages"])


async def say(page: Page, text: str) -> None:
    await page.fill("#prompt", text)
    await page.press("#prompt", "Enter")


async def growing(page: Page, length: int = 80) -> None:
    await page.wait_for_function(
        "(length) => (document.querySelector('.assistant:last-of-type')?.innerText.length ?? 0) "
        "> length",
        arg=length,
    )


async def settled(page: Page, count: int) -> list[str]:
    """Wait until that many messages are shown and nothing runs; their texts."""
    await page.wait_for_function(
        "(count) => document.querySelector('#status')?.innerText === 'ready' && "
        "document.querySelectorAll('main pre').length === count",
        arg=count,
    )
    return [await item.text_content() or "" for item in await page.locator("main pre").all()]


def texts(messages: list[dict[str, Any]]) -> list[str]:
    return [
        "".join(part["text"] for part in message["parts"] if part["type"] == "text")
        for message in messages
    ]


WIRES = pytest.mark.parametrize("wire", [{}, {"socket": "1"}], ids=["sse", "websocket"])


@pytest.mark.sampled(1)
@WIRES
async def test_an_answer_that_ends_while_a_page_loads(
    site: str, stack_for_site: Stack, browser: Browser, wire: dict[str, str]
) -> None:
    """It ends between the page's request for the messages and its resuming: the page shows it."""
    chat = f"ends/{'socket' if wire else 'sse'}.1"

    async def late(route: Route) -> None:
        answer = await route.fetch()
        assert stack_for_site.eventually(lambda: len(stored(stack_for_site, chat)) == 2, 60)
        await route.fulfill(response=answer)

    async with open_page(browser, address(site, stack_for_site, chat, **wire)) as page:
        await settled(page, 0)
        await say(page, "tell me")
        await growing(page)
        async with open_page(browser, "about:blank") as tab:
            await tab.route("**/messages", late)
            await tab.goto(address(site, stack_for_site, chat, **wire))
            assert await settled(tab, 2) == await settled(page, 2)


@pytest.mark.sampled(1)
@WIRES
async def test_a_chat_reloaded_while_streaming(
    site: str, stack_for_site: Stack, browser: Browser, wire: dict[str, str]
) -> None:
    """The answer continues after the reload, in a second tab too, and all show the stored text;
    then a second turn.
    """
    chat = f"page/{'socket' if wire else 'sse'}.1"
    async with open_page(browser, address(site, stack_for_site, chat, **wire)) as page:
        await settled(page, 0)
        await say(page, "tell me")
        await growing(page)
        async with open_page(browser, address(site, stack_for_site, chat, **wire)) as tab:
            await growing(tab)
            await page.reload()
            await growing(page)
            shown = [await settled(page, 2), await settled(tab, 2)]
        assert shown == [texts(stored(stack_for_site, chat))] * 2
        await say(page, "!short")
        assert (await settled(page, 4))[3] == texts(stored(stack_for_site, chat))[3]


async def test_leaving_stopping_and_regenerating(
    site: str, stack_for_site: Stack, browser: Browser
) -> None:
    """The hook's `stop` leaves, and a reload brings the answer back; the server's stop ends it;
    `regenerate` replaces it.
    """
    chat = "page/2"
    async with open_page(browser, address(site, stack_for_site, chat)) as page:
        await settled(page, 0)
        await say(page, "!slow tell me")
        await growing(page)
        await page.click("#leave")
        await page.reload()
        await growing(page)
        await page.click("#stop")
        cut = (await settled(page, 2))[1]
        [_, answer] = stored(stack_for_site, chat)
        assert (answer["metadata"]["status"], texts([answer])) == ("cancelled", [cut])
        await page.click("#again")
        await page.wait_for_function("(old) => !document.getElementById(old)", arg=answer["id"])
        await growing(page)
        await page.click("#stop")
        again = (await settled(page, 2))[1]
        [_, replacing] = stored(stack_for_site, chat)
        assert replacing["id"] != answer["id"]
        assert texts([replacing]) == [again]


async def test_single_answers(site: str, stack_for_site: Stack, browser: Browser) -> None:
    """`useCompletion` with both protocols, `useObject` with a schema."""
    async with open_page(browser, address(site, stack_for_site, "page/3")) as page:
        await settled(page, 0)
        await page.click("#complete")
        for place in ("#completion", "#text"):
            await page.wait_for_function(
                "(place) => document.querySelector(place)?.innerText.endsWith('not a mind.')",
                arg=place,
            )
        await page.wait_for_function(
            "() => document.querySelector('#object')?.innerText.includes('three')"
        )
        assert json.loads(await page.inner_text("#object"))["recipe"]["name"] == "Lasagne"
