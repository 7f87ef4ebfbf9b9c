"""The chat page in Chromium on a real Tokenwire: posts, streams, reloads, stop, keyboard, phone,
several windows and people, regeneration, titles, the live list, killed processes.
"""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest
from playwright.async_api import Browser, Page, Route, expect

from tests.e2e.browser import PHONE, answered, growing, open_page, say, text_of
from tests.e2e.reader import acall
from tests.e2e.stack import Stack, running_stack

pytestmark = pytest.mark.asyncio(loop_scope="module")
LAST_WORDS = "have a pleasant day!"
_MODELS = "default: demo\nmodels: {demo: {provider: demo, options: {tokens_per_second: 200}}}\n"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack with a demo model fast enough for tests and slow enough to be interrupted."""
    folder = tmp_path_factory.mktemp("stack")
    (folder / "models.yml").write_text(_MODELS)
    with running_stack(folder, MODELS_FILE=str(folder / "models.yml")) as running:
        yield running


async def test_a_post_streams_and_ends_with_the_text_of_the_row(
    stack: Stack, browser: Browser
) -> None:
    """The answer grows on the page; a page opened after its end shows the same text."""
    async with open_page(browser, stack.url) as page:
        await say(page, "Tell me.")
        await growing(page)
        await expect(page.locator("#stop")).to_be_visible()
        text = await answered(page)
        assert text.endswith(LAST_WORDS)
        await expect(page.locator("#stop")).to_be_hidden()
        await expect(page.locator("#conversations a[aria-current]")).to_have_text("Tell me.")
        html = await page.locator(".answer .prose").inner_html()
        await page.reload()
        await answered(page)
        assert await page.locator(".answer .prose").inner_html() == html


async def test_a_list_read_before_a_post_does_not_remove_it(stack: Stack, browser: Browser) -> None:
    """The first read of the list began before the post, and its answer comes after it."""
    async with open_page(browser, stack.url) as page:
        posted = asyncio.Event()

        async def late(route: Route) -> None:
            read = await route.fetch()
            await posted.wait()
            await route.fulfill(response=read)

        await page.route("**/api/conversations?*", late)
        await page.reload()
        await say(page, "!short Overtaken.")
        await answered(page)
        async with page.expect_response("**/api/conversations?*") as read:
            posted.set()
        await (await read.value).finished()
        await page.wait_for_timeout(50)  # the page takes the list
        await expect(page.locator("#conversations a[aria-current]")).to_have_text(
            "!short Overtaken.", timeout=1000
        )


async def test_a_reload_while_streaming(stack: Stack, browser: Browser) -> None:
    """After a reload the page returns to the conversation, and the answer has not lost a word."""
    async with open_page(browser, stack.url) as page:
        await say(page, "Tell me.")
        await growing(page, 200)
        before = await text_of(page)
        await page.reload()
        await page.wait_for_function(
            "(length) => document.querySelector('.answer .prose')?.innerText.length >= length",
            arg=len(before) - 20,
        )
        assert await page.locator(".post .bubble").inner_text() == "Tell me."
        assert (await answered(page)).endswith(LAST_WORDS)


async def test_stop_keeps_the_text(stack: Stack, browser: Browser) -> None:
    """Stopping ends the answer where it is, the page says so, and the next post is answered."""
    async with open_page(browser, stack.url) as page:
        await say(page, "!slow Tell me.")
        await growing(page, 40)
        await page.click("#stop")
        text = await answered(page, "cancelled")
        assert text
        assert LAST_WORDS not in text
        await expect(page.locator(".answer .state")).to_have_text("Stopped.")
        await say(page, "!short")
        await answered(page, number=2)


async def test_the_keyboard_is_enough(stack: Stack, browser: Browser) -> None:
    """Without a mouse: a message of two lines, stop, rename, a new conversation, back to the
    first.
    """
    async with open_page(browser, stack.url) as page:
        await expect(page.locator("#prompt")).to_be_focused()
        await page.keyboard.type("!slow first line")
        await page.keyboard.press("Shift+Enter")
        await page.keyboard.type("second line")
        await page.keyboard.press("Enter")
        await expect(page.locator(".bubble")).to_have_text("!slow first line\nsecond line")
        await growing(page, 10)
        await _tab_to(page, "stop")
        await page.keyboard.press("Enter")
        await answered(page, "cancelled")
        await expect(page.locator("#prompt")).to_be_focused()
        await _tab_to(page, "rename")
        await page.keyboard.press("Enter")
        await page.keyboard.press("Control+a")
        await page.keyboard.type("By hand")
        await page.keyboard.press("Enter")
        await expect(page.locator("#title")).to_have_text("By hand")
        await _tab_to(page, "new")
        await page.keyboard.press("Enter")
        await expect(page.locator("#welcome")).to_be_visible()
        await expect(page.locator("#prompt")).to_be_focused()
        await page.get_by_role("link", name="By hand").focus()
        await page.keyboard.press("Enter")
        await expect(page.locator(".bubble")).to_have_text("!slow first line\nsecond line")


async def _tab_to(page: Page, wanted: str) -> None:
    """Press Tab until the element with that id has a visible focus."""
    for _ in range(40):
        await page.keyboard.press("Tab")
        if await page.evaluate("document.activeElement.id") == wanted:
            assert await page.evaluate("document.activeElement.matches(':focus-visible')")
            return
    pytest.fail(f"the keyboard does not reach {wanted}")


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.long)])
async def test_a_phone_never_scrolls_sideways(stack: Stack, browser: Browser, scheme: str) -> None:
    """At 375 px the welcome, an answer with code and a table, and the drawer fit; letters are large
    enough that nothing zooms.
    """
    async with open_page(
        browser, stack.url, viewport=PHONE, is_mobile=True, has_touch=True, color_scheme=scheme
    ) as page:
        assert await _fits(page)
        await say(page, "!fast " + "averylongwordwithoutanyspace" * 8)
        await answered(page)
        assert await _fits(page)
        assert (
            await page.evaluate(
                "parseFloat(getComputedStyle(document.querySelector('#prompt')).fontSize)"
            )
            >= 16
        )
        drawer = page.locator("#sidebar")
        await expect(drawer).not_to_be_in_viewport()
        await page.click("#menu")
        await expect(drawer).to_be_in_viewport()
        await expect(page.locator("#new")).to_be_focused()
        assert await _fits(page)
        await page.keyboard.press("Tab")
        await expect(page.locator("#menu")).to_have_attribute("aria-expanded", "true")
        await page.keyboard.press("Escape")
        await expect(page.locator("#menu")).to_be_focused()
        await page.click("#menu")
        await page.locator("#conversations a").first.click()
        await expect(drawer).not_to_be_in_viewport()


async def _fits(page: Page) -> bool:
    return bool(
        await page.evaluate(
            """() => document.documentElement.scrollWidth <= innerWidth
                && document.querySelector("#scroll").scrollWidth
                    <= document.querySelector("#scroll").clientWidth"""
        )
    )


async def test_two_windows_show_the_same(stack: Stack, browser: Browser) -> None:
    """A second window joins while streaming; both see all posts, and a new title reaches both."""
    async with open_page(browser, stack.url) as one:
        await say(one, "Tell me.")
        await growing(one, 200)
        async with open_page(browser, one.url) as two:
            await say(two, "!short and then?")
            for page in (one, two):
                await answered(page, number=2)
                await expect(page.locator(".bubble")).to_have_text(["Tell me.", "!short and then?"])
            assert (
                await one.locator("#messages").inner_text()
                == await two.locator("#messages").inner_text()
            )
            await two.click("#rename")
            await two.fill("#rename-title", "<b>Ours</b> & theirs")
            await two.keyboard.press("Enter")
            for page in (one, two):
                await expect(page.locator("#title")).to_have_text("<b>Ours</b> & theirs")


async def test_a_deleted_conversation_is_shown_everywhere(stack: Stack, browser: Browser) -> None:
    """The deleting window gets an empty page, others a message."""
    async with open_page(browser, stack.url) as one:
        await say(one, "!slow Tell me.")
        await growing(one, 10)
        async with open_page(browser, one.url) as two:
            await growing(two, 10)
            await two.click("#delete")
            await two.click("#delete-dialog .danger")
            await expect(two.locator("#welcome")).to_be_visible()
            await expect(one.locator("#notice-text")).to_contain_text("does not exist any more")
            await expect(one.locator("#link")).to_have_attribute("data-state", "stopped")


@pytest.mark.parametrize(("cue", "shown"), [("!auth", "credentials"), ("!context", "too long")])
async def test_errors_are_shown_as_sentences(
    stack: Stack, browser: Browser, cue: str, shown: str
) -> None:
    """A failed answer shows the sentence of its event."""
    async with open_page(browser, stack.url) as page:
        await say(page, cue)
        await page.wait_for_selector(".answer[data-status=error]")
        await expect(page.locator(".answer .state")).to_contain_text(shown)


async def test_reasoning_is_folded(stack: Stack, browser: Browser) -> None:
    """A model's reasoning can be unfolded and is not in the way."""
    async with open_page(browser, stack.url) as page:
        await say(page, "!think !short")
        await answered(page)
        await expect(page.locator(".thought")).to_be_hidden()
        await page.click(".thoughts summary")
        await expect(page.locator(".thought")).to_be_visible()


