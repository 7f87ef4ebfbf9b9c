"""One MCP server: its connection, its list of tools, its calls.

Guarantees:

- A server that is away, hangs or sends nonsense stops neither the worker nor other servers. It is
  asked again after a pause, which grows to LONGEST_PAUSE. Meanwhile its tools stay known.
- A call is sent once. It failed if the server said so, or if it provably was not sent. Whatever
  else happens, its outcome is unknown.
- The list is read again when the server reports a change, after each new connection, and every
  LIST_SECONDS, because such a report may be lost. A call of a tool that is gone fails.

Everything but `tools` and `tried` belongs to the loop of tools.

Rejected: one connection for each call, which costs a handshake, and a new process where the server
is one. `call_tool` of the package: it repeats a call by itself in one case, and checks a result
against the server's schema on the loop, for as long as that takes.
"""

import asyncio
import contextlib
import json
import logging
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from types import MappingProxyType
from typing import Any

import structlog
from mcp import ClientSession, MCPError
from mcp_types import (
    CONNECTION_CLOSED,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    UNSUPPORTED_PROTOCOL_VERSION,
    CallToolRequest,
    CallToolRequestParams,
    CallToolResult,
    Implementation,
    ListToolsRequest,
    ListToolsResult,
    PaginatedRequestParams,
)
from pydantic import ValidationError

import tokenwire
from tokenwire.config.logs import redact
from tokenwire.providers.redaction import without_secrets
from tokenwire.providers.spec import McpSpec, mistake
from tokenwire.worker.schemas import BadSchema
from tokenwire.worker.tools.callback import LOST, UNDECIDED, UNREACHABLE
from tokenwire.worker.tools.context import ToolContext, ToolError, UnknownEffect
from tokenwire.worker.tools.definition import ServerTool
from tokenwire.worker.tools.mcp import answers, http, stdio
from tokenwire.worker.tools.mcp.gate import PRESENT, CallPassage, Inlet, Outlet, ServerLink, Streams
from tokenwire.worker.tools.schemas import SchemaReader

log_line = structlog.get_logger(__name__)
for _name in ("mcp", "client"):  # the package's loggers, which quote whatever a server sends
    logging.getLogger(_name).setLevel(logging.CRITICAL)

CONNECT_SECONDS = 10.0
"""The longest time to connect, and to read the list of tools."""
SCHEMA_SECONDS = 20.0
"""The longest time to check the schemas of a list."""
SCHEMAS_AT_A_TIME = 2
WAIT_SECONDS = 10.0
"""How long a call waits for a server that is away, before it fails."""
LIST_SECONDS = 60.0
CALM_SECONDS = 0.5
"""Between a reported change and the next reading of the list."""
CHECK_SECONDS = 0.05
FIRST_PAUSE = 0.25
LONGEST_PAUSE = 30.0
MAX_PAGES = 100
_IS_LOST = re.compile("Connection closed$|SSE stream ended")
"""What the package says of a lost connection. Servers use its code for errors of their own."""
MAX_LISTED = 1000
"""Tools of a list that are considered. The rest is not read."""

META = "tokenwire/"
"""Keys of a call's `_meta` begin with it: `key`, `run`, and with `identity` the three ids."""
GONE = "The tool's server has no such tool any more."
FORGOTTEN = "The tool's server had lost its session and refused the call. It can be called again."
UNREADABLE = "The tool's answer could not be read. It is not known whether the call took effect."
REPORTED = "The tool's server reported: {}. It is not known whether the call took effect."
ODD = "The tool answered with the status {}. It is not known whether the call took effect."


