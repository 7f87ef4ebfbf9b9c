"""The parts of the chat page in Chromium, with a server in memory: tools, sources, regeneration,
the live list, colours, waits, long conversations, accessibility.
"""

import asyncio
from typing import Any

import pytest
from playwright.async_api import Browser, Page, Route, expect

from tests.e2e.browser import PHONE, WIDE, answered, growing, open_page, say, text_of
from tests.e2e.stand_in import Json, StandIn
from tests.js.packages import need_packages
from tokenwire.providers.demo import STORY

pytestmark = pytest.mark.asyncio(loop_scope="module")

INPUT = '{"port":"Brest","day":"<b>today</b>"}'


def part(kind: str, number: int | None = None, /, **fields: Any) -> Json:
    """The event that opens a part, or changes the one of this number (-1: the last)."""
    place = {} if number is None else {"part": number}
    return {"type": "part", **place, "value": {"type": kind, **fields}}


TOOLS: list[Json] = [
    part("tool_call", id="t1", name="tides", state="streaming"),
    {"type": "tool_input", "content": INPUT},
    {"type": "retry", "code": "unavailable", "delay_ms": 1500, "try": 1, "max_tries": 3},
    part("tool_call", -1, state="done", result={"high": ["05:12"]}),
    part("tool_call", id="t2", name="storms", state="streaming"),
    part("tool_call", -1, state="failed", error="no such <i>port</i>"),
    {"content": "High water is at 05:12."},
]
SOURCES: list[Json] = [
    {"content": "As it is said."},
    part("source", at=14, url="https://tides.example/brest?a=1", title="Tides <b>of</b> Brest"),
    part("source", at=14, url="javascript:window.pwned=1", title="a trap"),
    part("source", at=14, address="javascript:window.pwned=2"),
    part("source", at=14, url="https://coast.example/x"),
    part(
        "source",
        at=14,
        url="https://files.example/map.pdf",
        title="A map",
        media_type="application/pdf",
    ),
]


async def test_tools_are_shown_while_they_run(server: StandIn, browser: Browser) -> None:
    """Name and state are visible; input and output unfold as text and stay unfolded while more
    comes.
    """
    server.answers["go"] = TOOLS
    async with open_page(browser, server.url) as page:
        await say(page, "go")
        use = page.locator(".use").first
        await expect(use.locator("summary")).to_contain_text("tides")
        await expect(use).to_have_attribute("data-state", "streaming")
        await expect(use.locator("pre").first).to_be_hidden()
        await use.locator("summary").click()
        await expect(use.locator("pre").first).to_have_text(INPUT)
        await expect(use).to_have_attribute("data-state", "done")
        await expect(use.locator("pre").first).to_contain_text('"day": "<b>today</b>"')
        await expect(use.locator("pre").last).to_contain_text("05:12")
        await expect(use.locator("pre").last).to_be_visible()
        failed = page.locator(".use").nth(1)
        await expect(failed.locator("summary")).to_contain_text("Failed")
        await failed.locator("summary").click()
        await expect(failed.locator("pre").last).to_have_text("no such <i>port</i>")
        assert await answered(page) == "High water is at 05:12."


async def test_sources_are_listed_with_safe_links(server: StandIn, browser: Browser) -> None:
    """In order, with their host; one with a scheme other than http is text only."""
    server.answers["go"] = SOURCES
    async with open_page(browser, server.url) as page:
        await say(page, "go")
        await answered(page)
        rows = page.locator(".sources li")
        await expect(rows).to_have_text(
            [
                "Tides <b>of</b> Brest tides.example",
                "a trap",
                "javascript:window.pwned=2",
                "coast.example",
                "A map files.example · application/pdf",
            ]
        )
        assert await rows.nth(1).locator("a").count() == 0
        assert await rows.nth(2).locator("a").count() == 0
        assert await rows.first.locator("a").get_attribute("rel") == "noopener noreferrer"
        assert await page.evaluate("window.pwned") is None


