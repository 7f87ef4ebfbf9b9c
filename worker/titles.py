"""Names a conversation after its first answer, with the catalogue's `title_model`.

A title is a convenience: after any failure, the first words of the first message become the title.
So they do with the demo model, which knows only its script.
"""

import asyncio
import re

import structlog

from tokenwire.models.errors import HistoryTooLong
from tokenwire.models.tables import Message
from tokenwire.protocol.text import storable
from tokenwire.providers.base import HistoryMessage, ProviderError, Request
from tokenwire.providers.calls import complete
from tokenwire.providers.spec import ModelSpec
from tokenwire.streams.log import ports
from tokenwire.worker import announcing
from tokenwire.worker.discretion import remove_quotes
from tokenwire.worker.services import Models, WorkerServices

log_line = structlog.get_logger(__name__)
LONGEST = 60
MOST_WORDS = 6
EXCERPT_CHARS = 1500
MAX_READ = 2000
"""Characters of a text that are searched for its words.

The patterns for Markdown take quadratic time in a line's length.
"""
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
    return tidy(asked) or first_words(question.content)


async def _asked(models: Models, spec: ModelSpec, question: str, answer: str) -> str:
    prompt = _ASK.format(question=question[:EXCERPT_CHARS], answer=answer[:EXCERPT_CHARS])
    response = await complete(
        models.open(spec),
        Request([HistoryMessage("user", prompt)], max_tokens=64),
        tries=2,
        max_chars=LONGEST_ANSWER_CHARS,
    )
    return response.text


def tidy(text: str) -> str:
    """A model's answer as a storable title: the words of its first non-empty line.

    Empty if there are far too many words.
    """
    lines = _beginning(storable(text))
    line = next((plain for line in lines if (plain := _plain(line))), "")
    line = re.sub(r"^title:\s*", "", line, flags=re.IGNORECASE).strip(" \t\"'“”«».")
    return _cut(line) if len(line) <= 2 * LONGEST else ""


def first_words(text: str) -> str:
    """The beginning of a message, cut between words."""
    return _cut(" ".join(plain for line in _beginning(text) if (plain := _plain(line))))


def _beginning(text: str) -> list[str]:
    return text.lstrip()[:MAX_READ].splitlines()


def _plain(line: str) -> str:
    """The words of a line of Markdown. Marks within a word stay, as in `snake_case`."""
    line = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", line)
    line = re.sub(r"^\s*(?:[#>]+|[-+*]|\d+[.)])\s+|^\s*(?:```|~~~)\w*", "", line)
    line = re.sub(r"(?<!\w)[*_~`]+(?=\S)|(?<=\S)[*_~`]+(?!\w)|<[/!]?[a-zA-Z][^>]*>", "", line)
    return " ".join(line.split())


def _cut(line: str) -> str:
    """At most `MOST_WORDS` words and `LONGEST` characters. An ellipsis replaces the rest."""
    words = line.split(" ")
    short = " ".join(words[:MOST_WORDS])
    if len(short) <= LONGEST and len(words) <= MOST_WORDS:
        return short
    cut = short[: LONGEST - 1]
    if cut != short:
        cut = cut.rpartition(" ")[0] or cut
    return cut + "…"
