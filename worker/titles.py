"""Names a conversation after its first answer, with the catalogue's `title_model`.

A title is a convenience: whatever goes wrong, the first words of the first message serve. The demo model knows only its script, so with it
the first words are the title.
"""

import asyncio
import re

import structlog

from config.catalogue import ModelSpec
from models.tables import Message as Row
from providers.base import Message, ProviderError, Request
from providers.calls import complete
from streams import events, ports
from worker.run import Services
from worker.runner import Models

log_line = structlog.get_logger(__name__)
LONGEST = 60
EXCERPT_CHARS = 1500
PATIENCE_SECONDS = 30.0
_ASK = (
    "Name this conversation in three to six words, in its own language. Answer with the name alone: no quotation marks, no full stop.\n\n"
    "Question: {question}\n\nAnswer: {answer}"
)


async def name_conversation(services: Services, models: Models, message_id: str) -> None:
    """Give the conversation of this answer a title, if it has none, and tell its viewers. Raises StoreUnavailable."""
    conversation = await services.store.conversation_of(message_id)
    answer = await services.store.message(message_id)
    if conversation is None or answer is None or conversation.title is not None:
        return
    rows = await services.store.history(conversation.id, answer.ordinal)
    question = next((row for row in rows if row.role == "user"), None)
    if question is None:
        return
    title = await _title(models, question, answer)
    named = await services.store.name_conversation(conversation.id, title)
    if named is None:
        return
    try:
        await services.log.announce(conversation.id, conversation.id, named.rev, events.Title(title, named.rev))
    except ports.LogError as error:  # deleted meanwhile, or Redis is away: the title is stored, and the sweeper announces what is not
        log_line.info("title not announced", conversation_id=conversation.id, error=repr(error))
        return
    await services.store.mark_title_announced(conversation.id, named.rev)


async def _title(models: Models, question: Row, answer: Row) -> str:
    spec = models.catalogue.models.get(models.catalogue.title_model)
    if spec is None or spec.provider == "demo":
        return first_words(question.content)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            asked = await _asked(models, spec, question.content, answer.content)
    except (ProviderError, TimeoutError) as error:
        log_line.warning("no title from the model", model=spec.name, error=repr(error))
        asked = ""
    return tidy(asked) or first_words(question.content)


async def _asked(models: Models, spec: ModelSpec, question: str, answer: str) -> str:
    prompt = _ASK.format(question=question[:EXCERPT_CHARS], answer=answer[:EXCERPT_CHARS])
    response = await complete(models.open(spec), Request([Message("user", prompt)], max_tokens=64), tries=2)
    return response.text


def tidy(text: str) -> str:
    """A model's answer as a title: its first line with text, without marks around it; empty if it is far too long to be one."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    line = re.sub(r"^#*\s*(title:\s*)?", "", line, flags=re.IGNORECASE).strip(" \t\"'`*_“”«».")
    return line if len(line) <= 2 * LONGEST else ""


def first_words(text: str) -> str:
    """The beginning of a message, cut between words."""
    line = " ".join(text.split())
    if len(line) <= LONGEST:
        return line
    cut = line[: LONGEST - 1]
    return (cut.rpartition(" ")[0] or cut) + "…"