MIXED: list[Json] = [
    {"type": "reasoning", "content": "First think."},
    {"content": "Let me look."},
    part("tool_call", id="t1", name="tides", state="streaming"),
    {"type": "tool_input", "content": INPUT},
    part("tool_call", 2, state="proposed"),
    part("step", model="demo"),
    {"type": "reasoning", "content": "Then think again."},
    {"content": "High water"},
    part("source", at=22, url="https://tides.example/", title="Tides"),
    part("provider", at=22, dialect="x", kind="y"),
    {"content": " is at **05:12**."},
    part("file", url="/static/icon.svg", media_type="image/svg+xml", name="A map"),
    part("file", url="https://far.example/x.png", media_type="image/png", name="Far"),
    part("file", media_type="image/png", dropped=True),
    part("data", name="weather", data={"wind": 3}),
    part("telepathy", text="?"),
    part("tool_call", id="t2", name="dream", state="dreaming"),
    part("tool_call", id="t3", name="add", state="done", result={"sum": 3}),
    part("tool_call", id="t4", name="pay", state="failed", error="No money."),
    part("tool_call", id="t5", name="buy", state="denied", error="Not today."),
    part("tool_call", id="t6", name="ask", state="awaiting_approval", approval={}),
    part("tool_call", id="t7", name="mail", state="running"),
    {"content": "Anything else?"},
]
SHOWN = [
    "fold thoughts | Reasoning First think.",
    "prose | Let me look.",
    'uses | tides Requested Input { "port": "Brest", "day": "<b>today</b>" }',
    "fold thoughts | Reasoning Then think again.",
    "prose | High water is at 05:12.",
    "sources | Tides tides.example",
    "files | Far far.example · image/png File | A map",
    (
        'uses | dream add Done Result { "sum": 3 } pay Failed Error No money. '
        "buy Denied Error Not today. ask Withdrawn mail Outcome unknown"
    ),
    "prose | Anything else?",
]
UNFOLDED = """() => [...document.querySelectorAll(".answer .body > *")].map((element) => {
    for (const fold of [element, ...element.querySelectorAll("details")]) fold.open = true;
    const text = element.innerText.replaceAll(/\\s+/g, " ").trim();
    const pictures = [...element.querySelectorAll("img")].map((image) => image.alt);
    return [element.className, text, ...pictures].join(" | ");
})"""


async def test_parts_keep_their_order_over_a_reload(server: StandIn, browser: Browser) -> None:
    """Live from events, then from the row. What the page does not know is shown as nothing; a file
    of another server is a link, and nobody asks for it.
    """
    server.answers["go"] = MIXED
    async with open_page(browser, server.url) as page:
        await say(page, "go")
        await answered(page)
        assert await page.evaluate(UNFOLDED) == SHOWN
        picture = page.locator(".files img")
        await expect(picture).to_have_js_property("complete", True)
        assert await picture.evaluate("(image) => image.naturalWidth > 0")
        await page.reload()
        await answered(page)
        assert await page.evaluate(UNFOLDED) == SHOWN


async def test_a_call_that_is_cut_off_is_not_valid(server: StandIn, browser: Browser) -> None:
    """Its input is shown as it came, live and after a reload."""
    call = part("tool_call", id="t1", name="tides", state="streaming")
    error = {"code": "unavailable", "error": "Gone.", "retryable": True}
    server.answers["go"] = [
        call,
        {"type": "tool_input", "content": '{"po'},
        {"type": "error", **error},
    ]
    async with open_page(browser, server.url) as page:
        await say(page, "go")
        for _ in range(2):
            await answered(page, "error")
            assert await page.evaluate(UNFOLDED) == ['uses | tides Not valid Input {"po']
            await page.reload()


