"""The chat page the second time: what it must have forgotten of the first, and what it must still
know. A server in memory.
"""

import asyncio
import re

import pytest
from playwright.async_api import Browser, Page, Route, expect

from tests.e2e.browser import answered, growing, open_page, say
from tests.e2e.stand_in import Json, StandIn
from tokenwire.providers.demo import STORY

pytestmark = pytest.mark.asyncio(loop_scope="module")

CALL: Json = {
    "type": "part",
    "value": {"type": "tool_call", "id": "t1", "name": "tides", "state": "streaming"},
    "delay_ms": 100,
}
RESET: Json = {"type": "reset", "keep": 0, "keep_reasoning": 0, "keep_parts": 0, "delay_ms": 100}
RESULT: Json = {
    "type": "part",
    "part": 0,
    "value": {"type": "tool_call", "state": "done", "result": "high"},
}


async def _away(route: Route) -> None:
    await route.fulfill(
        status=503,
        headers={"Retry-After": "30"},
        json={"code": "unavailable", "detail": "Not now."},
    )


async def _listen(page: Page) -> None:
    """Record announcements from now on in `said`."""
    await page.evaluate(
        """() => {
            window.said = [];
            const place = document.querySelector("#announce");
            new MutationObserver(() => said.push(place.textContent))
                .observe(place, {childList: true});
        }"""
    )


async def test_an_answer_can_be_regenerated_repeatedly(server: StandIn, browser: Browser) -> None:
    """Each replaces the one before."""
    server.default = "First."
    async with open_page(browser, server.url) as page:
        await say(page, "go")
        await answered(page)
        for text in ("Second.", "Third."):
            server.default = text
            await page.get_by_role("button", name="Regenerate").click()
            await expect(page.locator(".answer .prose")).to_have_text(text)
            await expect(page.locator("#prompt")).to_be_focused()
            await answered(page)


async def test_a_failed_stop_can_be_repeated(server: StandIn, browser: Browser) -> None:
    """The button is enabled again, and the next click stops the answer."""
    server.default = STORY
    server.pause_s = 0.05
    async with open_page(browser, server.url) as page:
        tried = asyncio.Event()

        async def slowly_away(route: Route) -> None:
            await tried.wait()
            await _away(route)

        await say(page, "go")
        await growing(page)
        await page.route("**/cancel", slowly_away)
        await page.click("#stop")
        await expect(page.locator("#stop")).to_have_text("Stopping")
        await expect(page.locator("#stop")).to_have_attribute("aria-disabled", "true")
        tried.set()
        await expect(page.locator("#notice-text")).to_have_text("Not now.")
        await expect(page.locator("#stop")).to_have_text("Stop")
        await expect(page.locator("#stop")).to_have_attribute("aria-disabled", "false")
        await page.unroute("**/cancel")
        await page.click("#stop")
        await answered(page, "cancelled")


async def test_a_draft_belongs_to_the_conversation_being_created(
    server: StandIn, browser: Browser
) -> None:
    """Text typed meanwhile goes with it, and into no other new one."""
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


async def test_each_loss_and_return_of_the_connection_is_shown(
    server: StandIn, browser: Browser
) -> None:
    """Once it is long enough to be noticed, even after shorter ones."""
    async with open_page(browser, server.url) as page:
        await say(page, "go")
        await answered(page)
        await _listen(page)
        state = page.locator("#link > span")
        for looked_at in (False, True):
            await page.route("**/subscription", _away)
            await server.cut(4401)  # a new token is requested soon, and refused for long
            await expect(state).to_contain_text(
                re.compile("in (2.|30) s"), timeout=20_000
            )  # as long as the server asks
            await page.unroute("**/subscription")
            if looked_at:
                await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
            else:
                await page.get_by_role("button", name="Try now").click()
            await expect(state).to_have_text("Live", timeout=20_000)
        assert await page.evaluate("window.said") == [
            *("Connection lost. Reconnecting.", "Reconnecting", "Connected again"),
            *("Connection lost. Reconnecting.", "Connected again"),
        ]


async def test_a_withdrawn_tool_can_be_used_again(server: StandIn, browser: Browser) -> None:
    """Under the same id: a model that starts over may give its calls the same ids."""
    server.answers["go"] = [CALL, RESET, CALL, RESULT, {"content": "High."}]
    async with open_page(browser, server.url) as page:
        await say(page, "go")
        assert await answered(page) == "High."
        await expect(page.locator(".use")).to_have_count(1)
        await expect(page.locator(".use")).to_have_attribute("data-state", "done")


