"""Requests of AI SDK clients for a conversation: answer a message, regenerate an answer, decide
about the calls of an answer.

Idempotent by the client's ids: a repeated message is posted once, and the first answer is followed.
A message with another text under the `messageId` of an old one edits it: the old one and what
followed it are superseded.

A decision applies once. A client that comes too late gets what has become of the answer, like all
others: its screen is then right again, and no error page hides it.
"""

from dataclasses import dataclass
from functools import partial

from tokenwire.models.call_states import Decision
from tokenwire.models.chats import Regeneration
from tokenwire.models.conversations import Post
from tokenwire.models.errors import Conflict, DecisionExpired, NotAwaited, NotFound
from tokenwire.models.parts import shown_answer
from tokenwire.models.rows import unfinished
from tokenwire.models.steering import STEER
from tokenwire.models.tables import Conversation, Message
from tokenwire.models.tool_choices import NO_CHOICES, ToolChoices
from tokenwire.web import delivery
from tokenwire.web.aisdk.continued import BadDecision, ClientMessage, Continued, known_calls
from tokenwire.web.aisdk.requests import ChatRequest, invalid
from tokenwire.web.aisdk.tools import WORDS
from tokenwire.web.contents import policy_of, require_fit, require_result, require_tools
from tokenwire.web.problems import ApiProblem
from tokenwire.web.services import WebServices


@dataclass(frozen=True, slots=True)
class Followed:
    """A stored answer to follow. `continued`: what its client holds of it."""

    row: Message
    continued: Continued | None = None


async def accept(services: WebServices, user: str, asked: ChatRequest) -> Followed:
    """The stored answer to follow. Raises what routes may raise."""
    if asked.continued is not None:
        return await _continue(services, user, asked.chat_id, asked.continued)
    return Followed(await _answer(services, user, asked))


async def _continue(
    services: WebServices, user: str, chat_id: str, message: ClientMessage
) -> Followed:
    conversation = await services.store.find_chat(user, chat_id)
    if conversation is None:
        raise NotFound("conversation")
    row = await services.store.named_message(conversation.id, message.id)
    if row is None or row.role != "assistant":
        raise NotFound("message")
    rows = await services.store.calls_of(row.id)
    calls = known_calls(message, shown_answer(row).parts, rows)
    if not calls:
        raise invalid("body.messages", "the last message is not a user's, and has no known call")
    continued = Continued(message, calls)
    try:
        wanted = continued.decisions()
    except BadDecision as error:
        raise ApiProblem("not_awaited", str(error)) from error
    for _, decision in wanted:
        require_result(services.settings, decision.value)
    await _decide(services, user, row, wanted)
    return Followed(row, continued)


async def _decide(
    services: WebServices, user: str, row: Message, wanted: list[tuple[int, Decision]]
) -> None:
    """Apply the decisions. Somebody else may be faster, or time."""
    queued = False
    try:
        for number, decision in wanted:
            try:
                decided = await services.store.decide(row.id, number, user, decision)
                queued = queued or decided.queued
            except DecisionExpired:
                queued = await services.store.expire_calls(row.id) or queued
            except NotAwaited:
                continue
    finally:  # each decision is stored by itself: a later one that fails takes none back
        if queued:
            await delivery.continue_answer(services, row.id)


async def _answer(services: WebServices, user: str, asked: ChatRequest) -> Message:
    model = None if asked.model is None else services.offers.require(asked.model)
    if asked.trigger == "submit-message":
        return await _submit(services, user, asked, model)
    return await _regenerate(services, user, asked, model)


async def _submit(
    services: WebServices, user: str, asked: ChatRequest, model: str | None
) -> Message:
    text = asked.text or ""
    require_fit(services.settings, text)
    found = await services.store.find_chat(user, asked.chat_id)
    wanted = model or services.offers.require(found.model if found else None)
    options = {**((found and found.options) or {}), **(asked.options or {})}
    services.offers.require_taken(wanted, options, "body.options")
    tools = await _tools(services, user, asked, wanted, found)
    conversation = found or await services.store.open_chat(user, asked.chat_id)
    post = Post(
        conversation.id,
        user,
        text,
        wanted,
        policy_of(services.settings, asked.while_running),
        client_id=asked.user_message_id,
        edits=await _is_edit(services, conversation, asked),
        options=asked.options or {},
        tools=tools or NO_CHOICES,
        steers=asked.while_running == STEER,
    )
    posted = await services.store.post(post)
    services.metrics.posts.inc()
    await delivery.touch_lists(services, conversation.id)
    await delivery.announce_post(services, posted)
    return posted.assistant_message