async def test_an_unknown_address_is_explained(stack: Stack, browser: Browser) -> None:
    """The page stays usable."""
    async with open_page(browser, f"{stack.url}/#/c/00000000-0000-7000-8000-000000000000") as page:
        await expect(page.locator("#notice-text")).to_contain_text("does not exist any more")
        await page.click("#new")
        await expect(page.locator("#notice")).to_be_hidden()
        await say(page, "!short")
        await answered(page)


async def test_a_regenerated_answer_replaces_the_old_one(stack: Stack, browser: Browser) -> None:
    """In both windows and after a reload."""
    async with open_page(browser, stack.url) as one:
        await say(one, "Tell me.")
        await growing(one, 100)
        await one.click("#stop")
        await answered(one, "cancelled")
        async with open_page(browser, one.url) as two:
            await answered(two, "cancelled")
            await one.get_by_role("button", name="Regenerate").click()
            for page in (one, two):
                assert (await answered(page)).endswith(LAST_WORDS)
                await expect(page.locator(".bubble")).to_have_text("Tell me.")
            await two.reload()
            assert (await answered(two)).endswith(LAST_WORDS)


async def test_titles_and_the_list_are_live(stack: Stack, browser: Browser) -> None:
    """Conversations created elsewhere appear, are marked while they are answered, and get a title
    after the first answer.
    """
    async with open_page(browser, stack.url) as page:
        await expect(page.locator("#link")).to_have_attribute("data-state", "none")
        _, made = await acall(stack.url, "POST", "/api/conversations", {})
        link = page.locator(f"#conversations a[href='#/c/{made['id']}']")
        await expect(link).to_have_text("New conversation")
        _, _ = await acall(
            stack.url,
            "POST",
            f"/api/conversations/{made['id']}/messages",
            {"content": "A name\n\nand !slow words"},
        )
        await expect(link).to_have_attribute("data-running", "")
        await link.click()
        await growing(page, 20)
        _, _ = await acall(stack.url, "POST", f"/api/conversations/{made['id']}/cancel")
        await answered(page, "cancelled")
        await expect(link).not_to_have_attribute("data-running", "")
        _, _ = await acall(
            stack.url, "POST", f"/api/conversations/{made['id']}/messages", {"content": "!short"}
        )
        await answered(page, number=2)
        title = None
        while title is None:  # the page shows the first words meanwhile, so it cannot tell
            _, read = await acall(stack.url, "GET", f"/api/conversations/{made['id']}")
            title = read["conversation"]["title"]
            await asyncio.sleep(0.05)
        await expect(page.locator("#title")).to_have_text(read["conversation"]["title"])
        await expect(link).to_have_text(read["conversation"]["title"])
        await acall(stack.url, "DELETE", f"/api/conversations/{made['id']}")
        await expect(link).to_have_count(0)