class McpServer:
    """A source of tools."""

    def __init__(self, spec: McpSpec, secrets: Sequence[str] = ()) -> None:
        self.name = f"MCP server {spec.name}"
        self.tools: Mapping[str, ServerTool] = MappingProxyType({})
        self.tried = False
        self._spec = spec
        self._secrets = secrets
        self._session: ClientSession | None = None
        self._link = ServerLink()
        self._calls = 0
        self._readers: dict[str, SchemaReader | str] = {}
        """By schema, as JSON; a text says why the schema cannot be used."""
        self._logged: list[str] = []
        self._absence: str | None = None

    # --- the connection ---

    async def run(self) -> None:
        """Keep the connection and the list until this task is cancelled."""
        pause = FIRST_PAUSE
        while True:
            began, self._link = time.monotonic(), ServerLink()
            try:
                await self._live(self._link)
            except Exception as error:  # noqa: BLE001 -- a server may cause any
                self._log_absence(_reason(error, self._link))
            finally:
                self._session, self.tried = None, True
            _heed_cancellation()
            if time.monotonic() - began > LONGEST_PAUSE:
                pause = FIRST_PAUSE
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _log_absence(self, reason: str) -> None:
        """Once for each reason, until the server is there again."""
        if reason != self._absence:
            log_line.warning("an MCP server is away", server=self._spec.name, reason=reason)
        self._absence = reason

    async def _live(self, link: ServerLink) -> None:
        """One session, until it is of no use any more."""
        async with AsyncExitStack() as stack:
            async with asyncio.timeout(CONNECT_SECONDS):
                session = await stack.enter_async_context(self._opened(link))
                listed = await _listed(session)
            await self._take(*listed)
            self._session, self.tried, self._absence = session, True, None
            log_line.info("an MCP server is there", server=self._spec.name, tools=len(self.tools))
            try:
                await self._attend(session, link)
            finally:
                self._session = None

    @asynccontextmanager
    async def _opened(self, link: ServerLink) -> AsyncIterator[ClientSession]:
        async with (
            self._streams(link) as (source, sink),
            ClientSession(
                Inlet(source, link),
                Outlet(sink),
                client_info=Implementation(name="tokenwire", version=tokenwire.__version__),
            ) as session,
        ):
            await _agree(session)
            yield session

    @asynccontextmanager
    async def _streams(self, link: ServerLink) -> AsyncIterator[Streams]:
        if self._spec.url is None:
            async with stdio.started(self._spec) as streams:
                yield streams
        else:
            async with http.connected(self._spec, link) as streams:
                yield streams

    async def _attend(self, session: ClientSession, link: ServerLink) -> None:
        """Read the list again and again, until the session has ended, and its calls with it."""
        while not await _is_lost(link):
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    listed = await _listed(session)
            except (TimeoutError, MCPError, ValidationError):
                if not self._calls:
                    raise
                continue  # it may be busy with a call, whose outcome must not be lost
            await self._take(*listed)
        self._session = None
        while self._calls:  # they may still get an answer
            await asyncio.sleep(CHECK_SECONDS)

    # --- the list ---

    async def _take(self, entries: Sequence[Mapping[str, Any]], whole: bool) -> None:
        """The tools are these now."""
        choice = answers.chosen(self._spec, without_secrets([*entries], self._secrets))
        if not whole:
            choice.leaves_out("...", f"the list has more than {len(entries)} tools")
        readers = await self._checked(choice)
        self.tools = MappingProxyType(
            {
                one.name: self._tool(one, reader)
                for one in choice.tools
                if isinstance(reader := readers[one.name], SchemaReader)
            }
        )
        if choice.reasons and choice.reasons != self._logged:
            log_line.warning(
                "tools of an MCP server are left out",
                server=self._spec.name,
                number=choice.left_out,
                tools=choice.reasons,
            )
        self._logged = choice.reasons

    async def _checked(self, choice: answers.Choice) -> dict[str, SchemaReader | str]:
        """What reads the arguments of each tool. A schema is checked once, while it is listed."""
        texts = {one.name: json.dumps(one.schema) for one in choice.tools}
        known = {text: self._readers[text] for text in texts.values() if text in self._readers}
        room = asyncio.Semaphore(SCHEMAS_AT_A_TIME)

        async def check(text: str) -> None:
            async with room:
                if text not in known:
                    known[text] = await asyncio.to_thread(_reader, text, self._spec.name)

        try:
            async with asyncio.timeout(SCHEMA_SECONDS):
                await asyncio.gather(*(check(text) for text in texts.values()))
        except TimeoutError:
            pass
        self._readers = known
        late = "its schema could not be checked in time"
        found = {name: known.get(text, late) for name, text in texts.items()}
        for one in choice.tools:
            if isinstance(reason := found[one.name], str):
                choice.leaves_out(one.tool, reason)
        return found

    def _tool(self, one: answers.Listed, reader: SchemaReader) -> ServerTool:
        async def call(context: ToolContext, arguments: Any) -> Any:
            return await self._call(one, context, arguments)

        return ServerTool(
            one.name,
            one.title,
            one.description,
            self._spec.may_repeat(one.tool),
            self._spec.seconds,
            self._spec.needs_approval(one.tool),
            reader,
            call,
        )

    # --- a call ---

    async def _call(self, one: answers.Listed, context: ToolContext, arguments: Any) -> Any:
        """The result. A call that could not be sent is tried again, while its server may come back.
        Raises ToolError and UnknownEffect.
        """
        sending, end = CallPassage(), time.monotonic() + WAIT_SECONDS
        try:
            while True:
                session = await self._ready(one.name, end)
                sending = CallPassage()
                PRESENT.set(sending)  # this task is for this call alone
                try:
                    return await self._sent(session, one, context, arguments)
                except (MCPError, ValidationError) as error:
                    if not sending.never_left:
                        raise _failure(error, sending, self._secrets) from error
                await asyncio.sleep(FIRST_PAUSE)
        except asyncio.CancelledError:
            if sending.never_left:
                raise ToolError(UNREACHABLE) from None
            raise
        except (ToolError, UnknownEffect):
            raise
        except Exception as error:  # whatever it is, only `never_left` proves that nothing was sent
            raise (ToolError(UNREACHABLE) if sending.never_left else UnknownEffect(LOST)) from error

    async def _sent(
        self, session: ClientSession, one: answers.Listed, context: ToolContext, arguments: Any
    ) -> Any:
        params = CallToolRequestParams(
            name=one.tool, arguments=arguments, _meta=_meta(self._spec, context)
        )
        self._calls += 1
        try:
            found = await session.send_request(CallToolRequest(params=params), CallToolResult)
        finally:
            self._calls -= 1
        whole = found.model_dump(mode="json", by_alias=True, exclude_unset=True)
        answer = without_secrets(whole, self._secrets)
        if (sentence := answers.refusal(answer)) is not None:
            raise ToolError(sentence)
        return answers.result(answer)

    async def _ready(self, name: str, end: float) -> ClientSession:
        """The session of a server that has this tool; a short absence is waited for. Raises
        ToolError.
        """
        while self._session is None or self._link.lost.is_set():
            if time.monotonic() > end:
                raise ToolError(UNREACHABLE)
            await asyncio.sleep(CHECK_SECONDS)
        if name not in self.tools:
            raise ToolError(GONE)
        return self._session


