"""The CPU cost of a streamed chunk: our decoder and whole client beside the openai SDK, LiteLLM and
a bare reader.

    python -m benchmarks.providers [--streams 60] [--seconds 6]

Decoding: the same realistic events from memory, one event at a time. Whole client: a server in its
own process sends every stream 50 tokens a second; each client runs in its own process and counts
its CPU from the first token to the last. Clients whose package is not installed (extra `peers`) are
skipped. Exits with 1 if a bound is missed: decoding at least 20 times, the whole client at least 4
times cheaper than the openai SDK.
"""

import argparse
import asyncio
import importlib
import importlib.util
import json
import multiprocessing
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

TOKENS_PER_SECOND = 50
DECODED = 4000
ROUNDS = 5
Read = Callable[[], Awaitable[int]]
Client = Callable[[str, int], AbstractAsyncContextManager[Read]]


def event(text: str, finish: str | None = None) -> bytes:
    """One chunk as OpenAI sends it."""
    delta = {} if finish else {"content": text}
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    head = {
        "id": "chatcmpl-ABfw2KKFuVXmEJgVwYfBvejMAdWtq",
        "object": "chat.completion.chunk",
        "created": 1727346170,
    }
    body = {
        **head,
        "model": "gpt-4o-2024-08-06",
        "service_tier": "default",
        "system_fingerprint": "fp_b40fb1c6fb",
        "choices": [choice],
    }
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


def events(count: int) -> list[bytes]:
    """An answer of `count` tokens."""
    return [*(event(f" token{i}") for i in range(count)), event("", "stop"), b"data: [DONE]\n\n"]


# --- decoding -------------------------------------------------------------------------------------


async def decode_bare(pieces: list[bytes]) -> int:
    """The minimum: cut the line, parse the JSON, take the text."""
    import msgspec

    decode = msgspec.json.Decoder().decode
    return sum(
        1
        for piece in pieces
        if piece[6:7] == b"{" and "content" in decode(piece[6:-2])["choices"][0]["delta"]
    )


async def decode_ours(pieces: list[bytes]) -> int:
    """`ChatDecoder`, one read at a time."""
    from tokenwire.providers.base import TextDelta
    from tokenwire.providers.openai_chat import ChatDecoder

    decoder = ChatDecoder()
    return sum(
        1 for piece in pieces for delta in decoder.feed(piece) if isinstance(delta, TextDelta)
    )


async def decode_openai(pieces: list[bytes]) -> int:
    """The SDK over a transport in memory."""
    client = _sdk_in_memory(pieces)
    stream = await client.chat.completions.create(model="m", messages=[], stream=True)
    return len([1 async for chunk in stream if chunk.choices and chunk.choices[0].delta.content])


async def decode_litellm(pieces: list[bytes]) -> int:
    """LiteLLM over that SDK."""
    import litellm

    client = _sdk_in_memory(pieces)
    stream: Any = await litellm.acompletion(
        model="openai/m", messages=[{"role": "user", "content": "x"}], stream=True, client=client
    )
    return len([1 async for chunk in stream if chunk.choices[0].delta.content])


def _sdk_in_memory(pieces: list[bytes]) -> Any:
    import openai

    # The SDK changed from httpx to httpx2; they are alike here.
    httpx: Any = next(
        module
        for module in map(_imported, ("httpx2", "httpx"))
        if issubclass(openai.DefaultAsyncHttpxClient, module.AsyncClient)
    )

    class _PiecesBody(httpx.AsyncByteStream):  # type: ignore[misc]
        async def __aiter__(self) -> AsyncIterator[bytes]:
            for piece in pieces:
                yield piece

    class _PiecesTransport(httpx.AsyncBaseTransport):  # type: ignore[misc]
        async def handle_async_request(self, request: Any) -> Any:  # noqa: ARG002
            return httpx.Response(
                200, headers={"content-type": "text/event-stream"}, stream=_PiecesBody()
            )

    return openai.AsyncOpenAI(
        api_key="none",
        base_url="http://memory/v1",
        http_client=httpx.AsyncClient(transport=_PiecesTransport()),
    )


