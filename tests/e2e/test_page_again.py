"""The chat page, the second time: what it must have forgotten of the first, and what it must still know. A server from memory."""

import asyncio
import re

import pytest
from playwright.async_api import Browser, Page, Route, expect

from providers.demo import STORY
from tests.e2e.browser import answered, growing, open_page, say
from tests.e2e.stand_in import Json, StandIn

pytestmark = pytest.mark.asyncio(loop_scope="module")

CALL: Json = {"type": "tool_call", "tool_call_id": "t1", "name": "tides", "arguments": {}, "status": "running", "delay_ms": 100}
RESET: Json = {"type": "reset", "keep": 0, "keep_reasoning": 0, "delay_ms": 100}
RESULT: Json = {"type": "tool_result", "tool_call_id": "t1", "name": "tides", "result": "high", "status": "ok"}


async def _away(route: Route) -> None:
    await route.fulfill(status=503, headers={"Retry-After": "30"}, json={"code": "unavailable", "detail": "Not now."})


async def _listen(page: Page) -> None:
    """Keep what is announced from now on in `said`."""
    await page.evaluate(
        """() => {
            window.said = [];
            const place = document.querySelector("#announce");
            new MutationObserver(() => said.push(place.textContent)).observe(place, {childList: true});
        }"""
    )


async def test_an_answer_is_made_again_as_often_as_it_is_asked_for(server: StandIn, browser: Browser) -> None:
    """Each time in the place of the one before."""
    server.default = "First."
    async with open_page(browser, server.url) as page:
        await say(page, "go")
        await answered(page)
        for text in ("Second.", "Third."):
            server.default = text
            await page.get_by_role("button", name="Regenerate").click()
            await expect(page.locator(".answer .prose")).to_have_text(text)
            await answered(page)


async def test_a_stop_that_did_not_arrive_can_be_asked_for_again(server: StandIn, browser: Browser) -> None:
    """The button is itself again, and the next click stops the answer."""
    server.default = STORY
    server.pause_s = 0.05
    async with open_page(browser, server.url) as page:
        await say(page, "go")
        await growing(page)
        await page.route("**/cancel", _away)
        await page.click("#stop")
        await expect(page.locator("#notice-text")).to_have_text("Not now.")
        await expect(page.locator("#stop")).to_have_text("Stop")
        await expect(page.locator("#stop")).to_have_attribute("aria-disabled", "false")
        await page.unroute("**/cancel")
        await page.click("#stop")
        await answered(page, "cancelled")


async def test_a_draft_goes_with_the_conversation_that_is_being_made(server: StandIn, browser: Browser) -> None:
    """What is typed meanwhile belongs to it, and stands in no other new one."""
    async with open_page(browser, server.url) as page:
        made = asyncio.Event()

        async def slowly(route: Route) -> None:
            await made.wait()
            await route.continue_()

        await page.route("**/api/conversations", slowly)
        await say(page, "one")
        await page.fill("#prompt", "a draft")
        made.set()
        await answered(page)
        await expect(page.locator("#prompt")).to_have_value("a draft")
        await page.click("#new")
        await expect(page.locator("#welcome")).to_be_visible()
        await expect(page.locator("#prompt")).to_have_value("")
        await page.locator("#conversations a").first.click()
        await expect(page.locator("#prompt")).to_have_value("a draft")


async def test_each_loss_of_the_connection_is_said_and_each_return(server: StandIn, browser: Browser) -> None:
    """Once it is long enough to be noticed, also where shorter waits came before it."""
    async with open_page(browser, server.url) as page:
        await say(page, "go")
        await answered(page)
        await _listen(page)
        state = page.locator("#link > span")
        for _ in range(2):
            await page.route("**/subscription", _away)
            await server.cut(4401)  # a new token is asked for soon, and refused for long
            await expect(state).to_contain_text(re.compile("in (2.|30) s"), timeout=20_000)  # as long as the server wants it
            await page.unroute("**/subscription")
            await page.get_by_role("button", name="Try now").click()
            await expect(state).to_have_text("Live", timeout=20_000)
        assert await page.evaluate("window.said") == ["Connection lost. Reconnecting.", "Reconnecting", "Connected again"] * 2


async def test_a_tool_that_was_withdrawn_and_is_used_again_is_shown_again(server: StandIn, browser: Browser) -> None:
    """Under the same id: a model that begins anew may give its calls the same names."""
    server.answers["go"] = [CALL, RESET, CALL, RESULT, {"content": "High."}]
    async with open_page(browser, server.url) as page:
        await say(page, "go")
        assert await answered(page) == "High."
        await expect(page.locator(".use")).to_have_count(1)
        await expect(page.locator(".use")).to_have_attribute("data-status", "ok")


async def test_an_answer_that_is_drawn_anew_at_its_end_is_all_there(server: StandIn, browser: Browser) -> None:
    """Where a late definition has made links of earlier words."""
    drawn = {"type": "source", "url": "https://s.example/", "title": "S", "delay_ms": 200}  # with all text that came before it
    server.answers["go"] = [{"content": "See [r] first.\n\nThen more.\n\n"}, drawn, {"content": "[r]: https://e.example/x\n\nThe end."}]
    async with open_page(browser, server.url) as page:
        await say(page, "go")
        await answered(page)
        await expect(page.locator(".prose p")).to_have_text(["See r first.", "Then more.", "The end."])
        await expect(page.locator(".prose a")).to_have_count(1)


async def test_older_conversations_are_listed_once(server: StandIn, browser: Browser) -> None:
    """The feed may have told of some of them before they are paged in."""
    rows = [server.add(f"Number {number}").row for number in range(5)]
    server.listed = 3
    async with open_page(browser, server.url) as page:
        links = page.locator("#conversations a")
        await expect(page.locator("#more")).to_be_visible()
        await server.tell({"type": "snapshot", "conversations": [{**row, "running": False} for row in reversed(rows)]})
        await expect(links).to_have_count(5)
        await page.click("#more")
        await expect(page.locator("#more")).to_be_hidden()
        await expect(links).to_have_text([f"Number {number}" for number in reversed(range(5))])
