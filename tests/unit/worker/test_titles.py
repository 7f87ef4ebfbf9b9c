"""worker.titles: what becomes of a model's answer, and of a message without one."""

import pytest
from structlog.testing import capture_logs

from tests.integration.worker_rig import Script
from tokenwire.models.tables import Message as Row
from tokenwire.providers.base import AuthenticationFailed
from tokenwire.providers.catalogue import Catalogue
from tokenwire.providers.spec import ModelSpec
from tokenwire.worker import titles
from tokenwire.worker.services import Models
from tokenwire.worker.titles import LONGEST, first_words, tidy


@pytest.mark.parametrize(
    ("answer", "title"),
    [
        ("Blue Sky Explained", "Blue Sky Explained"),
        ('"Blue Sky Explained."', "Blue Sky Explained"),
        ("\n\n**Blauer Himmel**\nWeitere Worte", "Blauer Himmel"),
        ("# Title: Blue sky", "Blue sky"),
        ("Title: Blue sky", "Blue sky"),
        ("**Title:** `snake_case` in *Python*", "snake_case in Python"),
        ("1. [Blue sky](https://e.example) <b>explained</b>", "Blue sky explained"),
        ("> ~~Why~~ How the sky is blue today, explained", "Why How the sky is blue…"),
        ("word " * 60, ""),
        ("Blue\0 \ud83d\ude00 \ud83d", "Blue\ufffd 😀 \ufffd"),
        ("", ""),
    ],
)
def test_an_answer_is_made_a_title(answer: str, title: str) -> None:
    """Marks and chatter around it go; what is no title is none."""
    assert tidy(answer) == title


def test_first_words_are_cut_between_words() -> None:
    """Never longer than a title may be, never in the midst of a word."""
    text = "Why is the sky blue, and why is it red in the evening when the sun goes down?"
    cut = first_words(text)
    assert cut == "Why is the sky blue, and…"
    assert len(first_words("Donaudampfschifffahrtsgesellschaftskapitän " * 6)) <= LONGEST
    assert first_words("  short\n one ") == "short one"
    assert len(first_words("x" * 200)) == LONGEST


def test_no_markdown_stays_in_first_words() -> None:
    """A message that begins with code, a list or a heading is named by its words."""
    assert first_words("# Plan\n\n- **buy** `milk`\n- 2 * 3") == "Plan buy milk 2 * 3"
    assert first_words("```python\nprint(1)\n```") == "print(1)"


@pytest.mark.parametrize("text", ["![" * 128_000, "[" * 250_000, "\n" * 5000 + "<a" * 100_000])
def test_a_name_is_looked_for_in_the_beginning(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message of 256 KiB would keep a worker busy for minutes: the marks of a line are looked for
    in all of it again and again.
    """
    looked_at: list[int] = []
    plain = titles._plain

    def counted(line: str) -> str:
        looked_at.append(len(line))
        assert len(line) <= titles.MAX_READ
        return plain(line)

    monkeypatch.setattr(titles, "_plain", counted)
    assert first_words(text)
    tidy(text)
    assert 0 < sum(looked_at) <= 2 * titles.MAX_READ


async def test_what_is_asked_for_a_title_is_not_logged() -> None:
    """Though the model's provider quotes it in its error."""
    question, answer = (
        Row(role="user", content="What did my doctor say?"),
        Row(role="assistant", content="It will hurt for long."),
    )
    error = AuthenticationFailed(f"no: {question.content} and {answer.content}")
    spec = ModelSpec(name="m", provider="scripted", model="m")
    models = Models(
        Catalogue(default="m", title_model="m", models={"m": spec}, missing={}),
        lambda _spec: Script([error]),
    )
    with capture_logs() as lines:
        assert await titles._title(models, question, answer) == "What did my doctor say?"
    assert [line["error"] for line in lines] == ["AuthenticationFailed('no: … and …')"]