def _imported(name: str) -> Any:
    return importlib.import_module(name)


# --- whole clients: each gives the coroutine that reads one stream --------------------------------


@asynccontextmanager
async def client_bare(url: str, streams: int) -> AsyncIterator[Read]:  # noqa: ARG001
    """A socket and a search for line ends: the minimum."""
    host, port = url.removeprefix("http://").split("/")[0].split(":")

    async def read() -> int:
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"
        )
        count = 0
        while data := await reader.read(65536):
            count += data.count(b'"content":')
            if b"[DONE]" in data:
                break
        writer.close()
        return count

    yield read


@asynccontextmanager
async def client_ours(url: str, streams: int) -> AsyncIterator[Read]:  # noqa: ARG001
    """`open_provider` over `HttpClient`."""
    from tokenwire.providers.base import HistoryMessage, Request, TextDelta
    from tokenwire.providers.http import HttpClient
    from tokenwire.providers.registry import open_provider
    from tokenwire.providers.spec import ModelSpec

    http = HttpClient()
    provider = open_provider(ModelSpec("m", "openai_compatible", "m", base_url=url), http)

    async def read() -> int:
        async with provider.stream(Request([HistoryMessage("user", "hello")])) as stream:
            return sum(
                [1 async for deltas in stream for delta in deltas if isinstance(delta, TextDelta)]
            )

    yield read
    await http.aclose()


@asynccontextmanager
async def client_httpx(url: str, streams: int) -> AsyncIterator[Read]:
    """Our decoder over httpx's own transport, to show what aiohttp's saves."""
    import httpx

    from tokenwire.providers.base import TextDelta
    from tokenwire.providers.openai_chat import ChatDecoder

    client = httpx.AsyncClient(limits=httpx.Limits(max_connections=streams), timeout=60)

    async def read() -> int:
        decoder = ChatDecoder()
        async with client.stream("POST", url + "/chat/completions", json={}) as response:
            return sum(
                [
                    1
                    async for data in response.aiter_raw()
                    for delta in decoder.feed(data)
                    if isinstance(delta, TextDelta)
                ]
            )

    yield read


@asynccontextmanager
async def client_openai(url: str, streams: int) -> AsyncIterator[Read]:  # noqa: ARG001
    """The SDK as in its manual."""
    import openai

    client = openai.AsyncOpenAI(api_key="none", base_url=url, max_retries=0)

    async def read() -> int:
        stream = await client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "hello"}], stream=True
        )
        return len(
            [1 async for chunk in stream if chunk.choices and chunk.choices[0].delta.content]
        )

    yield read


@asynccontextmanager
async def client_litellm(url: str, streams: int) -> AsyncIterator[Read]:  # noqa: ARG001
    """`acompletion` as in its manual."""
    import litellm

    async def read() -> int:
        messages = [{"role": "user", "content": "hello"}]
        stream: Any = await litellm.acompletion(
            model="openai/m", messages=messages, stream=True, api_base=url, api_key="none"
        )
        return len([1 async for chunk in stream if chunk.choices[0].delta.content])

    yield read


DECODERS = {
    "bare": decode_bare,
    "ours": decode_ours,
    "openai": decode_openai,
    "litellm": decode_litellm,
}
CLIENTS: dict[str, Client] = {
    "bare": client_bare,
    "ours": client_ours,
    "ours, plain httpx": client_httpx,
    "openai": client_openai,
    "litellm": client_litellm,
}


# --- the paced server -----------------------------------------------------------------------------


def serve(port: Any, tokens: int) -> None:
    """Runs in its own process; reports its port and serves until it is stopped."""
    asyncio.run(_serve(port, tokens))


async def _serve(port: Any, tokens: int) -> None:
    pieces = events(tokens)
    chunks = [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await _skip_body(reader, head)
                await _paced(writer, chunks)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1000)
    port.put(server.sockets[0].getsockname()[1])
    await server.serve_forever()