async def test_an_answer_that_is_drawn_anew_at_its_end_is_all_there(
    server: StandIn, browser: Browser
) -> None:
    """A late link definition turns earlier words into links."""
    drawn: Json = {
        "type": "part",
        "value": {"type": "source", "url": "https://s.example/", "title": "S", "at": 28},
        "delay_ms": 200,
    }  # with what came before it
    server.answers["go"] = [
        {"content": "See [r] first.\n\nThen more.\n\n"},
        drawn,
        {"content": "[r]: https://e.example/x\n\nThe end."},
    ]
    async with open_page(browser, server.url) as page:
        await say(page, "go")
        await answered(page)
        await expect(page.locator(".prose p")).to_have_text(
            ["See r first.", "Then more.", "The end."]
        )
        await expect(page.locator(".prose a")).to_have_count(1)


async def test_older_conversations_are_listed_once(server: StandIn, browser: Browser) -> None:
    """The feed may have listed some of them before they are paged in."""
    rows = [server.add(f"Number {number}").row for number in range(5)]
    server.listed = 3
    async with open_page(browser, server.url) as page:
        links = page.locator("#conversations a")
        await expect(page.locator("#more")).to_be_visible()
        await server.tell(
            {
                "type": "snapshot",
                "conversations": [{**row, "running": False} for row in reversed(rows)],
            }
        )
        await expect(links).to_have_count(5)
        await page.click("#more")
        await expect(page.locator("#more")).to_be_hidden()
        await expect(links).to_have_text([f"Number {number}" for number in reversed(range(5))])


async def test_a_dialog_can_be_cancelled_after_it_was_confirmed_once(
    server: StandIn, browser: Browser
) -> None:
    """A cancelled dialog changes and deletes nothing; the title field starts with the shown
    title.
    """
    async with open_page(browser, server.url) as page:
        await say(page, "one")
        await answered(page)
        await page.click("#delete")
        await page.click("#delete-dialog .danger")
        await expect(page.locator("#welcome")).to_be_visible()
        await say(page, "two")
        await answered(page)
        (thread,) = server.threads.values()
        await page.click("#rename")
        await expect(page.locator("#rename-title")).to_have_value("two")
        await page.fill("#rename-title", "Ours")
        await page.keyboard.press("Enter")
        await expect(page.locator("#title")).to_have_text("Ours")
        await page.click("#rename")
        await expect(page.locator("#rename-title")).to_have_value("Ours")
        await page.fill("#rename-title", "Theirs")
        await page.click("#rename-dialog .cancel")
        await page.click("#delete")
        await page.click("#delete-dialog .cancel")
        await expect(page.locator("#delete-dialog")).to_be_hidden()
        await _listen(page)
        await say(page, "three")
        await answered(page, number=2)
        assert await page.evaluate("window.said") == ["Answering", "Answer complete"], (
            "one's own message is no news"
        )
        assert thread.row["title"] == "Ours"
        assert list(server.threads.values()) == [thread]


async def test_enter_sends_once(server: StandIn, browser: Browser) -> None:
    """The Enter of an input method sends nothing, however the browser reports it; an empty message
    is not sent.
    """
    async with open_page(browser, server.url) as page:
        await page.fill("#prompt", "日本")
        for composing in ({"isComposing": True}, {"keyCode": 229}):
            enter = (
                "(fields) => document.querySelector('#prompt').dispatchEvent(new "
                "KeyboardEvent('keydown', {key: 'Enter', ...fields}))"
            )
            await page.evaluate(enter, composing)
        await expect(page.locator(".bubble")).to_have_count(0)
        await expect(page.locator("#prompt")).to_have_value("日本")
        await page.press("#prompt", "Enter")
        await answered(page)
        await expect(page.locator(".bubble")).to_have_text("日本")
        await expect(page.locator("#prompt")).to_have_value("")
        await expect(page.locator("#send")).to_be_disabled()
        await page.press("#prompt", "Enter")
        await expect(page.locator("#prompt")).to_have_value("")
        await page.goto(server.url)
        await expect(page.locator("#conversations a")).to_have_text("日本")  # it has no title yet
        (thread,) = server.threads.values()
        assert [row["content"] for row in thread.messages if row["role"] == "user"] == ["日本"]