async def test_only_the_last_answer_can_be_regenerated(server: StandIn, browser: Browser) -> None:
    """In every window; the old answer is gone."""
    server.default = "First."
    async with open_page(browser, server.url) as one:
        await say(one, "go")
        await answered(one)
        await say(one, "and on")
        await answered(one, number=2)
        async with open_page(browser, one.url) as two:
            await answered(two, number=2)
            server.default = "Second, and " + "longer " * 30
            await expect(one.get_by_role("button", name="Regenerate")).to_have_count(1)
            await one.locator(".answer").last.get_by_role("button", name="Regenerate").click()
            for page in (one, two):
                await expect(page.locator(".answer .prose").last).to_contain_text("Second, and")
                assert (await answered(page, number=2)).startswith("Second")
                await expect(page.locator(".answer .prose").first).to_have_text("First.")
                await expect(page.locator(".bubble")).to_have_text(["go", "and on"])
            await two.reload()
            assert (await answered(two, number=2)).startswith("Second")


async def test_a_failed_answer_offers_a_retry(server: StandIn, browser: Browser) -> None:
    """Beside the error."""
    server.answers["go"] = [
        {
            "type": "error",
            "code": "unavailable",
            "error": "The model cannot be reached.",
            "retryable": True,
        }
    ]
    async with open_page(browser, server.url) as page:
        await say(page, "go")
        await answered(page, "error")
        server.answers.clear()
        server.default = "Now it can."
        await page.locator(".answer").get_by_role("button", name="Try again").click()
        await page.wait_for_selector(".answer[data-status=complete]")
        assert await answered(page) == "Now it can."


async def test_the_list_is_live(server: StandIn, browser: Browser) -> None:
    """Events of the feed show at once: conversations begin, get a title, are answered, end, and go;
    the last changed is on top.
    """
    first = server.add("First")
    async with open_page(browser, server.url) as page:
        links = page.locator("#conversations a")
        await expect(links).to_have_text(["First"])
        row = {
            **first.row,
            "id": "new",
            "title": None,
            "rev": 1,
            "updated_at": first.row["updated_at"] + 1000,
            "running": False,
        }
        await server.tell({"type": "created", "conversation": row})
        await expect(links).to_have_text(["New conversation", "First"])
        await server.tell(
            {"type": "titled", "conversation_id": "new", "title": "Made <i>elsewhere</i>", "rev": 2}
        )
        await expect(links).to_have_text(["Made <i>elsewhere</i>", "First"])
        await server.tell(
            {
                "type": "running",
                "conversation_id": "c1",
                "message_id": "x",
                "updated_at": row["updated_at"] + 1000,
            }
        )
        await expect(links).to_have_text(["First", "Made <i>elsewhere</i>"])
        await expect(links.first).to_have_attribute("data-running", "")
        await expect(links.first).to_have_accessible_description("is being answered")
        ended = {
            "type": "ended",
            "conversation_id": "c1",
            "message_id": "x",
            "status": "complete",
            "updated_at": row["updated_at"] + 2000,
        }
        await server.tell(ended)
        await expect(links.first).not_to_have_attribute("data-running", "")
        await server.tell({"type": "deleted", "conversation_id": "new"})
        await expect(links).to_have_text(["First"])


async def test_a_page_read_before_a_deletion(server: StandIn, browser: Browser) -> None:
    """What the feed told of as deleted, while an older page was under way, does not come back."""
    first = server.add("First").row
    older = [{**first, "id": name, "title": name, "updated_at": 1} for name in ("gone", "kept")]
    deleted = asyncio.Event()

    async def pages(route: Route) -> None:
        if "before=" in route.request.url:
            await deleted.wait()
            await route.fulfill(json={"conversations": older, "next": None})
        else:
            await route.fulfill(json={"conversations": [first], "next": "2"})

    async with open_page(browser, "about:blank") as page:
        await page.route("**/api/conversations?*", pages)
        await page.goto(server.url)
        links = page.locator("#conversations a")
        await expect(links).to_have_text(["First"])
        async with page.expect_request("**before=*"):
            await page.click("#more")
        await server.tell({"type": "deleted", "conversation_id": "gone"})
        await server.tell({"type": "titled", "conversation_id": "c1", "title": "Told", "rev": 99})
        await expect(links).to_have_text(["Told"])
        deleted.set()
        await expect(links).to_have_text(["Told", "kept"])


