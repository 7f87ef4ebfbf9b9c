"""Names a conversation after its first answer, with the catalogue's `title_model`.

A title is a convenience: after any failure, the first words of the first message become the title.
So they do with the demo model, which knows only its script.
"""

import asyncio

import structlog

from tokenwire.models.errors import HistoryTooLong
from tokenwire.models.tables import Message
from tokenwire.providers.base import HistoryMessage, ProviderError, Request
from tokenwire.providers.calls import complete
from tokenwire.providers.spec import ModelSpec
from tokenwire.streams.log import ports
from tokenwire.worker import announcing
from tokenwire.worker.discretion import remove_quotes
from tokenwire.worker.services import Models, WorkerServices
from tokenwire.worker.title_text import first_words, fits_languages, tidy

log_line = structlog.get_logger(__name__)
EXCERPT_CHARS = 1500
LONGEST_ANSWER_CHARS = 64 * 1024
"""The longest answer of the model that is asked for a title, with its reasoning."""
TITLE_TIMEOUT_SECONDS = 30.0
_ASK = (
    "Name this conversation in three to six words, in its own language. Answer with the name "
    "alone: no quotation marks, no full stop.\n\n"
    "Question: {question}\n\nAnswer: {answer}"
)


async def name_conversation(services: WorkerServices, models: Models, message_id: str) -> None:
    """Name the conversation of this answer if it has no title, and announce the title.

    Raises StoreUnavailable.
    """
    conversation = await services.store.conversation_of(message_id)
    answer = await services.store.message(message_id)
    if conversation is None or answer is None or conversation.title is not None:
        return
    try:
        rows = await services.store.history(conversation.id, answer.ordinal)
    except HistoryTooLong:  # the conversation stays without a title
        return
    question = next((row for row in rows if row.role == "user"), None)
    if question is None:
        return
    title = await _title(models, question, answer)
    named = await services.store.name_conversation(conversation.id, title)
    if named is None:
        return
    try:
        await announcing.announce_title(services.store, services.log, named)
    except ports.LogUnavailable as error:  # the title is stored, and the sweeper announces it
        log_line.info("title not announced", conversation_id=conversation.id, error=repr(error))


async def _title(models: Models, question: Message, answer: Message) -> str:
    spec = models.catalogue.models.get(models.catalogue.title_model)
    if spec is None or spec.provider == "demo":
        return first_words(question.content)
    try:
        async with asyncio.timeout(TITLE_TIMEOUT_SECONDS):
            asked = await _asked(models, spec, question.content, answer.content)
    except (ProviderError, TimeoutError) as error:
        remove_quotes(error, [question.content[:EXCERPT_CHARS], answer.content[:EXCERPT_CHARS]])
        log_line.warning("the model gave no title", model=spec.name, error=repr(error))
        asked = ""
    title, texts = tidy(asked), (question.content, answer.content)
    if title and fits_languages(title, [text[:EXCERPT_CHARS] for text in texts]):
        return title
    return first_words(question.content)


async def _asked(models: Models, spec: ModelSpec, question: str, answer: str) -> str:
    prompt = _ASK.format(question=question[:EXCERPT_CHARS], answer=answer[:EXCERPT_CHARS])
    response = await complete(
        models.open(spec),
        Request([HistoryMessage("user", prompt)], max_tokens=64),
        tries=2,
        max_chars=LONGEST_ANSWER_CHARS,
    )
    return response.text
