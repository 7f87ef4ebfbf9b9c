"""Decisions about tool calls on the chat page, in Chromium on a real Tokenwire with tools."""

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, BrowserContext, Locator, Page, Route, expect

from tests.e2e.browser import answered, open_page, say
from tests.e2e.stack import Stack, running_stack

pytestmark = pytest.mark.asyncio(loop_scope="module")

_MODELS = "default: demo\nmodels: {demo: {provider: demo, options: {tokens_per_second: 500}}}\n"
_TOOLS = '''
import os, pathlib, sqlite3, time
from tokenwire.tools import ToolContext, tool

FOLDER = pathlib.Path(os.environ["TOOLS_FOLDER"])


def note(context: ToolContext, name: str, cents: int) -> None:
    with sqlite3.connect(FOLDER / "runs.db") as database:
        database.execute("create table if not exists runs (key text, name text, cents int)")
        database.execute("insert into runs values (?, ?, ?)", (context.key, name, cents))


@tool(title="Pay an invoice", approve=True)
def pay(context: ToolContext, cents: int) -> str:
    """Pay an invoice."""
    note(context, "pay", cents)
    return f"paid {cents}"


@tool
def mail(context: ToolContext, cents: int) -> str:
    """Send a mail."""
    note(context, "mail", cents)
    while not (FOLDER / "go").exists():
        time.sleep(0.05)
    return "sent"
'''


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack whose workers have the tools above."""
    folder = tmp_path_factory.mktemp("stack")
    (folder / "models.yml").write_text(_MODELS)
    (folder / "page_tools.py").write_text(_TOOLS)
    settings = {
        "MODELS_FILE": str(folder / "models.yml"),
        "TOOLS": "page_tools",
        "TOOLS_FOLDER": str(folder),
    }
    with running_stack(folder, **settings) as running:
        yield running


def runs(stack: Stack, name: str) -> list[int]:
    """The amounts with which this tool ran."""
    with sqlite3.connect(stack.folder / "runs.db") as database:
        if not database.execute("select 1 from sqlite_master where name = 'runs'").fetchone():
            return []
        found = database.execute("select cents from runs where name = ?", (name,))
        return [cents for (cents,) in found]


def question(page: Page) -> Locator:
    """The question on the page."""
    return page.get_by_role("group", name="Decide about")


async def hold_until(context: BrowserContext, url: str, count: int) -> None:
    """Requests to this address leave when there are so many of them, all at once."""
    held: list[Route] = []

    async def hold(route: Route) -> None:
        held.append(route)
        if len(held) == count:
            await asyncio.gather(*(each.continue_() for each in held))

    await context.route(url, hold)


async def test_two_tabs_decide_and_the_tool_runs_once(stack: Stack, browser: Browser) -> None:
    """Both show the question, with the arguments, and approve at once; it goes away in both."""
    before = len(runs(stack, "pay"))
    async with open_page(browser, stack.url) as page:
        await say(page, '!tool pay {"cents": 7}')
        await expect(question(page)).to_contain_text("May this tool run?")
        await expect(page.locator(".use pre").first).to_contain_text('"cents": 7')
        other = await page.context.new_page()
        await other.goto(page.url)
        await expect(question(other)).to_be_visible()
        assert len(runs(stack, "pay")) == before
        await hold_until(page.context, "**/decision", 2)
        for each in (page, other):
            await each.get_by_role("button", name="Approve").click()
        for each in (page, other):
            await answered(each)
            await expect(question(each)).to_be_hidden()
            await expect(each.locator(".use-state")).to_have_text("Done")
    assert runs(stack, "pay")[before:] == [7]


async def test_a_person_edits_the_arguments(stack: Stack, browser: Browser) -> None:
    """What is no object is refused on the page; the tool gets the edited arguments, to the last
    digit.
    """
    before = len(runs(stack, "pay"))
    async with open_page(browser, stack.url) as page:
        await say(page, '!tool pay {"cents": 9}')
        await page.get_by_role("button", name="Edit").click()
        field = question(page).get_by_role("textbox")
        assert json.loads(await field.input_value()) == {"cents": 9}
        await field.fill("[9]")
        approve = question(page).get_by_role("button", name="Approve").last
        await approve.click()
        await expect(page.get_by_role("alert")).to_have_text("Arguments are a JSON object.")
        await field.fill('{"cents": 9007199254740993}')
        await approve.click()
        await answered(page)
        await expect(page.locator(".facts")).to_contain_text("Input after an edit")
    assert runs(stack, "pay")[before:] == [9007199254740993]


async def test_a_person_denies_with_a_reason(stack: Stack, browser: Browser) -> None:
    """The tool does not run; the reason is shown."""
    before = len(runs(stack, "pay"))
    async with open_page(browser, stack.url) as page:
        await say(page, '!tool pay {"cents": 5}')
        await page.get_by_role("button", name="Deny").click()
        await question(page).get_by_role("textbox").fill("Too much.")
        await question(page).get_by_role("button", name="Deny").last.click()
        await answered(page)
        await expect(page.locator(".use-state")).to_have_text("Denied")
        await expect(page.locator(".facts")).to_contain_text("Too much.")
    assert len(runs(stack, "pay")) == before


async def test_a_message_in_front_of_a_question_reaches_the_answer(
    stack: Stack, browser: Browser
) -> None:
    """The message and its place in the answer are marked, also behind a reload. Nothing waits for a
    second answer.
    """
    before = len(runs(stack, "pay"))
    async with open_page(browser, stack.url) as page:
        await say(page, '!tool pay {"cents": 5}')
        await expect(question(page)).to_be_visible()
        await say(page, "No, wait.")
        for _ in range(2):
            await answered(page)
            await expect(page.locator(".post .taken").last).to_be_visible()
            await expect(page.get_by_role("note")).to_have_text("A new message was read here.")
            await expect(page.locator(".post .taken").first).to_be_hidden()
            await expect(page.locator(".answer")).to_have_count(1)
            await page.reload()
    assert len(runs(stack, "pay")) == before


async def test_an_unknown_outcome_is_decided_by_a_person(stack: Stack, browser: Browser) -> None:
    """The worker dies while the tool runs. It does not run again; a person enters the result."""
    async with open_page(browser, stack.url) as page:
        await say(page, '!tool mail {"cents": 1}')
        await expect(page.locator(".use")).to_have_attribute("data-state", "running")
        assert stack.eventually(lambda: runs(stack, "mail") == [1], 10)
        for pid in stack.pids("worker"):
            with contextlib.suppress(ProcessLookupError):  # it died with its parent
                os.kill(pid, signal.SIGKILL)
        await expect(question(page)).to_contain_text("Nobody knows")
        await page.get_by_role("button", name="Enter its result").click()
        await question(page).get_by_role("textbox").fill("it was sent")
        await question(page).get_by_role("button", name="Enter its result").last.click()
        await answered(page)
        await expect(page.locator(".facts")).to_contain_text("it was sent")
    assert runs(stack, "mail") == [1]
    Path(stack.folder / "go").touch()