async def test_without_the_feed_the_list_is_read_once(server: StandIn, browser: Browser) -> None:
    """A server that refuses the feed costs only live changes."""
    server.feeds = False
    server.title_after = "Named later"
    server.default = "Short."
    async with open_page(browser, server.url) as page:
        await say(page, "go")
        await answered(page)
        await expect(page.locator("#conversations a")).to_have_text(["Named later"])
        await expect(page.locator("#title")).to_have_text("Named later")


async def test_a_failed_read_can_be_repeated(server: StandIn, browser: Browser) -> None:
    """A button beside the error reads the models again."""
    async with open_page(browser, "about:blank") as page:
        await page.route("**/api/models", lambda route: route.abort())
        await page.goto(server.url)
        await expect(page.locator("#notice-text")).to_have_text("The server does not answer.")
        await page.unroute("**/api/models")
        await page.click("#notice-again")
        await expect(page.locator("#notice")).to_be_hidden()
        await expect(page.locator("#model option")).to_have_count(2)


async def test_a_long_wait_shows_a_countdown_and_a_button(
    server: StandIn, browser: Browser
) -> None:
    """While the server is away the page counts down; the button tries now."""
    server.default = "Hello."
    async with open_page(browser, server.url) as page:
        await say(page, "go")
        await answered(page)
        await page.route(
            "**/subscription",
            lambda route: route.fulfill(status=503, headers={"Retry-After": "30"}),
        )
        await server.cut(4401)
        await expect(page.locator("#link > span")).to_contain_text("Reconnecting in 2")
        await page.unroute("**/subscription")
        await page.get_by_role("button", name="Try now").click()
        await expect(page.locator("#link > span")).to_have_text("Live")
        await expect(page.locator("#link button")).to_be_hidden()


async def test_colours_follow_the_system_until_chosen(server: StandIn, browser: Browser) -> None:
    """The choice is stored, and applied before the first paint."""
    async with open_page(browser, server.url, color_scheme="dark") as page:
        dark = await _background(page)
        await page.emulate_media(color_scheme="light")
        light = await _background(page)
        assert dark != light
        await page.get_by_role("button", name="Dark colours").click()
        assert await _background(page) == dark
        await page.reload()
        assert await _background(page) == dark
        await page.get_by_role("button", name="Light colours").click()
        assert await _background(page) == light


async def _background(page: Page) -> str:
    return str(await page.evaluate("getComputedStyle(document.body).backgroundColor"))


WATCH = """() => {
    window.seen = {added: 0, removed: 0, elsewhere: 0, shift: 0, whole: 0, tasks: []};
    Object.defineProperty(document, "title", {set() { seen.whole++; }});
    new PerformanceObserver((list) => list.getEntries().forEach(
        (task) => seen.tasks.push(Math.round(task.duration))))
        .observe({type: "longtask"});
    new PerformanceObserver((list) => list.getEntries().forEach(
        (shift) => (seen.shift += shift.hadRecentInput ? 0 : shift.value)))
        .observe({type: "layout-shift"});
    const last = document.querySelector("#messages").lastElementChild;
    new MutationObserver((list) => {
        for (const {target, addedNodes, removedNodes} of list) {
            seen.added += addedNodes.length;
            seen.removed += removedNodes.length;
            if (!last.contains(target)) seen.elsewhere++;
        }
    }).observe(document.querySelector("#messages"), {
        subtree: true, childList: true, characterData: true});
}"""