async def test_buttons_of_an_answer_match_its_content(server: StandIn, browser: Browser) -> None:
    """Its reasoning while it thinks, no copy button without text, the text as written, and for a
    code block only the code.
    """
    drawn: Json = {
        "type": "part",
        "value": {"type": "source", "url": "https://s.example/", "title": "S", "at": 0},
        "delay_ms": 600,
    }  # with what came before it
    server.answers["think"] = [
        {"type": "reasoning", "content": "Hm."},
        drawn,
        {"content": "So **be** it:\n\n```\nlet x = 1\n```\n"},
    ]
    server.answers["nothing"] = []
    async with open_page(browser, server.url) as page:
        await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        thinking = page.locator(".thoughts summary")
        await say(page, "think")
        await expect(thinking).to_have_text("Reasoning …")
        await answered(page)
        await expect(thinking).to_have_text("Reasoning")
        await expect(page.locator(".meta")).to_have_text("demo · about 42 tokens")
        for button, copied in (
            ("Copy", "So **be** it:\n\n```\nlet x = 1\n```\n"),
            (".copy-code", "let x = 1"),
        ):
            place = (
                page.locator(button)
                if button.startswith(".")
                else page.locator(".foot").get_by_role("button", name=button)
            )
            await place.click()
            await expect(page.locator("#announce")).to_have_text("Copied")
            assert await page.evaluate("navigator.clipboard.readText()") == copied
            await expect(place).to_have_text("Copy")  # again, after a moment
        await say(page, "nothing")
        await answered(page, number=2)
        empty = page.locator(".answer").last
        await expect(empty.locator(".state")).to_have_text("The answer is empty.")
        await expect(empty.get_by_role("button", name="Regenerate")).to_be_visible()
        await expect(empty.get_by_role("button", name="Copy")).to_be_hidden()


async def test_a_discarded_post_comes_back_as_a_draft(server: StandIn, browser: Browser) -> None:
    """It leaves the list and returns to the focused composer; another draft is not overwritten."""
    async with open_page(browser, server.url) as page:
        await say(page, "one")
        await answered(page)
        await page.route("**/messages", _away)
        for draft, left in (("", "two"), ("a draft", "a draft")):
            await say(page, "two")
            await page.fill("#prompt", draft)
            await expect(page.locator(".post .state").last).to_contain_text("Not sent. Not now.")
            await page.get_by_role("button", name="Discard").click()
            await expect(page.locator(".bubble")).to_have_text("one")
            await expect(page.locator("#prompt")).to_have_value(left)
            await expect(page.locator("#prompt")).to_be_focused()


async def test_a_removed_reader_can_try_again(server: StandIn, browser: Browser) -> None:
    """The page says so; a person who was invited again need not reload."""
    async with open_page(browser, server.url) as page:
        await say(page, "one")
        await answered(page)
        await server.cut(4403)
        await expect(page.locator("#notice-text")).to_have_text(
            "This page may not follow the conversation any longer."
        )
        await page.click("#notice-again")
        await expect(page.locator("#notice")).to_be_hidden()
        await expect(page.locator("#link > span")).to_have_text("Live")
        await answered(page)


async def test_the_last_chosen_model_is_the_default(server: StandIn, browser: Browser) -> None:
    """Each conversation shows its own; a refused choice is undone."""
    async with open_page(browser, server.url) as page:
        model = page.locator("#model")
        await expect(model).to_have_value("demo")
        await say(page, "one")
        await answered(page)
        await model.select_option("gpt-4o-mini")
        await page.click("#new")
        await expect(page.locator("#welcome")).to_be_visible()
        await expect(model).to_have_value("gpt-4o-mini")
        await say(page, "two")
        await answered(page)
        assert [thread.row["model"] for thread in server.threads.values()] == ["gpt-4o-mini"] * 2
        await page.route("**/api/conversations/c2", _away)
        await model.select_option("demo")
        await expect(page.locator("#notice-text")).to_have_text("Not now.")
        await expect(model).to_have_value("gpt-4o-mini")
        server.add("Another")
        await page.goto(f"{server.url}/#/c/c3")
        await expect(model).to_have_value("demo")