async def _tools(
    services: WebServices,
    user: str,
    asked: ChatRequest,
    model: str,
    conversation: Conversation | None,
) -> ToolChoices | None:
    """What the request says about tools. Raises ApiProblem (422)."""
    if asked.tools is None:
        return None
    narrowed = conversation.tools if conversation else None
    usable = partial(services.offers.usable_tools, model, narrowed, listed=True)
    found = await require_tools(services.settings, asked.tools, WORDS, usable, user, "body")
    services.offers.require_tools(model, narrowed, found, "body.activeTools")
    return found


async def _is_edit(services: WebServices, conversation: Conversation, asked: ChatRequest) -> bool:
    """Whether the client replaces a message: it names the id, and the text differs."""
    if asked.message_id is None or asked.message_id != asked.user_message_id:
        return False
    found = await services.store.named_message(conversation.id, asked.message_id)
    return found is not None and found.content != asked.text


async def _regenerate(
    services: WebServices, user: str, asked: ChatRequest, model: str | None
) -> Message:
    conversation = await services.store.find_chat(user, asked.chat_id)
    if conversation is None:
        raise NotFound("conversation")
    target = await _target(services, conversation, asked)
    joined = await _under_way(services, target)
    if joined is not None:
        return joined
    wanted = model or services.offers.require(conversation.model)
    services.offers.require_taken(wanted, asked.options or {}, "body.options")
    tools = await _tools(services, user, asked, wanted, conversation)
    try:
        posted = await services.store.regenerate(
            Regeneration(
                conversation.id,
                user,
                target.id,
                wanted,
                stop_running=True,
                options=asked.options,
                tools=tools,
            )
        )
    except Conflict as error:
        raise invalid(
            "body.messageId", "the message is no longer part of the conversation"
        ) from error
    await delivery.announce_post(services, posted)
    return posted.assistant_message


async def _target(services: WebServices, conversation: Conversation, asked: ChatRequest) -> Message:
    """The message to answer again: the named row, else the last message that the client shows, else
    the last one.
    """
    for name in (asked.message_id, asked.user_message_id):
        found = (
            await services.store.named_message(conversation.id, name) if name is not None else None
        )
        if found is not None:
            return found
    question = await services.store.last_question(conversation.id)
    if question is None:
        raise invalid("body.messages", "there is no message that could be answered again")
    return question


async def _under_way(services: WebServices, target: Message) -> Message | None:
    """The unfinished answer that replaces `target` already: the request was repeated."""
    if target.superseded_by is None:
        return None
    newer = await services.store.message(target.superseded_by)
    repeated = newer is not None and newer.parent_id == target.parent_id and live(newer)
    return newer if repeated else None


def live(row: Message) -> bool:
    """An unfinished answer that nobody has cancelled."""
    return unfinished(row) and row.cancel_by is None


async def running(services: WebServices, conversation_id: str) -> Message | None:
    """The conversation's answer that is being written, or is first in line."""
    return next(
        (row for row in await services.store.unfinished(conversation_id) if live(row)), None
    )


async def resumable(
    services: WebServices, conversation: Conversation, user: str, last: str | None
) -> Message | None:
    """The answer that a resuming client lacks: the running one; else the newest one, if `last`, the
    name of the last message that the client shows, stands before it.

    The answer may end between the client's two requests, for the messages and for this. Only the
    client knows what it shows. An empty name: it shows nothing. An unknown one says nothing.
    """
    row = await running(services, conversation.id)
    if row is not None or last is None:
        return row
    newest = (await services.store.snapshot(conversation.id, user, 1)).messages
    if not newest or newest[-1].role != "assistant":
        return None
    shown = await services.store.named_message(conversation.id, last) if last else None
    lacks = shown.ordinal < newest[-1].ordinal if shown else not last
    return newest[-1] if lacks else None
