"""Every refusal of the API as a problem document (RFC 9457, `application/problem+json`) with a
stable `code`.

`CODES` is the closed registry: clients decide by `code`, never by text. Internal failures are
logged and not shown: no exception text reaches a client. Routes raise `ApiProblem`; this module
maps everything else (unknown routes, validation, errors of the store and the log). What cannot
answer with a document asks `problem_of` for the same sentence.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, cast

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Match, Mount
from starlette.types import Scope

from tokenwire.models import errors
from tokenwire.models.views import call_view, decision_view
from tokenwire.streams.log import ports

log_line = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 2
"""`Retry-After` of an outage."""
ROOM_AFTER_SECONDS = 5
"""`Retry-After` of a place, a slot or memory that others hold."""

CODES: Mapping[str, int] = {
    "bad_request": 400,
    "malformed_cursor": 400,
    "malformed_json": 400,
    "unauthenticated": 401,
    "foreign_origin": 403,
    "not_author": 403,
    "not_decider": 403,
    "not_owner": 403,
    "storage_full": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "request_timeout": 408,
    "already_decided": 409,
    "answer_ended": 409,
    "conflict": 409,
    "decision_expired": 409,
    "not_awaited": 409,
    "answer_running": 409,
    "cursor_lost": 409,
    "too_many_invitations": 409,
    "too_many_participants": 409,
    "too_many_queued": 409,
    "body_too_large": 413,
    "content_too_large": 413,
    "history_too_long": 413,
    "unknown_host": 421,
    "invalid": 422,
    "key_reused": 422,
    "unknown_model": 422,
    "unknown_tool": 422,
    "unsupported_parameter": 422,
    "too_many_changes": 429,
    "too_many_open": 429,
    "too_many_posts": 429,
    "too_many_reads": 429,
    "too_many_unfinished": 429,
    "too_many_waiting": 429,
    "internal": 500,
    "damaged": 500,
    "answer_failed": 502,
    "not_ready": 503,
    "over_capacity": 503,
    "model_unavailable": 503,
    "unavailable": 503,
}
"""Code -> HTTP status."""

BODY = ("malformed_json", "body_too_large", "invalid", "foreign_origin")
"""Possible refusals of any call with a body."""

QUOTA_CODES = ("too_many_queued", "too_many_unfinished", "too_many_waiting", "storage_full")
"""Possible refusals of a call that stores something or asks for an answer."""

MODEL = ("unknown_model", "model_unavailable", "unavailable")
"""Possible refusals of a call that needs a model. `unavailable` has the same status, and applies to
every call.
"""

PARAMETERS = (*MODEL, "unsupported_parameter")
"""The same of a call that may set parameters."""

MAX_LISTED = 20
"""Maximum of listed invalid values."""
_METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
_FILES = ("GET", "HEAD")
_GENERIC = {
    400: "bad_request",
    401: "unauthenticated",
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
}


class FieldProblem(BaseModel):
    """One invalid value: its place (`body.title`, `query.limit`) and the mistake."""

    field: str
    message: str


class Problem(BaseModel):
    """An RFC 9457 problem document. `type` is about:blank; `code` is the stable name of the
    problem.
    """

    model_config = ConfigDict(extra="allow")

    type: str = "about:blank"
    title: str
    status: int
    code: str = Field(examples=list(CODES))
    detail: str
    errors: list[FieldProblem] | None = Field(
        default=None,
        description="With codes `invalid` and `unsupported_parameter`: each refused value",
    )
    offered: list[str] | None = Field(
        default=None,
        description="With codes `unknown_model` and `model_unavailable`: the models that can be "
        "used",
    )
    parameter: str | None = Field(
        default=None, description="With code `unsupported_parameter`: its name"
    )
    call: dict[str, Any] | None = Field(
        default=None, description="With code `already_decided`: the call as it is now"
    )
    decision: dict[str, Any] | None = Field(
        default=None, description="With code `already_decided`: the first decision"
    )
    checks: dict[str, str] | None = Field(
        default=None, description="With code `not_ready`: each service and what is wrong with it"
    )


class ApiProblem(HTTPException):
    """A refusal with its code; extra members of the document as keywords."""

    def __init__(
        self, code: str, detail: str, headers: Mapping[str, str] | None = None, **members: Any
    ) -> None:
        super().__init__(CODES[code], detail, headers)
        self.code = code
        self.members = members


def response(
    code: str, detail: str, headers: Mapping[str, str] | None = None, **members: Any
) -> JSONResponse:
    """The problem document of a code."""
    status = CODES[code]
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
    } | members
    headers = dict(headers or {})
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers.setdefault("Retry-After", str(RETRY_AFTER_SECONDS))
    return JSONResponse(body, status, headers, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Install handlers for everything that routes raise."""
    handlers: dict[type[Exception], Any] = dict.fromkeys(_REFUSALS, _refused)
    handlers |= {HTTPException: _http, RequestValidationError: _invalid}
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


async def _http(request: Request, error: HTTPException) -> JSONResponse:
    if isinstance(error, ApiProblem):
        return response(error.code, error.detail, error.headers, **error.members)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        error.headers = {"Allow": ", ".join(methods(request.scope, request.app.routes))}
    code = _GENERIC.get(error.status_code, "bad_request" if error.status_code < 500 else "internal")
    details = {
        "not_found": "There is nothing at this address.",
        "method_not_allowed": "This address does not take this method.",
    }
    return response(code, details.get(code, "The request cannot be understood."), error.headers)


def methods(scope: Scope, routes: Sequence[BaseRoute]) -> list[str]:
    """The methods of the address: each route knows only its own, and the first match would answer
    for all.
    """
    whole = {
        **scope,
        "root_path": scope.get("app_root_path", ""),
    }  # a mounted app has removed its part of the path
    return [
        method
        for method in _METHODS
        if any(_matches_route(route, {**whole, "method": method}) for route in routes)
    ]