def _heed_cancellation() -> None:
    """Where a session breaks at the moment of a cancellation, its task group takes both for one."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def _is_lost(link: ServerLink) -> bool:
    """Wait until the list is to be read again, or the connection is lost."""
    _heed_cancellation()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LIST_SECONDS):
            await link.changed.wait()
        async with asyncio.timeout(CALM_SECONDS):  # changes come in bursts
            await link.lost.wait()
    link.changed.clear()
    return link.lost.is_set()


async def _agree(session: ClientSession) -> None:
    """Agree on a version of the protocol: with most servers by `initialize`."""
    try:
        await session.initialize()
    except MCPError as error:
        if error.code not in (METHOD_NOT_FOUND, UNSUPPORTED_PROTOCOL_VERSION):
            raise
        await session.discover()


async def _listed(session: ClientSession) -> tuple[Sequence[Mapping[str, Any]], bool]:
    """The server's list as far as it is considered, and whether that is the whole list."""
    entries: list[Mapping[str, Any]] = []
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        params = PaginatedRequestParams(cursor=cursor) if cursor else None
        page = await session.send_request(ListToolsRequest(params=params), ListToolsResult)
        entries += [tool.model_dump(mode="json", by_alias=True) for tool in page.tools]
        cursor = page.next_cursor
        if not cursor or len(entries) > MAX_LISTED:
            break
    return entries[:MAX_LISTED], not cursor and len(entries) <= MAX_LISTED


def _reader(text: str, server: str) -> SchemaReader | str:
    try:
        return SchemaReader(json.loads(text), asker=f"mcp:{server}")
    except BadSchema as error:
        return f"its schema cannot be used: {error}"


def _meta(spec: McpSpec, context: ToolContext) -> Any:
    """What the server learns about a call besides its arguments."""
    known: dict[str, Any] = {"key": context.key, "run": context.run}
    if spec.identity:
        known["user_id"] = context.user_id
        known["conversation_id"] = context.conversation_id
        known["message_id"] = context.message_id
    return {META + name: value for name, value in known.items()}


def _failure(
    error: MCPError | ValidationError, sending: CallPassage, secrets: Sequence[str]
) -> ToolError | UnknownEffect:
    """What an error of the session means for a call that may have been sent."""
    if isinstance(error, ValidationError):
        return UnknownEffect(UNREADABLE)
    message = without_secrets(error.message, secrets)
    status = sending.status
    if status == 404:
        return ToolError(FORGOTTEN)
    if status is not None and 400 <= status < 500 and status not in UNDECIDED:
        return ToolError(message)
    if status is not None:
        return UnknownEffect(ODD.format(status))
    if sending.broke or (error.code == CONNECTION_CLOSED and _IS_LOST.match(error.message)):
        return UnknownEffect(LOST)
    if error.code in answers.REFUSALS:
        return ToolError(message)
    if error.code == PARSE_ERROR:
        return UnknownEffect(UNREADABLE)
    return UnknownEffect(REPORTED.format(" ".join(message[:500].split())))


def _reason(error: BaseException, link: ServerLink) -> str:
    """For the log, in one line."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    words = [type(error).__name__, link.fault or ""]
    if isinstance(error, MCPError):
        words.append(" ".join(redact(error.message)[:200].split()))
    if isinstance(error, ValidationError):
        words.append(mistake(error))
    return ": ".join(filter(None, words))