async def test_a_long_conversation_is_not_redrawn(server: StandIn, browser: Browser) -> None:
    """In 200 kB of messages an answer changes only its own nodes, by additions: almost nothing is
    removed or moved.
    """
    thread = server.add("Long")
    for number in range(38):
        server.message(thread, "user", f"question {number}", "complete", user_id="local")
        server.message(thread, "assistant", STORY * 2, "complete")
    assert sum(len(row["content"]) for row in thread.messages) > 200_000
    server.default = (
        STORY + "\n" + "\n".join(f"{n}. an item with **weight** and `code`" for n in range(60))
    )
    async with open_page(browser, f"{server.url}/#/c/{thread.row['id']}") as page:
        await answered(page, number=38)
        await page.wait_for_function(
            "() => document.querySelector('.answer').textContent.length > 1000"
        )
        await say(page, "go")
        await growing(page, 30)
        await page.evaluate(WATCH)
        text = await answered(page, number=39)
        assert "have a pleasant day" in text
        seen = await page.evaluate("seen")
        assert seen["elsewhere"] <= 2, (
            seen
        )  # `tasks`, the longest blocking times of the browser (ms), are shown but not judged
        assert seen["added"] > 250, seen
        assert seen["removed"] < seen["added"] / 5, seen
        assert seen["shift"] < 0.1, seen
        assert seen["whole"] < 10, seen  # how often the whole page was walked


async def test_a_selection_in_growing_text_stays(server: StandIn, browser: Browser) -> None:
    """Selected words in a growing list stay selected."""
    server.default = "\n".join(f"- item number {n} with some words" for n in range(80))
    async with open_page(browser, server.url) as page:
        await say(page, "go")
        await growing(page, 200)
        await page.evaluate("getSelection().selectAllChildren(document.querySelector('.prose li'))")
        await answered(page)
        assert (
            await page.evaluate("getSelection().toString().trim()")
            == "item number 0 with some words"
        )


AXE = """async () => {
    const found = await axe.run(document, {resultTypes: ["violations"]});
    return found.violations.map(({id, impact, nodes}) =>
        `${impact} ${id}: ${nodes.map(({target}) => target).join(", ")}`);
}"""


@pytest.mark.parametrize(
    ("viewport", "scheme"),
    [
        pytest.param(WIDE, "light", id="wide-light", marks=pytest.mark.long),
        pytest.param(WIDE, "dark", id="wide-dark"),
        pytest.param(PHONE, "light", id="phone-light"),
        pytest.param(PHONE, "dark", id="phone-dark", marks=pytest.mark.long),
    ],
)
async def test_axe_finds_nothing(
    server: StandIn, browser: Browser, viewport: Any, scheme: Any
) -> None:
    """On the empty page, with every kind of message, with dialogs and the drawer, in both palettes
    and widths.
    """
    source = need_packages() / "axe-core" / "axe.min.js"
    server.answers["go"] = [{"type": "reasoning", "content": "Hm. " * 10}, *TOOLS, *SOURCES]
    server.answers["fail"] = [
        {
            "type": "error",
            "code": "unavailable",
            "error": "It cannot be reached.",
            "retryable": True,
        }
    ]
    async with open_page(
        browser,
        server.url,
        viewport=viewport,
        color_scheme=scheme,
        reduced_motion="reduce",
        bypass_csp=True,
    ) as page:
        await page.add_script_tag(path=source)
        assert await page.evaluate(AXE) == []
        await say(page, "go")
        await answered(page)
        for summary in await page.locator("summary").all():
            await summary.click()
        (thread,) = server.threads.values()
        for name in ("ada", "bob", "charles", "dora", "emil", "fritz", "gustav"):
            server.message(thread, "user", f"I am {name}", "complete", user_id=name)
        server.message(thread, "assistant", STORY, "complete")
        await say(page, "fail")
        await answered(page, "error", 3)
        await expect(page.locator(".who")).to_have_count(9)
        assert await page.evaluate(AXE) == []
        await page.click("#rename")
        assert await page.evaluate(AXE) == []
        await page.keyboard.press("Escape")
        if viewport is PHONE:
            await page.click("#menu")
            assert await page.evaluate(AXE) == []


