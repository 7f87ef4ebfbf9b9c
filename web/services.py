"""The services of routes, built once by `app.create_app` and passed by dependencies."""

import inspect
import re
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Annotated, Any, cast

import msgspec
from fastapi import Depends, Header, Path, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.datastructures import MutableHeaders

from tokenwire.config.settings import Settings
from tokenwire.models.store import Store
from tokenwire.streams.log.ports import Log
from tokenwire.web.admission.identity import Identify
from tokenwire.web.cancels import Cancels
from tokenwire.web.feed.feeds import Feeds
from tokenwire.web.http import bodies
from tokenwire.web.http.aside import aside
from tokenwire.web.http.hosts import Hosts
from tokenwire.web.http.streaming import Places
from tokenwire.web.metrics import Metrics
from tokenwire.web.offers import Offers
from tokenwire.web.problems import ApiProblem
from tokenwire.web.readers import Readers
from tokenwire.web.readiness import Readiness
from tokenwire.worker.enqueue import Jobs

_ID = re.compile(r"[0-9A-Za-z-]{1,36}")


@dataclass(frozen=True)
class WebServices:
    """One of each per process."""

    settings: Settings
    store: Store
    log: Log
    jobs: Jobs
    offers: Offers
    hosts: Hosts
    identify: Identify
    token_key: str = field(repr=False)
    metrics: Metrics
    readers: Readers
    feeds: Feeds
    places: Places
    cancels: Cancels
    readiness: Readiness


def _services(request: Request) -> WebServices:
    return cast("WebServices", request.app.state.services)


def _caller(request: Request, services: "With") -> str:
    # Admission has identified the caller; a token is not verified twice.
    found = request.scope.get("state", {}).get("user")
    return found if isinstance(found, str) else services.identify(request)


async def read_body(request: Request) -> bytes:
    """The body, which the request does not keep: it may live as long as an answer takes."""
    return b"".join([piece async for piece in request.stream()])


def is_row_id(value: str) -> bool:
    """Whether this is a possible row id: others are not looked up, and count as missing."""
    return _ID.fullmatch(value) is not None


def _known_shape(value: str) -> str:
    if not is_row_id(value):
        raise ApiProblem("not_found", "This does not exist, or it is not yours.")
    return value


MAX_MEMBERS = 100
"""Members of a whole body's object: more than any known body has. Each unknown one would be listed
as an error.
"""


def decoded(body: bytes, most: int, *, once: bool) -> Any:
    """The JSON value of a whole body; `once`: see `bodies.decode`. Raises ApiProblem (400, 413,
    422).
    """
    value = bodies.decode(body, most, once=once)
    if isinstance(value, dict) and len(value) > MAX_MEMBERS:
        raise ApiProblem("invalid", f"body: more than {MAX_MEMBERS} members", errors=[])
    return value


def json_body(model: type[BaseModel | msgspec.Struct]) -> dict[str, Any]:
    """For `openapi_extra` of a route that reads its body itself: a declared body would be kept
    until the answer has ended.

    `model` is the class that reads the body, so the document says what is accepted.
    """
    content = {"application/json": {"schema": _inlined(*_schema_of(model))}}
    return {"requestBody": {"required": True, "content": content}}


def _schema_of(model: type[BaseModel | msgspec.Struct]) -> tuple[Any, dict[str, Any]]:
    """The schema of a body, and the definitions to which it refers by their names."""
    if issubclass(model, BaseModel):
        schema = model.model_json_schema(ref_template="{model}")
        return schema, schema.pop("$defs", {})
    (schema,), definitions = msgspec.json.schema_components((model,), ref_template="{name}")
    for definition in (schema, *definitions.values()):
        if "description" in definition:
            definition["description"] = inspect.cleandoc(definition["description"])
    return schema, definitions


def _inlined(part: Any, definitions: dict[str, Any]) -> Any:
    """A schema with its references replaced; an inner `$ref` would refer to the whole document."""
    if isinstance(part, list):
        return [_inlined(item, definitions) for item in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        return _inlined(definitions[part["$ref"]], definitions)
    return {name: _inlined(value, definitions) for name, value in part.items()}


class _JsonRequest(Request):
    """A request whose body is decoded by this project's rules."""

    async def json(self) -> Any:
        """Raises ApiProblem (400, 413, 422)."""
        body, most = await self.body(), self.app.state.services.settings.max_body_values
        return await aside(len(body), lambda: decoded(body, most, once=True))


class JsonRoute(APIRoute):
    """A route with a JSON body, whatever its content type (curl sends a form's)."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def as_json(request: Request) -> Response:
            MutableHeaders(scope=request.scope)["content-type"] = "application/json"
            return await handle(_JsonRequest(request.scope, request.receive))

        return as_json


def _conversation_id(conversation_id: Annotated[str, Path()]) -> str:
    return _known_shape(conversation_id)


def _message_id(message_id: Annotated[str, Path()]) -> str:
    return _known_shape(message_id)


With = Annotated[WebServices, Depends(_services)]
CurrentUser = Annotated[str, Depends(_caller)]
ConversationId = Annotated[str, Depends(_conversation_id)]
MessageId = Annotated[str, Depends(_message_id)]
IdempotencyKeyHeader = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[ -~]+$",
        description="Makes a repeated request happen once: it is answered with what the first "
        "one made, for 24 hours",
    ),
]