async def _skip_body(reader: asyncio.StreamReader, head: bytes) -> None:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            await reader.readexactly(int(line.split(b":")[1]))


async def _paced(writer: asyncio.StreamWriter, chunks: list[bytes]) -> None:
    loop = asyncio.get_running_loop()
    writer.write(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    begun = loop.time()
    for number, chunk in enumerate(chunks, 1):
        writer.write(chunk)
        await asyncio.sleep(max(0.0, begun + number / TOKENS_PER_SECOND - loop.time()))
    writer.write(b"0\r\n\r\n")
    await writer.drain()


# --- measuring ------------------------------------------------------------------------------------


def measure_decoder(name: str, result: Any) -> None:
    """The best of some rounds, in microseconds per event."""
    pieces = events(DECODED)

    async def once() -> float:
        began = time.process_time()
        count = await DECODERS[name](pieces)
        if count != DECODED:
            raise RuntimeError(f"{name} lost tokens: {count} of {DECODED}")
        return time.process_time() - began

    result.put(min(asyncio.run(once()) for _ in range(ROUNDS)) / DECODED * 1e6)


def measure_client(name: str, url: str, streams: int, tokens: int, result: Any) -> None:
    """CPU of this process while the streams run, in microseconds per chunk. An uncounted stream
    warms up first.
    """

    async def run() -> float:
        async with CLIENTS[name](url, streams) as read:
            await read()
            began = time.process_time()
            counts = await asyncio.gather(*(read() for _ in range(streams)))
            spent = time.process_time() - began
        if set(counts) != {tokens}:
            raise RuntimeError(f"{name} lost tokens: {sorted(counts)[:3]} of {tokens}")
        return spent / sum(counts) * 1e6

    result.put(asyncio.run(run()))


def in_own_process(target: Callable[..., None], *arguments: Any) -> float:
    """The value that `target` puts into the queue, its last argument."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=target, args=(*arguments, queue))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{target.__name__}{arguments} failed")
    return float(queue.get())


def installed(name: str) -> bool:
    """Whether the package of a client is installed; ours always is."""
    return name not in ("openai", "litellm") or importlib.util.find_spec(name) is not None


def main() -> int:
    """Print both tables; 1 if a bound is missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--streams", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=6.0)
    options = parser.parse_args()
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "true"  # otherwise it would fetch a list of prices
    decoding = {name: in_own_process(measure_decoder, name) for name in DECODERS if installed(name)}
    table("decoding: us of CPU per event", decoding)
    clients = run_clients(options.streams, int(options.seconds * TOKENS_PER_SECOND))
    table(
        f"whole client: ms of CPU per 1,000 chunks; {options.streams} streams at "
        f"{TOKENS_PER_SECOND} tokens/s",
        clients,
    )
    return 1 if "openai" in decoding and missed(decoding, clients) else 0


def run_clients(streams: int, tokens: int) -> dict[str, float]:
    """Every client against one server, one after the other."""
    context = multiprocessing.get_context("spawn")
    port = context.Queue()
    server = context.Process(target=serve, args=(port, tokens), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{port.get()}/v1"
    try:
        return {
            name: in_own_process(measure_client, name, url, streams, tokens)
            for name in CLIENTS
            if installed(name)
        }
    finally:
        server.terminate()
        server.join()


def table(title: str, costs: dict[str, float]) -> None:
    """Costs, and their ratios to ours, in Markdown."""
    print(f"| {title} | | times ours |\n|---|---:|---:|")
    for name, cost in costs.items():
        print(f"| {name} | {cost:.1f} | {cost / costs['ours']:.1f} |")
    print()


def missed(decoding: dict[str, float], clients: dict[str, float]) -> bool:
    """Whether a bound is missed."""
    bounds = (("decoding", decoding, 20), ("whole client", clients, 4))
    failures = [
        f"{what}: {costs['openai'] / costs['ours']:.1f} x, not {bound} x"
        for what, costs, bound in bounds
        if costs["openai"] < bound * costs["ours"]
    ]
    print("\n".join(failures) or "Both bounds hold.")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
