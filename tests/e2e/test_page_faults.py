"""The chat page in Chromium against a misbehaving server: hostile text, bad networks, lost answers,
several people.
"""

import asyncio

import pytest
from playwright.async_api import Browser, Page, expect

from tests.e2e.browser import PHONE, answered, growing, open_page, say, settled_top, text_of
from tests.e2e.stand_in import Faults, StandIn
from tokenwire.providers.demo import STORY

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOSTILE = """\
<script>window.pwned = 1</script><img src=x onerror="window.pwned = 1">

<svg onload="window.pwned = 1"></svg> [click](javascript:window.pwned=1) \
[data](data:text/html,<script>window.pwned=1</script>)

![picture](https://elsewhere.example/track.png) <https://e.example/"onmouseover="window.pwned=1>

```"><img src=x onerror=window.pwned=1>
</code></pre><script>window.pwned = 1</script>
```

| <iframe srcdoc="<script>parent.pwned=1</script>"></iframe> | <style>* { display: none }</style> |
|---|---|
| <a href="javascript:window.pwned=1">a</a> | \
<form action="https://elsewhere.example"><input></form> |
"""


async def test_hostile_text_stays_text(server: StandIn, browser: Browser) -> None:
    """Markup in an answer, a post, a title or an error runs nothing, fetches nothing, and creates
    no element.
    """
    attack = '<img src=x onerror="window.pwned=1">'
    server.default = HOSTILE
    server.title_after = attack
    server.answers["fail"] = [
        {"type": "error", "code": attack, "error": attack, "retryable": False}
    ]
    async with open_page(browser, server.url) as page:
        await say(page, HOSTILE)
        await answered(page)
        await expect(page.locator("#title")).to_have_text(attack)
        await say(page, "fail")
        await answered(page, "error", 2)
        await page.reload()
        await answered(page, "error", 2)
        for number in range(await page.locator(".prose a").count()):
            link = page.locator(".prose a").nth(number)
            assert (await link.get_attribute("href") or "").startswith("https://")
            assert await link.get_attribute("rel") == "noopener noreferrer"
        assert await page.evaluate("window.pwned") is None
        assert (
            await page.locator(
                "main :is(img, script, iframe, style, form:not(#composer), [onerror], [onload], "
                "[style*=display])"
            ).count()
            == 0
        )
        assert await page.locator(".bubble").first.text_content() == HOSTILE


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param(Faults(reorder=0.2), id="reordered", marks=pytest.mark.long),
        pytest.param(Faults(repeat=0.3), id="repeated", marks=pytest.mark.long),
        pytest.param(Faults(drop=0.03), id="dropped", marks=pytest.mark.long),
        pytest.param(Faults(cut=0.03), id="cut", marks=pytest.mark.long),
        pytest.param(Faults(0.1, 0.1, 0.01, 0.02), id="everything"),
    ],
)
async def test_a_bad_network_changes_nothing_in_the_end(
    server: StandIn, browser: Browser, faults: Faults
) -> None:
    """Whatever happens to frames, the answer ends with the same text as on a good network."""
    server.default = STORY[:1200]
    server.faults = faults
    async with open_page(browser, server.url) as page:
        await say(page, "go")
        await answered(page)
        html = await page.locator(".answer .prose").inner_html()
        server.faults = Faults()
        await page.reload()
        await answered(page)
        assert await page.locator(".answer .prose").inner_html() == html


async def test_a_cut_is_shown_and_the_text_continues(server: StandIn, browser: Browser) -> None:
    """Without a connection the page says so and keeps the text; later the text grows on."""
    server.default = STORY
    async with open_page(browser, server.url) as page:
        await say(page, "go")
        await growing(page)
        before = await text_of(page)
        for thread in server.threads.values():
            for socket in list(thread.sockets):
                await socket.close(code=1013)
        await expect(page.locator("#link")).to_have_attribute("data-state", "reconnecting")
        assert (await text_of(page)).startswith(before[:40])
        await expect(page.locator("#link")).to_have_attribute("data-state", "live")
        await answered(page)