async def test_a_hidden_page_loses_no_text(server: StandIn, browser: Browser) -> None:
    """It closes its feed, opens it again when visible, and shows the whole text."""
    server.default = STORY[:1500]
    async with open_page(browser, server.url) as page:
        await say(page, "go")
        await growing(page)
        hide = (
            "(hidden) => { Object.defineProperty(document, 'hidden', {value: hidden, "
            "configurable: true}); %s }"
        )
        change = hide % "document.dispatchEvent(new Event('visibilitychange'))"
        await page.evaluate(change, True)
        await answered(page)
        server.add("Made meanwhile")
        await page.evaluate(change, False)
        await expect(page.get_by_role("link", name="Made meanwhile")).to_be_visible()
        assert len(await text_of(page)) > 1000


async def test_drafts_survive_a_reload(server: StandIn, browser: Browser) -> None:
    """A draft is there again after a reload, in its conversation, and gone once it is sent."""
    async with open_page(browser, server.url) as page:
        await say(page, "one")
        await answered(page)
        await page.fill("#prompt", "a draft")
        await page.reload()
        await answered(page)
        await expect(page.locator("#prompt")).to_have_value("a draft")
        await page.click("#new")
        await expect(page.locator("#prompt")).to_have_value("")
        await page.fill("#prompt", "another one")
        await page.reload()
        await expect(page.locator("#prompt")).to_have_value("another one")
        await page.locator("#conversations a").first.click()
        await expect(page.locator("#prompt")).to_have_value("a draft")
        await page.press("#prompt", "Enter")
        await answered(page, number=2)
        await page.reload()
        await answered(page, number=2)
        await expect(page.locator("#prompt")).to_have_value("")


async def test_each_block_has_its_own_direction(server: StandIn, browser: Browser) -> None:
    """Arabic beside English: each paragraph and item begins on its own side; code stays on the
    left.
    """
    server.default = "Hello.\n\nمرحبا بالعالم\n\n- one\n- واحد\n\n```\nمرحبا\n```"
    async with open_page(browser, server.url) as page:
        await say(page, "go")
        await answered(page)
        shown = await page.evaluate(
            "[...document.querySelectorAll('.prose :is(p, li, pre)')].map((block) => "
            "getComputedStyle(block).direction)"
        )
        assert shown == ["ltr", "rtl", "ltr", "rtl", "ltr"]


async def test_deeply_nested_lists_stay_in_their_column(server: StandIn, browser: Browser) -> None:
    """A list of 500 levels loses no word and stays within the column, even on a phone."""
    deep = "\n".join(f"{'  ' * level}- item {level}" for level in range(500))
    async with open_page(browser, server.url, viewport=PHONE) as page:
        await say(page, "go")
        await answered(page)
        shown = await page.evaluate(
            """async (text) => {
                const { MarkdownView } = await import("/static/markdown.js");
                const prose = document.querySelector(".answer .prose");
                prose.replaceChildren();
                new MarkdownView(prose).set(text, true);
                const range = document.createRange();
                const words = document.createTreeWalker(prose, NodeFilter.SHOW_TEXT);
                const rights = [], items = [];
                while (words.nextNode()) {
                    if (!words.currentNode.data.trim()) continue;
                    range.selectNodeContents(words.currentNode);
                    items.push(words.currentNode.data.trim());
                    rights.push(range.getBoundingClientRect().right);
                }
                return { items, right: Math.max(...rights),
                    column: prose.getBoundingClientRect().right };
            }""",
            deep,
        )
        assert shown["items"] == [f"item {level}" for level in range(500)]
        assert shown["right"] <= shown["column"] + 1