def _matches_route(route: BaseRoute, scope: Scope) -> bool:
    match, _ = route.matches(scope)
    return match is Match.FULL and (not isinstance(route, Mount) or scope["method"] in _FILES)


async def _invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
    found = error.errors()
    if any(item["type"] == "json_invalid" for item in found):
        return response("malformed_json", "The body is not JSON.")
    # The invalid input is not repeated: it can be long, secret, or text outside of JSON.
    listed = [
        {"field": ".".join(str(part) for part in item["loc"]), "message": str(item["msg"])}
        for item in found[:MAX_LISTED]
    ]
    first = listed[0]
    return response("invalid", f"{first['field']}: {first['message']}", errors=listed)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    problem = problem_of(error, method=request.method, path=request.url.path)
    return await _http(request, cast("ApiProblem", problem))


def problem_of(error: Exception, **place: str) -> ApiProblem | None:
    """The refusal of a request that met this error, over HTTP and over sockets alike; None: it is
    unexpected. What operators should know is logged, with `place`.
    """
    kind = next((kind for kind in type(error).__mro__ if kind in _REFUSALS), None)
    if kind is None:
        return None
    code, sentence = _REFUSALS[kind]
    _log(error, place)
    headers = None
    if CODES[code] == HTTPStatus.TOO_MANY_REQUESTS:
        headers = {"Retry-After": str(UNFINISHED_RETRY_SECONDS)}
    return ApiProblem(code, sentence, headers, **_members(error))


def _members(error: Exception) -> dict[str, Any]:
    match error:
        case errors.AlreadyDecided():
            return {"call": call_view(error.call), "decision": decision_view(error.record)}
        case errors.BadCursor():
            message = "not a cursor that a page has given"
            return {"errors": [{"field": "query.before", "message": message}]}
        case errors.Unstorable():
            return {"errors": []}
    return {}


def _log(error: Exception, place: Mapping[str, str]) -> None:
    match error:
        case errors.Unstorable():  # a fallback behind everything that should have refused it before
            event = "the database refused a value that validation had accepted"
            log_line.error(event, error=str(error), **place)
        case errors.StatementFailed():
            log_line.error("the database fails at a row", error=str(error), **place)
        case errors.StoreUnavailable():
            cause = repr(error.__cause__ or error)
            log_line.warning("the database is away", error=cause, **place)
        case ports.LogUnavailable():
            log_line.warning("the log is away", error=repr(error), **place)


DAMAGED = (
    "The database cannot read or write a part of what this is about. Trying again does "
    "not help; operators must mend it."
)
UNFINISHED_RETRY_SECONDS = 5
_UNKNOWN = ("not_found", "This does not exist, or it is not yours.")
_REFUSALS: Mapping[type[Exception], tuple[str, str]] = {
    errors.NotFound: _UNKNOWN,
    ports.Gone: _UNKNOWN,
    errors.NotAuthor: (
        "not_author",
        (
            "This would change or drop another person's message: only its author or the owner may "
            "do that."
        ),
    ),
    errors.TooManyParticipants: (
        "too_many_participants",
        "This conversation has the maximum number of participants and invitations.",
    ),
    errors.AnswerRunning: (
        "answer_running",
        "An answer in this conversation has not ended: it is being written, or waits.",
    ),
    errors.KeyReused: ("key_reused", "This Idempotency-Key was used with another body."),
    errors.NotDecider: (
        "not_decider",
        (
            "Only the owner of the conversation, and the author of the message that is answered, "
            "may decide about this call."
        ),
    ),
    errors.AlreadyDecided: ("already_decided", "Another decision about this call came first."),
    errors.AnswerEnded: (
        "answer_ended",
        "The answer has ended, so nobody waits for this decision.",
    ),
    errors.DecisionExpired: ("decision_expired", "The time for this decision is over."),
    errors.NotAwaited: ("not_awaited", "This call does not await such a decision."),
    errors.BadCursor: ("invalid", "query.before: not a cursor that a page has given"),
    errors.Unstorable: ("invalid", "The request holds a value that cannot be stored."),
    errors.Conflict: ("conflict", "The request contradicts what is stored."),
    errors.TooManyQueued: (
        "too_many_queued",
        "Too many posts wait in this conversation: try again when some are answered.",
    ),
    errors.TooManyUnfinished: (
        "too_many_unfinished",
        "You have too many unfinished answers: try again when some have ended.",
    ),
    errors.TooManyWaiting: (
        "too_many_waiting",
        "Too many of your answers wait for a decision: decide, or cancel some.",
    ),
    errors.StorageFull: (
        "storage_full",
        "Your storage is full: delete conversations that you no longer need.",
    ),
    errors.TooManyInvitations: (
        "too_many_invitations",
        "Too many invitations by you, or for that user, are open.",
    ),
    errors.HistoryTooLong: (
        "history_too_long",
        "The conversation is too long for another answer: start a new one.",
    ),
    errors.StatementFailed: ("damaged", DAMAGED),
    errors.StoreUnavailable: ("unavailable", "The database does not answer at the moment."),
    ports.LogUnavailable: ("unavailable", "The event log does not answer at the moment."),
}
"""Code and sentence for each error of the store and the log. A subclass has those of its nearest
listed class.
"""


def documented(*codes: str) -> dict[int | str, dict[str, Any]]:
    """For a route's `responses`: its possible problems."""
    by_status: dict[int | str, list[str]] = {}
    for code in codes:
        by_status.setdefault(CODES[code], []).append(code)
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {"description": ", ".join(found), "content": content}
        for status, found in by_status.items()
    }