@pytest.mark.parametrize("killed", ["worker", pytest.param("broadcaster", marks=pytest.mark.long)])
async def test_a_killed_process_causes_a_pause(stack: Stack, browser: Browser, killed: str) -> None:
    """The visible text stays, the lost connection is shown, and the whole text is there in the
    end.
    """
    async with open_page(browser, stack.url) as page:
        await page.evaluate(
            """() => {
                window.states = [];
                const link = document.querySelector("#link");
                new MutationObserver(() => states.push(link.dataset.state))
                    .observe(link, {attributeFilter: ["data-state"]});
            }"""
        )
        await say(page, "Tell me.")
        await growing(page, 200)
        before = await text_of(page)
        for pid in stack.pids(killed):
            os.kill(pid, signal.SIGKILL)
        if killed == "broadcaster":
            await page.wait_for_function("() => window.states.includes('reconnecting')")
            assert len(await text_of(page)) >= len(before)
        assert (await answered(page)).endswith(LAST_WORDS)
        assert await page.evaluate("window.states.at(-1)") == "live"
        html = await page.locator(".answer .prose").inner_html()
        await page.reload()
        await answered(page)
        assert await page.locator(".answer .prose").inner_html() == html


@pytest.mark.long
async def test_the_list_recovers_from_a_killed_web_process(stack: Stack, browser: Browser) -> None:
    """Conversations created meanwhile are there, and later ones come at once."""
    async with open_page(browser, stack.url) as page:
        await say(page, "Tell me.")
        await growing(page, 100)
        for pid in stack.pids("web"):
            os.kill(pid, signal.SIGKILL)
        assert (await answered(page)).endswith(LAST_WORDS), "the answer does not need it"
        assert stack.eventually(stack.answers)
        _, _ = await acall(stack.url, "POST", "/api/conversations", {"title": "Meanwhile"})
        await expect(page.get_by_role("link", name="Meanwhile")).to_be_visible(timeout=30_000)
        _, _ = await acall(stack.url, "POST", "/api/conversations", {"title": "Afterwards"})
        await expect(page.get_by_role("link", name="Afterwards")).to_be_visible()
        await say(page, "!short")
        await answered(page, number=2)


