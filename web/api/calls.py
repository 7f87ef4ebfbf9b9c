"""The routes for tool calls: list them, and decide about them (PROTOCOL.md, section 6).

A decision is stored before it is answered, and applies once, whoever else decides at the same time
(`models/decisions.py`). Then the answer's job is enqueued; without Redis, the sweeper does it.
"""

import itertools
import json
import re
from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from tokenwire.config.settings import Settings
from tokenwire.models.call_states import Decision
from tokenwire.models.views import call_view, decision_view
from tokenwire.web import delivery
from tokenwire.web.api import shapes
from tokenwire.web.contents import require_result
from tokenwire.web.problems import BODY, documented
from tokenwire.web.services import CurrentUser, JsonRoute, MessageId, With

router = APIRouter(
    prefix="/api",
    route_class=JsonRoute,
    responses=documented("unauthenticated", "unknown_host", "internal", "damaged", "unavailable"),
)


def _canonical(text: str) -> str:
    # One part has one address, also for whoever logs or limits by address.
    if not re.fullmatch("0|[1-9][0-9]*", text):
        raise PydanticCustomError("number", "must be the number of a part, such as 0")
    return text


PartNumber = Annotated[int, Path(ge=0, le=shapes.MAX_ORDINAL), BeforeValidator(_canonical)]


@router.get(
    "/messages/{message_id}/calls",
    responses=documented("not_found"),
    response_model_exclude_unset=True,
    summary="The tool calls of an answer",
)
async def list_calls(services: With, user: CurrentUser, message_id: MessageId) -> shapes.CallList:
    """With the decisions about each. A call is missing until its turn is proven to be whole."""
    row = await services.store.visible_message(message_id, user)
    rows = await services.store.calls_of(row.id)
    records = itertools.groupby(
        await services.store.decisions_of(row.id), lambda record: record.number
    )
    decisions = {number: list(map(decision_view, found)) for number, found in records}
    return shapes.CallList.model_validate(
        {
            "calls": [
                call_view(call) | {"decisions": decisions.get(call.number, [])} for call in rows
            ]
        }
    )


@router.post(
    "/messages/{message_id}/calls/{number}/decision",
    responses=documented(
        *BODY,
        "not_found",
        "not_decider",
        "already_decided",
        "not_awaited",
        "decision_expired",
        "answer_ended",
        "content_too_large",
    ),
    response_model_exclude_unset=True,
    summary="Decide about a tool call",
)
async def decide(
    services: With,
    user: CurrentUser,
    message_id: MessageId,
    number: PartNumber,
    body: shapes.NewDecision,
) -> shapes.DecidedCall:
    """It applies once. The same decision again gets the same answer, any other one 409 with the
    first.
    """
    decision = _decision(services.settings, body)
    decided = await services.store.decide(message_id, number, user, decision)
    if decided.queued:
        await delivery.continue_answer(services, message_id)
    return shapes.DecidedCall.model_validate(
        {"call": call_view(decided.call), "decision": decision_view(decided.record)}
    )


def _decision(settings: Settings, body: shapes.NewDecision) -> Decision:
    """Raises ApiProblem (413)."""
    value: Any = body.result
    if isinstance(body.arguments, str):
        value = body.arguments
    elif body.arguments is not None:
        value = json.dumps(body.arguments, ensure_ascii=False, separators=(",", ":"))
    name = "result" if body.decision == "result" else "arguments"
    require_result(settings, value, name)
    return Decision(body.decision, body.reason, value, body.runs)
