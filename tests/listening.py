"""A scripted server of a test: it leaves nothing behind when its context ends, whatever connects
then.

`asyncio.start_server` cannot promise that. A task that nobody can wait for sets up an accepted
connection: it outlives the server, and if the server closes at that moment (Python 3.11), the
socket is lost. The garbage collector finds it during a later test, which then fails. So this server
accepts by itself, and tracks each connection from its first moment.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Listener:
    """Listens on 127.0.0.1 from its creation until `aclose`. Each connection is closed when its
    handler ends.
    """

    def __init__(self, handler: Handler, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        """`port` 0: any free one."""
        self._handler, self._tls = handler, tls
        self._serving: dict[asyncio.Task[None], socket.socket] = {}
        self._failures: list[BaseException] = []
        self._loop = asyncio.get_running_loop()
        self._socket = socket.create_server(("127.0.0.1", port), backlog=1000)
        self._socket.setblocking(False)
        self._loop.add_reader(self._socket, self._accept)

    @property
    def port(self) -> int:
        """The port for clients."""
        return int(self._socket.getsockname()[1])

    async def aclose(self) -> None:
        """Stop listening, cancel the handlers and close their connections. Raises a handler's
        exception.
        """
        if self._socket.fileno() != -1:
            self._loop.remove_reader(self._socket)
            self._socket.close()
        serving = dict(self._serving)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        for accepted in serving.values():
            accepted.close()  # a task that was cancelled before its first step
        for failure in self._failures:
            raise failure

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            accepted, _ = self._socket.accept()
            task = self._loop.create_task(self._serve(accepted))
            self._serving[task] = accepted
            task.add_done_callback(self._served)

    def _served(self, task: asyncio.Task[None]) -> None:
        del self._serving[task]
        failure = None if task.cancelled() else task.exception()
        if failure is not None:
            self._failures.append(failure)

    async def _serve(self, accepted: socket.socket) -> None:
        """A client that leaves is no failure."""
        with contextlib.suppress(ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
            reader = asyncio.StreamReader()
            protocol = asyncio.StreamReaderProtocol(reader)
            transport, _ = await self._loop.connect_accepted_socket(
                lambda: protocol, accepted, ssl=self._tls
            )
            writer = asyncio.StreamWriter(transport, protocol, reader, self._loop)
            async with closing(writer):
                await self._handler(reader, writer)


@contextlib.asynccontextmanager
async def listening(
    handler: Handler, port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Listener]:
    """A server during this context. Raises a handler's exception."""
    listener = Listener(handler, port, tls)
    try:
        yield listener
    finally:
        await listener.aclose()


@contextlib.asynccontextmanager
async def closing(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    """Closes the connection after the block: when all output is sent, or at once if the block fails
    or is cancelled.
    """
    try:
        yield
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