async def test_a_post_without_a_reply_is_stored_once(server: StandIn, browser: Browser) -> None:
    """Trying again repeats the same post: one message, one answer."""
    server.lose_post_answers = 1
    server.default = "Once."
    async with open_page(browser, server.url) as page:
        await say(page, "only once")
        await answered(page)
        await page.wait_for_timeout(300)
        retry = page.get_by_role("button", name="Try again")
        if await retry.count():
            await retry.click()
        await expect(page.locator(".bubble")).to_have_count(1)
        await expect(page.locator(".bubble")).to_have_text("only once")
        assert len(server.posts) == 1


async def test_an_offline_post_is_sent_later(server: StandIn, browser: Browser) -> None:
    """The page says that it is offline, shows the message, and sends it when the network is
    back.
    """
    async with open_page(browser, server.url) as page:
        await say(page, "first")
        await answered(page)
        await page.context.set_offline(True)
        await server.cut()
        await expect(page.locator("#link > span")).to_have_text("Offline")
        await say(page, "second")
        await expect(page.locator(".post .state").last).to_contain_text("You are offline")
        await page.context.set_offline(False)
        await answered(page, number=2)
        await expect(page.locator(".bubble")).to_have_text(["first", "second"])


async def test_a_retry_shows_its_countdown(server: StandIn, browser: Browser) -> None:
    """An error after text keeps the text and says what happened."""
    retry = {"type": "retry", "code": "rate_limited", "delay_ms": 3000, "try": 1, "max_tries": 3}
    error = {
        "type": "error",
        "code": "interrupted",
        "error": "The answer was interrupted.",
        "retryable": True,
    }
    server.answers["fail"] = [retry, {"content": "Half an answer"}, error]
    async with open_page(browser, server.url) as page:
        await say(page, "fail")
        await expect(page.locator(".answer .state")).to_contain_text(
            "The model is busy. Trying again in 3 s (2 of 3)"
        )
        await expect(page.locator(".answer .state")).to_contain_text("Trying again in 2 s")
        assert await answered(page, "error") == "Half an answer"
        await expect(page.locator(".answer .state > span")).to_have_text(
            "The answer was interrupted."
        )


GROWS_ON_THE_WAY_DOWN = """async () => {
    const scroll = document.querySelector("#scroll"), latest = document.querySelector("#latest");
    scroll.scrollTop = 0;
    while (latest.hidden) await new Promise(requestAnimationFrame);
    latest.click();
    await new Promise((moved) => scroll.addEventListener("scroll", moved, { once: true }));
    document.querySelector("#messages").append(document.createElement("div"));
    document.querySelector("#messages").lastElementChild.style.height = "300px";
    await new Promise((ended) => scroll.addEventListener("scrollend", ended, { once: true }));
}"""


async def test_a_reader_who_scrolled_up_is_left_alone(server: StandIn, browser: Browser) -> None:
    """The page follows the end only while the reader is there; a button leads back."""
    server.default = STORY
    async with open_page(browser, server.url, viewport=PHONE) as page:
        await say(page, "go")
        await page.wait_for_function("() => document.querySelector('#scroll').scrollTop > 300")
        await page.locator("#scroll").hover()
        await page.mouse.wheel(0, -200)
        await expect(page.locator("#latest")).to_be_visible()
        at = await _scroll_top(page)
        length = len(await text_of(page))
        await growing(page, length + 200)
        assert await _scroll_top(page) == at
        await page.click("#latest")
        await expect(page.locator("#latest")).to_be_hidden()
        await page.evaluate(GROWS_ON_THE_WAY_DOWN)
        await expect(page.locator("#latest")).to_be_hidden()
        await answered(page)
        await page.wait_for_function(
            "() => (s => s.scrollHeight - s.scrollTop - s.clientHeight < "
            "3)(document.querySelector('#scroll'))"
        )
        # The list alone scrolls: nothing far down in it makes the page itself longer.
        await say(page, "again")
        await expect(page.locator(".answer")).to_have_count(2)
        assert await page.evaluate("document.documentElement.scrollHeight <= innerHeight")


