"""HTTP tools: a service of the application executes a call. It gets a POST, signed according to
Standard Webhooks, and answers with the result.

Guarantees: a call is sent once, over a connection of its own, and no redirect is followed. It
failed only if the service said so (4xx), or if provably nothing was sent. Everything else has an
unknown outcome, because a server that hangs up, or a proxy that answers 5xx, may have passed the
call on. Of an answer no more is read than a model could get, and what the service was given as a
secret is cut out of it.

Rejected: connections that live on. A server closes them when it likes, and a call that meets that
moment would have an unknown outcome for nothing.
"""

import asyncio
import base64
import binascii
import codecs
import datetime as dt
import hashlib
import hmac
import json
import time
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any
from urllib.parse import urlsplit

import structlog

from tokenwire.protocol.text import strict_json
from tokenwire.providers.base import ProviderError
from tokenwire.providers.http import HttpClient, Reply, Timeouts
from tokenwire.providers.redaction import without_secrets
from tokenwire.providers.spec import ToolSpec
from tokenwire.worker.schemas import BadSchema
from tokenwire.worker.tools.context import ToolContext, ToolError, UnknownEffect
from tokenwire.worker.tools.definition import ServerTool
from tokenwire.worker.tools.loop import at_end
from tokenwire.worker.tools.schemas import SchemaReader

log_line = structlog.get_logger(__name__)
BODY_BYTES = 256 * 1024
"""So much of an answer is read. It is more than MAX_TOOL_RESULT_BYTES can be."""
ERROR_SECONDS = 5.0
"""The longest wait for the sentence of a refusal."""
TIMEOUTS = Timeouts(connect=10.0, read=3600.0, write=3600.0)
"""The time of a call is limited by the executor."""
UNDECIDED = frozenset({408, 425, 429})
"""Of a refusal's statuses, those that say: again later. A proxy may send them behind the call."""

UNREACHABLE = "The tool's service could not be reached."
REFUSED = "The tool refused the call."
LOST = "The connection to the tool broke. It is not known whether the call took effect."


class Callbacks:
    """Makes HTTP tools, which share one client on the loop of tools."""

    def __init__(self) -> None:
        self._client: tuple[asyncio.AbstractEventLoop, HttpClient] | None = None

    def tool(self, spec: ToolSpec, secrets: Sequence[str] = ()) -> ServerTool:
        """The tool of an entry of the catalogue. Raises ValueError. `secrets`: what the service may
        not pass on.
        """
        key = signing_key(spec.secret)
        try:
            reader = SchemaReader(spec.parameters)
        except BadSchema as error:
            raise ValueError(f"parameters: {error}") from error

        async def call(context: ToolContext, arguments: Any) -> Any:
            try:
                found = await self._call(spec, key, context, arguments)
            except ToolError as error:
                raise ToolError(without_secrets(str(error), secrets)) from error
            return without_secrets(found, secrets)

        return ServerTool(
            spec.name,
            spec.title,
            spec.description,
            spec.repeatable,
            spec.seconds,
            spec.approve,
            reader,
            call,
        )

    async def _call(self, spec: ToolSpec, key: bytes, context: ToolContext, arguments: Any) -> Any:
        seconds = int(time.time())
        body = _body(spec.name, context, arguments, seconds)
        headers = {**spec.headers, "content-type": "application/json"}
        headers |= signed(key, context.key, seconds, body)
        client = self._open()
        try:
            async with client.send("POST", spec.url, headers, body) as reply:
                if not 200 <= reply.status < 300:
                    log_line.warning(
                        "an HTTP tool refused a call", tool=spec.name, status=reply.status
                    )
                return await _result(reply)
        except (ToolError, UnknownEffect):
            raise
        except Exception as error:  # whatever it is, only `no_run` proves that nothing was sent
            host = urlsplit(spec.url).netloc
            log_line.warning(
                "an HTTP tool did not answer", tool=spec.name, host=host, error=repr(error)
            )
            if isinstance(error, ProviderError) and error.no_run:
                raise ToolError(UNREACHABLE) from error
            raise UnknownEffect(LOST) from error

    def _open(self) -> HttpClient:
        loop = asyncio.get_running_loop()
        if self._client is None or self._client[0] is not loop:
            self._client = loop, HttpClient(TIMEOUTS, once=True)
            at_end(self._client[1].aclose)
        return self._client[1]


# --- the request ---------------------------------------------------------------------------------


def signing_key(secret: str) -> bytes:
    """The key in `whsec_...`. Raises ValueError, which does not show it."""
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith("whsec_") or not 24 <= len(key) <= 64:
        raise ValueError("secret: must be whsec_ and the base64 of 24 to 64 random bytes")
    return key


def signed(key: bytes, call: str, seconds: int, body: bytes) -> dict[str, str]:
    """The headers that prove who sent this body, and when."""
    mac = hmac.new(key, f"{call}.{seconds}.".encode() + body, hashlib.sha256)
    return {
        "webhook-id": call,
        "webhook-timestamp": str(seconds),
        "webhook-signature": f"v1,{base64.b64encode(mac.digest()).decode()}",
    }


def _body(name: str, context: ToolContext, arguments: Any, seconds: int) -> bytes:
    data = {
        "name": name,
        "arguments": arguments,
        "key": context.key,
        "run": context.run,
        "user_id": context.user_id,
        "conversation_id": context.conversation_id,
        "message_id": context.message_id,
    }
    timestamp = dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat().replace("+00:00", "Z")
    call = {"type": "tool.call", "timestamp": timestamp, "data": data}
    return json.dumps(call, ensure_ascii=False).encode()


# --- the answer ----------------------------------------------------------------------------------


async def _result(reply: Reply) -> Any:
    """The result. Raises ToolError, UnknownEffect, and ProviderError if the connection breaks."""
    if 200 <= reply.status < 300:
        body, whole = await _beginning(reply)
        return _value(body, reply.headers.get("content-type", ""), whole=whole)
    if 400 <= reply.status < 500 and reply.status not in UNDECIDED:
        raise ToolError(await _sentence(reply))
    raise UnknownEffect(
        f"The tool answered with the status {reply.status}. "
        "It is not known whether the call took effect."
    )


async def _beginning(reply: Reply) -> tuple[bytes, bool]:
    """The first BODY_BYTES, and whether they are all."""
    body = bytearray()
    async with aclosing(reply.chunks()) as chunks:
        async for piece in chunks:
            body += piece
            if len(body) > BODY_BYTES:
                return bytes(body[:BODY_BYTES]), False
    return bytes(body), True


def _value(body: bytes, content_type: str, *, whole: bool) -> Any:
    """JSON, or a text, or nothing. What is neither stays bytes, which cannot be shown."""
    kind = content_type.split(";")[0].strip().lower()
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(body, final=whole)
    except UnicodeDecodeError:
        return body
    if not text.strip():
        return None
    if not whole or not (kind == "application/json" or kind.endswith("+json")):
        return text
    try:
        return strict_json(text)
    except ValueError:
        return text
    except RecursionError:
        return body


async def _sentence(reply: Reply) -> str:
    """The sentence of a refusal."""
    try:
        async with asyncio.timeout(ERROR_SECONDS):
            found = strict_json((await reply.beginning()).decode())
    except (TimeoutError, ValueError, RecursionError):
        return REFUSED
    error = found.get("error") if isinstance(found, dict) else None
    return error if isinstance(error, str) and error.strip() else REFUSED
