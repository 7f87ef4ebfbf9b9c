"""Refusals in the form of the request's dialect, for layers that refuse before routing.

This room knows no dialect. A dialect with a form of its own registers it when it is installed.
"""

from collections.abc import Callable

from starlette.responses import Response

from tokenwire.web import problems
from tokenwire.web.problems import ApiProblem

RefusalForm = Callable[[str, ApiProblem], Response]
"""Returns the response for a path and a problem."""
_FORMS: dict[str, RefusalForm] = {}


def register(prefix: str, form: RefusalForm) -> None:
    """Refuse requests below this path in this form."""
    _FORMS[prefix] = form


def refusal(path: str, problem: ApiProblem) -> Response:
    """The form that is registered for the path, or a problem document."""
    for prefix, form in _FORMS.items():
        if path.startswith(prefix):
            return form(path, problem)
    return problems.response(problem.code, problem.detail, problem.headers, **problem.members)
