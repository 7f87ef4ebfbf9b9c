"""Refusals in the form of the request's dialect, for layers that refuse before routing."""

from starlette.responses import Response

from tokenwire.web import problems
from tokenwire.web.openai import errors as openai_errors
from tokenwire.web.problems import ApiProblem

OPENAI = "/v1/"


def refusal(path: str, problem: ApiProblem) -> Response:
    """A problem document; under /v1 OpenAI's form."""
    if path.startswith(OPENAI):
        return openai_errors.refused(path, problem)
    return problems.response(problem.code, problem.detail, problem.headers, **problem.members)
