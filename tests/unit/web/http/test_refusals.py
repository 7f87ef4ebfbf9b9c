"""web.http.refusals: each dialect is refused in its own form, and this room knows none of them."""

import pytest
from starlette.responses import PlainTextResponse, Response

from tokenwire.web.http import refusals
from tokenwire.web.problems import ApiProblem

PROBLEM = ApiProblem("over_capacity", "There is no room.", {"Retry-After": "5"})


@pytest.fixture(autouse=True)
def forms(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dialects of this test alone."""
    monkeypatch.setattr(refusals, "_FORMS", {})


def _plain(path: str, problem: ApiProblem) -> Response:
    return PlainTextResponse(f"{path}: {problem.code}", 503)


def test_a_dialect_is_refused_in_its_form() -> None:
    """Only below its own path."""
    refusals.register("/plain/", _plain)
    assert refusals.refusal("/plain/x", PROBLEM).body == b"/plain/x: over_capacity"
    other = refusals.refusal("/plainer", PROBLEM)
    assert other.headers["content-type"] == "application/problem+json"


def test_without_a_form_a_problem_document_is_sent() -> None:
    """With the headers of the problem."""
    refused = refusals.refusal("/api/x", PROBLEM)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
