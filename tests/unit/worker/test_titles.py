"""worker.titles: what becomes of a model's answer, and of a message without one."""

import pytest

from worker.titles import LONGEST, first_words, tidy


@pytest.mark.parametrize(
    ("answer", "title"),
    [
        ("Blue Sky Explained", "Blue Sky Explained"),
        ('"Blue Sky Explained."', "Blue Sky Explained"),
        ("\n\n**Blauer Himmel**\nWeitere Worte", "Blauer Himmel"),
        ("# Title: Blue sky", "Blue sky"),
        ("Title: Blue sky", "Blue sky"),
        ("word " * 60, ""),
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
    assert len(cut) <= LONGEST
    assert cut.endswith("…")
    assert text.startswith(cut[:-1] + " ")
    assert first_words("  short\n one ") == "short one"
    assert len(first_words("x" * 200)) == LONGEST
