"""What clients may store: the length of texts, one limit (`MAX_CONTENT_BYTES`) for every dialect
and all stored fields; values of decisions; schemas that can be checked, and tools that can be
offered.
"""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from tokenwire.config.settings import Settings
from tokenwire.models import tool_choices
from tokenwire.models.conversations import Policy
from tokenwire.models.responses import Question
from tokenwire.models.tool_choices import ToolChoices
from tokenwire.web.problems import ApiProblem
from tokenwire.worker import schemas


def require_fit(settings: Settings, text: str, name: str = "content") -> None:
    """Raises ApiProblem (413) for a text that is too long."""
    limit = settings.max_content_bytes
    if len(text) > limit or len(text.encode("utf-8", "replace")) > limit:
        raise ApiProblem("content_too_large", f"{name} is longer than {limit} bytes.")


def policy_of(settings: Settings, named: Policy | None) -> Policy:
    """What a post does while an answer runs: as it says itself, else as the setting says."""
    return named or settings.concurrent_posts


def require_result(settings: Settings, value: Any, name: str = "result") -> None:
    """A value of a decision about a call. Raises ApiProblem (413)."""
    limit = settings.max_tool_result_bytes
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if len(text.encode()) > limit:
        raise ApiProblem("content_too_large", f"{name}: longer than {limit} bytes as JSON.")


def require_question_fits(settings: Settings, question: Question) -> None:
    """Each message of a question and its other fields. Raises ApiProblem (413)."""
    for number, turn in enumerate(question.turns):
        for text in turn.texts:
            require_fit(settings, text, f"message {number}")
    require_fit(settings, question.instructions or "", "instructions")
    beside: Mapping[str, Any] = {
        "asked": question.asked,
        "options": question.options,
        "schema": question.response_schema,
    }
    require_fit(settings, json.dumps(beside), "what stands beside the messages")


async def require_tools(
    settings: Settings,
    value: Mapping[str, Any],
    words: Mapping[str, str],
    usable: Callable[[ToolChoices], Collection[str]],
    user: str,
    field: str = "body.tools",
) -> ToolChoices:
    """What a request says about tools, in the form of `tool_choices`. Raises ApiProblem (422).

    `words`: the request's names of our fields, where they differ. `usable`: the names of the
    server's tools that its answer may use.
    """
    try:
        found = tool_choices.checked(value, settings)
        tool_choices.require_free_names(found, usable(found))
    except tool_choices.BadTools as error:
        raise _misplaced(field, words, error.place, error.reason) from error
    brought = [each for each in found.own if each.runs_at == "client"]
    try:
        await require_usable(*(each.parameters for each in brought), user=user)
    except schemas.BadSchema as error:
        place = "own", found.own.index(brought[error.number]), "parameters"
        raise _misplaced(field, words, place, f"no usable JSON Schema: {error}") from error
    return found


def _misplaced(
    field: str, words: Mapping[str, str], place: Sequence[str | int], reason: str
) -> ApiProblem:
    steps = [words.get(str(step), str(step)) for step in place]
    path = ".".join([field, *steps])
    return ApiProblem("invalid", f"{path}: {reason}", errors=[{"field": path, "message": reason}])


async def require_usable(*found: Mapping[str, Any], user: str) -> None:
    """Schemas that documents can be checked against. Raises BadSchema, and ApiProblem (503) where
    the machine is too busy to tell.
    """
    try:
        await schemas.require_usable(*found, asker=user)
    except schemas.Unchecked as error:
        raise ApiProblem("unavailable", "The server is too busy to check a schema.") from error


async def require_schema(
    schema: Mapping[str, Any] | None, user: str, field: str = "body.schema"
) -> None:
    """A schema of a request's field. Raises ApiProblem (422, 503)."""
    try:
        await require_usable(schema or {}, user=user)
    except schemas.BadSchema as error:
        reason = f"no usable JSON Schema: {error}"
        listed = [{"field": field, "message": reason}]
        raise ApiProblem("invalid", f"{field}: {reason}", errors=listed) from error
