"""worker.titles and its text: what becomes of a model's answer, and of a message without one."""

import pytest
from structlog.testing import capture_logs

from tests.integration.worker_rig import Script
from tokenwire.models.tables import Message as Row
from tokenwire.providers.base import AuthenticationFailed, Finish, TextDelta
from tokenwire.providers.catalogue import Catalogue
from tokenwire.providers.spec import ModelSpec
from tokenwire.worker import title_text, titles
from tokenwire.worker.services import Models
from tokenwire.worker.title_text import LONGEST, MOST_WORDS, first_words, fits_languages, tidy


@pytest.mark.parametrize(
    ("answer", "title"),
    [
        ("Blue Sky Explained", "Blue Sky Explained"),
        ('"Blue Sky Explained."', "Blue Sky Explained"),
        ('The "Blue" Sky', "The Blue Sky"),
        ("„Blauer Himmel“, erklärt", "Blauer Himmel, erklärt"),
        ("«Небо» и 「空」", "Небо и 空"),
        ("Don't call it 'blue', it's the sailors’ sky", "Don't call it blue, it's the…"),
        ("“**Title**: `Blue` sky”", "Blue sky"),
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


def test_a_title_of_wide_characters_is_as_wide_as_others() -> None:
    """Languages without spaces have no six words: the width limits them."""
    title = tidy("为什么天空是蓝色的而傍晚却变成红色的科学解释" * 2)
    assert title == "为什么天空是蓝色的而傍晚却变成红色的科学解释为什么天空是蓝…"
    assert first_words("空" * 100) == "空" * 29 + "…"


@pytest.mark.parametrize(
    ("title", "texts", "fits"),
    [
        ("Blauer Himmel", ["Why is the sky blue?", "It is."], True),
        ("Blue Sky", ["Почему небо синее?", "Потому что свет рассеивается."], False),
        ("Синее небо", ["Почему небо синее?", "Because."], True),
        ("Blue Sky", ["Почему небо синее?", "Because light scatters."], True),
        ("Docker установить", ["Как установить Docker?", ""], True),
        ("空の色", ["そらはなぜあおいのですか", "光のためです。"], True),
        ("하늘은 왜 파란가", ["Why is the sky blue?", "It is."], False),
        ("42 😀", ["Why?", "Because."], True),
        ("Blue", ["42", "😀"], False),
    ],
)
def test_a_title_is_in_a_script_of_its_conversation(
    title: str, texts: list[str], fits: bool
) -> None:
    """Models answer in English where nobody did."""
    assert fits_languages(title, texts) is fits


async def test_a_title_in_another_script_is_none() -> None:
    """The first words of the message take its place."""
    spec = ModelSpec(name="m", provider="scripted", model="m")
    models = Models(
        Catalogue(default="m", title_model="m", models={"m": spec}, missing={}),
        lambda _spec: Script([[TextDelta("Blue Sky"), Finish("stop")]]),
    )
    for question, title in (("Почему небо синее?", "Почему небо синее?"), ("Why?", "Blue Sky")):
        rows = Row(role="user", content=question), Row(role="assistant", content=question)
        assert await titles._title(models, *rows) == title


def test_a_title_has_six_words_at_most() -> None:
    for words in range(1, 12):
        made = tidy(" ".join(["ab"] * words))
        assert len(made.rstrip("…").split()) == min(words, MOST_WORDS)
        assert made.endswith("…") == (words > MOST_WORDS)


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
    plain = title_text._plain

    def counted(line: str) -> str:
        looked_at.append(len(line))
        assert len(line) <= title_text.MAX_READ
        return plain(line)

    monkeypatch.setattr(title_text, "_plain", counted)
    assert first_words(text)
    tidy(text)
    assert 0 < sum(looked_at) <= 2 * title_text.MAX_READ


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