async def test_two_people_in_one_conversation(
    tmp_path: Path, valkey_url: str, browser: Browser
) -> None:
    """In production with logins: an invited person sees it appear, both see who wrote, outsiders
    see nothing, visitors sign in.
    """
    key = "a-key-of-the-host-application-0123456789"
    (tmp_path / "models.yml").write_text(_MODELS)
    environ = {
        "MODE": "production",
        "REDIS_URL": valkey_url,
        "HOST_JWT_KEY": key,
        "TOKEN_KEY": "t" * 40,
    }
    environ["DATABASE_URL"] = f"sqlite:///{tmp_path}/tokenwire.db"
    with running_stack(tmp_path, MODELS_FILE=str(tmp_path / "models.yml"), **environ) as stack:

        def login(name: str) -> dict[str, object]:
            cookie = {
                "name": "session",
                "value": jwt.encode({"sub": name, "exp": int(time.time()) + 600}, key),
                "domain": "127.0.0.1",
                "path": "/",
            }
            return {"storage_state": {"cookies": [cookie], "origins": []}}

        async with (
            open_page(browser, stack.url, **login("ada")) as ada,
            open_page(browser, stack.url, **login("bob")) as bob,
        ):
            await expect(bob.locator("#none")).to_be_visible()
            await say(ada, "!short Hello from Ada")
            await answered(ada)
            await expect(ada.locator(".who").first).to_be_hidden()
            await ada.evaluate(
                """(id) => fetch(`/api/conversations/${id}/participants`, {
                    method: "POST", body: JSON.stringify({user_id: "bob"})})""",
                ada.url.rpartition("/")[2],
            )
            await bob.evaluate(
                "(id) => fetch(`/api/invitations/${id}/accept`, {method: 'POST'})",
                ada.url.rpartition("/")[2],
            )
            await bob.locator("#conversations a").click()
            await answered(bob)
            await say(bob, "!short Hello from Bob")
            await answered(ada, number=2)
            await answered(bob, number=2)
            await expect(ada.locator(".who")).to_have_text(["You", "bob"])
            await expect(bob.locator(".who")).to_have_text(["ada", "You"])
            await expect(ada.locator(".post.other .bubble")).to_have_text("!short Hello from Bob")
            async with open_page(browser, ada.url, **login("eve")) as eve:
                await expect(eve.locator("#notice-text")).to_contain_text("not yours")
                await expect(eve.locator(".bubble")).to_have_count(0)
            await _visitors_are_asked_to_sign_in(browser, stack.url, ada.url)


async def _visitors_are_asked_to_sign_in(browser: Browser, site: str, conversation: str) -> None:
    """In words for visitors, without tokens and headers."""
    async with open_page(browser, conversation) as page:
        await expect(page.locator("#notice-text")).to_have_text(
            "Please sign in to read this conversation."
        )
        await expect(page.locator(".bubble")).to_have_count(0)
        await page.goto(site)
        await expect(page.locator("#notice-text")).to_have_text(
            "Please sign in to start a conversation."
        )
        await say(page, "!short Hello from nobody")
        await expect(page.locator("#notice-text")).to_have_text("Not sent. You are not signed in.")
        for word in ("Bearer", "JWT", "cookie", "token"):
            assert word not in await page.inner_text("body")


async def test_a_too_long_message_is_explained_and_comes_back(
    stack: Stack, browser: Browser
) -> None:
    """The server refuses 300 kB with a sentence, and the text is in the composer again."""
    long = "All work and no play. " * 14_000
    async with open_page(browser, stack.url) as page:
        await page.evaluate(
            "text => { const box = document.querySelector('#prompt'); box.value = text; "
            "box.dispatchEvent(new Event('input')) }",
            long,
        )
        await page.press("#prompt", "Enter")
        await expect(page.locator("#notice-text")).to_contain_text("Not sent.")
        await expect(page.locator("#notice-text")).to_contain_text("262144 bytes")
        await expect(page.locator(".bubble")).to_have_count(0)
        assert await page.input_value("#prompt") == long