async def _scroll_top(page: Page) -> float:
    return float(await page.evaluate("document.querySelector('#scroll').scrollTop"))


async def test_several_people_are_distinguished(server: StandIn, browser: Browser) -> None:
    """When a second person writes, posts carry names, and one's own are on the other side."""
    async with open_page(browser, server.url) as page:
        await say(page, "hello")
        await answered(page)
        await expect(page.locator(".who").first).to_be_hidden()
        (thread,) = server.threads.values()
        server.message(thread, "user", "hello from <b>me</b>", "complete", user_id="ada<i>")
        await expect(page.locator(".who")).to_have_text(["You", "ada<i>"])
        await expect(page.locator(".post.other .bubble")).to_have_text("hello from <b>me</b>")
        await expect(page.locator("#announce")).to_have_text("New message from ada<i>")


async def test_endings_are_announced_and_tokens_are_not(server: StandIn, browser: Browser) -> None:
    """A screen reader announces the start and end of an answer; no live region holds the text."""
    server.default = STORY[:600]
    async with open_page(browser, server.url) as page:
        await say(page, "first")  # the page reads this answer's beginning from its row, perhaps
        await answered(page)
        await page.evaluate(
            """() => {
                window.said = [];
                const texts = ({ addedNodes }) => [...addedNodes].map((node) => node.textContent);
                new MutationObserver((records) => said.push(...records.flatMap(texts)))
                    .observe(document.querySelector("#announce"), {childList: true});
            }"""
        )
        await say(page, "go")
        await answered(page, number=2)
        assert await page.evaluate("window.said") == ["Answering", "Answer complete"]
        assert (
            await page.locator("[aria-live]:not(#announce), [role=log], [role=alert]").count() == 0
        )


async def test_changing_conversations_while_streaming_mixes_nothing(
    server: StandIn, browser: Browser
) -> None:
    """An answer elsewhere does not appear here, drafts stay in their conversation, and the text is
    complete on return.
    """
    server.answers["one"] = STORY
    server.default = "Two."
    async with open_page(browser, server.url) as page:
        await say(page, "one")
        await growing(page)
        await page.fill("#prompt", "a draft")
        await page.click("#new")
        assert await page.input_value("#prompt") == ""
        await say(page, "two")
        assert await answered(page) == "Two."
        await asyncio.sleep(0.2)
        await expect(page.locator(".bubble")).to_have_text("two")
        await page.locator("#conversations a").nth(1).click()
        await expect(page.locator(".bubble")).to_have_text("one")
        assert await page.input_value("#prompt") == "a draft"
        assert "have a pleasant day" in await answered(page)


async def test_earlier_messages_are_read_on_demand(server: StandIn, browser: Browser) -> None:
    """A long conversation opens at its end; earlier pages are added above without moving the
    view.
    """
    server.page = 10
    thread = server.add("Long")
    for number in range(1, 26):
        server.message(
            thread, "user", f"message {number} " + "and so on " * 30, "complete", user_id="local"
        )
    async with open_page(browser, f"{server.url}/#/c/{thread.row['id']}") as page:
        await expect(page.locator(".bubble")).to_have_count(10)
        first = page.locator(".bubble", has_text="message 16 ")
        await settled_top(first)
        await page.locator("#earlier").scroll_into_view_if_needed()
        top = await settled_top(first)
        await page.click("#earlier")
        await expect(page.locator(".bubble")).to_have_count(20)
        assert abs(await settled_top(first) - top) < 40
        await page.click("#earlier")
        await expect(page.locator(".bubble")).to_have_count(25)
        await expect(page.locator("#earlier")).to_be_hidden()
        await expect(page.locator(".bubble").first).to_contain_text("message 1 ")
