"""Refusals under /v1 in the form of OpenAI's clients: `{"error": {"message", "type", "param",
"code"}}`.

They cover everything that a route raises there; elsewhere `problems` does that. A client of
OpenAI's retries by itself on 408, 409, 429 and 5xx unless `x-should-retry` says no: it does if the
answer itself has failed, since it was retried already. Routes under /v1 raise `OpenAIProblem`;
everything else (validation, identity, errors of store and log) is mapped.
"""

from collections.abc import Callable, Coroutine, Mapping
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from tokenwire.models import errors
from tokenwire.protocol.fold import Answer
from tokenwire.protocol.values import timestamp
from tokenwire.streams.log import ports
from tokenwire.web.http import sse
from tokenwire.web.http.sending import TrackedSend
from tokenwire.web.http.streaming import EventStream
from tokenwire.web.openai import objects
from tokenwire.web.problems import DAMAGED, RETRY_AFTER_SECONDS, ApiProblem, problem_of
from tokenwire.web.services import JsonRoute

log_line = structlog.get_logger(__name__)

INVALID = "invalid_request_error"
_NO_RETRY = {"x-should-retry": "false"}


class ErrorDetail(BaseModel):
    """The error."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """A refusal in OpenAI's form."""

    error: ErrorDetail


BODY = (400, 403, 404, 413, 422)
"""Possible refusals of a call with a body."""
_JSON: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
OBJECT: dict[int | str, dict[str, Any]] = {
    200: {"description": "An object of OpenAI's API", "content": _JSON}
}
ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "An object of OpenAI's API, or with `stream` its events",
        "content": {**_JSON, sse.MEDIA_TYPE: {"schema": {"type": "string"}}},
    }
}
"""For `responses` of routes."""


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The refusals of a route."""
    return {
        status: {"model": ErrorBody, "description": HTTPStatus(status).phrase}
        for status in statuses
    }


class OpenAIProblem(Exception):
    """A refusal in OpenAI's form."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        param: str | None = None,
        kind: str = INVALID,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.headers = status, dict(headers or {})
        self.body = objects.error_body(code, message, kind, param)


def failed(answer: Answer) -> OpenAIProblem:
    """An answer that failed or was cancelled, for a client that waited for all of it."""
    code, message = objects.failure(answer)
    status, kind = objects.failure_status(code)
    return OpenAIProblem(status, code, message, None, kind, _NO_RETRY)


def unsupported(param: str, message: str) -> OpenAIProblem:
    """An unsupported option that would change the answer."""
    return OpenAIProblem(400, "unsupported_parameter", message, param)


class OpenAIRoute(JsonRoute):
    """A route whose refusals have OpenAI's form."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            # Whatever it is, it is answered in this dialect; what is unexpected is logged.
            except Exception as error:  # noqa: BLE001
                return refused(request.url.path, error)

        return answer


class OpenAIStream(EventStream):
    """A streamed answer whose refusals, before the first byte, have OpenAI's form."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = TrackedSend(send)
        try:
            await super().__call__(scope, receive, answer)
        except Exception as error:
            if answer.begun:
                raise
            await refused(scope["path"], error)(scope, receive, send)


def refused(path: str, error: Exception) -> Response:
    """The answer to any exception."""
    refusal = _refusal(path, error)
    headers = dict(refusal.headers)
    if refusal.status == 503:
        headers.setdefault("Retry-After", str(RETRY_AFTER_SECONDS))
    return JSONResponse(refusal.body, refusal.status, headers)


def _refusal(path: str, error: Exception) -> OpenAIProblem:
    match error:
        case OpenAIProblem():
            return error
        case ApiProblem():
            return _of_problem(error)
        case RequestValidationError():
            return _invalid(error)
        case errors.NotFound() | ports.Gone():
            return OpenAIProblem(404, "not_found", "There is no such response, or it is not yours.")
        case errors.Unstorable():
            log_line.error(
                "the database refused a value that validation had accepted",
                path=path,
                error=str(error),
            )
            return OpenAIProblem(
                400, "invalid_value", "The request holds a value that cannot be stored."
            )
        case errors.NotAwaited():
            return _not_applied(error)
        case errors.NotDecider():
            return OpenAIProblem(403, "not_decider", "Somebody else may decide about this call.")
        case errors.Conflict() if not isinstance(error, errors.KeyReused):
            return OpenAIProblem(
                409, "conflict", "The request contradicts what is stored.", headers=_NO_RETRY
            )
        case errors.StatementFailed():
            log_line.error("the database fails at a row", path=path, error=str(error))
            return OpenAIProblem(500, "damaged", DAMAGED, kind="server_error", headers=_NO_RETRY)
        case errors.StoreUnavailable() | ports.LogUnavailable():
            log_line.warning("a service is away", path=path, error=repr(error.__cause__ or error))
            return OpenAIProblem(
                503, "unavailable", "The server cannot answer at the moment.", kind="server_error"
            )
        case HTTPException():
            return OpenAIProblem(
                error.status_code, "bad_request", str(error.detail), headers=error.headers
            )
    if known := problem_of(error, path=path):
        return _of_problem(known)
    log_line.error("request failed", path=path, exc_info=error)
    return OpenAIProblem(
        500, "internal", "The server failed. It is not your request's fault.", kind="server_error"
    )


def _not_applied(error: errors.NotAwaited) -> OpenAIProblem:
    """A decision that came too late, or twice."""
    match error:
        case errors.AlreadyDecided(record=first):
            message = f"This call was decided before: {first.decision}, {timestamp(first.at)}."
            code = "already_decided"
        case errors.DecisionExpired():
            code, message = "decision_expired", "The time for this decision is over."
        case _:
            code, message = "not_awaited", "This call does not await a decision."
    return OpenAIProblem(409, code, message, "input", headers=_NO_RETRY)


def _of_problem(problem: ApiProblem) -> OpenAIProblem:
    code, param, kind = problem.code, None, INVALID
    if code == "unauthenticated":
        code, kind = "invalid_api_key", "authentication_error"
    elif problem.status_code >= 500:
        kind = "server_error"
    if code == "unknown_model":
        return OpenAIProblem(404, "model_not_found", problem.detail, "model")
    if code == "model_unavailable":
        param = "model"
    return OpenAIProblem(problem.status_code, code, problem.detail, param, kind, problem.headers)


def _invalid(error: RequestValidationError) -> OpenAIProblem:
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return OpenAIProblem(400, "malformed_json", "The body is not JSON.")
    place = ".".join(str(part) for part in first["loc"][1:])
    message = str(first["msg"]).removeprefix("Value error, ")
    return OpenAIProblem(
        400, "invalid_value", f"{place}: {message}" if place else message, place or None
    )
