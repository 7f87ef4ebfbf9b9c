"""An answer that starts over in other words: how much of its beginning identifies it, and what only
looks like it.
"""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.unit.providers.stitching import stitch
from tokenwire.providers.openings import begins_anew
from tokenwire.providers.seams import Seam

PAGE = (
    "Some of them ripen early, others late, and a few of them keep all winter in a cool cellar. "
    * 6
)
CODE = "```python\nimport os\nimport sys\n\ndef names():\n    return os.list"
LIST = "You will need:\n- A cup of flour\n- A cup of sugar\n- An egg"

ANEW = [
    (
        "Sure! Here is a list of red fruits: apple, cherry, straw",
        "Sure! Here are some red fruits: apple, cherry, strawberry.",
    ),
    (
        "Sure! Here is a list of red fruits. " + PAGE + "Then there is the straw",
        "Sure! Here are some red fruits: apple.",
    ),
    (
        "The French Revolution was a period of change that began in 1789. " * 7 + "And in those",
        "The French Revolution was a time. It began",
    ),
    ("Sure! Here is a list:\n\n- apple\n- cherry\n", "Sure! Here are some red fruits: apple."),
    ("Of course! I am here.", "Of course! I will look."),
    ("\n\nSure! Here is a list of red fruits: apple, straw", "Sure! Here are some red fruits."),
    ("Here is a list of red fruits: apple, straw", " Here is a table of red fruits."),
    (
        "# Red fruits\n\nThere are many of them, like the straw",
        "# Red fruits\n\nThese are some: apple.",
    ),
    (CODE, "```python\nimport os\nfrom sys import path\n"),
    ("I can help you with that. First, open the", "I can help you to do so. Open the"),
    ("好的！以下是一些红色的水果：苹果、樱", "好的！以下几种水果是红色的：苹果。"),
    ("法国大革命是法国历史上的一个重要时期，它始于", "法国大革命是法国历史中的一件大事。"),
    ("はい！赤い果物は次のとおりです。りんご、さく", "はい！赤い果物をいくつか紹介します。"),
    ("นี่คือรายการผลไม้สีแดง แอปเปิล เชอร์", "นี่คือรายการผลไม้ที่มีสีแดง"),
    ("안녕하세요! 빨간 과일은 사과, 체", "안녕하세요! 빨간 과일을 알려 드릴게요."),
    ("🎉 Great news about the fruits: they are", "🎉 Great news about your fruit."),
    ("👩\u200d🔬 Here you are: apple and", "👩\u200d🔬 Here you go: apple."),
]
"""The text that is held, and the new text."""

GOES_ON = [
    ("Sure! Here is one: apple.", "Sure! "),
    ("Sure, it is red. Apples are red, and", "Sure, there are others."),
    ("Apples are red and", "Apples grow on trees."),
    ("New York City is large. Many people who came to", "New York City stayed there."),
    ("The Lord of the Rings is long. Those who have read", "The Lord of the Rings love it."),
    ("Dr. Smith was born in 1960. His parents, whom", "Dr. Smith never knew, were poor."),
    ("The cat sat.", "The cat slept."),
    ("The old cat sat there and", "The old cats were there."),
    ("The old cat sat on the mat.", "The old cat sat there for long."),
    (LIST + "\n", "- A cup of milk\n"),
    (LIST, "\n- A cup of milk"),
    ("- You can use a hammer", "- You can use a saw"),
    (
        "Row, row, row your boat\nGently down the stream\nLife is but a dream\n\n",
        "Row, row, row your boat\nGently down the brook\n",
    ),
    (
        "Row, row, row your boat\nGently\nRow, row, row your boat\nQuietly and",
        "Row, row, row your boat\nLoudly\n",
    ),
    (
        "```python\nimport os\nimport sys\n```\nThe other file:\n",
        "```python\nimport os\nimport re\n```",
    ),
    ("import os\nimport sys\n\ndef a():\n    return 1\n", "import os.path\n"),
    ("## Step 1: Open the box\nLift the lid.\n", "## Step 2: Look inside"),
    ("| fruit | colour |\n|---|---|\n| apple | red |\n", "| fruit | size |\n|---|---|\n"),
    (
        (
            "I have a dream that one day all will sit down together. "
            "I have a dream that one day it "
            "rains."
        ),
        "I have a dream that one day we sing.",
    ),
    ("法国大革命始于1789年，很多人认为", "法国大革命改变了世界。"),
    ("中华人民共和国成立于1949年，很多人来到", "中华人民共和国的首都。"),
    ("プログラミング言語は多い。私は", "プログラミング言語が好きです。"),
    ("สวัสดี แอปเปิลและ", "สวัสดิการ"),
    ("👩\u200d🔬 works in a", "👩\u200d🚀 flies."),
    ("🎉 apple and", "🎉 cherry"),
    ("- Wow! It rains.", "- Wow! It snows."),
    ("- [x] one", "| a"),
    ("", "Sure! Here"),
    (" \n", "Sure! Here"),
    ("Sure! Here", ""),
]


@pytest.mark.parametrize(("held", "new"), ANEW)
@pytest.mark.parametrize("step", [1, 5, 10_000])
def test_an_answer_that_starts_over_replaces_the_old_one(held: str, new: str, step: int) -> None:
    """After a line or a page, in any script, however it is cut."""
    seam = Seam("turn", held)
    assert (
        "".join(seam.push(new[i : i + step]) for i in range(0, len(new), step)) + seam.end() == new
    )
    assert seam.over
    assert not stitch("prefix", held, new).startswith(
        new
    )  # with a prefix, the model continues behind it


@pytest.mark.parametrize(("held", "new"), GOES_ON)
def test_a_continuation_that_resembles_the_beginning_is_kept(held: str, new: str) -> None:
    """List items, refrains, equal lines, names, an equal first word: the old text stays."""
    assert not begins_anew(held, new)
    assert stitch("turn", held, new).startswith(held)


def test_a_long_refrain_is_recognised_the_third_time() -> None:
    """A text that also occurs at a later line is no opening. From 100 characters on, its first
    repetition is one.
    """
    refrain = "".join(f"Sing loud {number}\n" for number in range(10))
    assert begins_anew(refrain + "Verse\n", refrain + "Another")
    assert not begins_anew(refrain + "Verse\n" + refrain + "Other\n", refrain + "A third")


def test_the_verdict_comes_with_the_first_different_character() -> None:
    """Readers see nothing while the decision is open."""
    held, new = ANEW[0]
    seam = Seam("turn", held)
    assert [seam.push(character) for character in new[: len("Sure! Here ")]] == [""] * len(
        "Sure! Here "
    )
    assert (seam.push("a"), seam.over) == ("Sure! Here a", True)


@pytest.mark.parametrize("finished", [True, False])
def test_a_start_over_that_is_cut_within_its_opening_adds_nothing(finished: bool) -> None:
    """It would end up in the middle of the text, before the next try."""
    seam = Seam("turn", ANEW[0][0])
    assert seam.push("Sure! Here") == ""
    assert (seam.end(finished=finished), seam.over) == ("", False)


WORD = st.sampled_from(
    [
        "once",
        "there",
        "were",
        "nine",
        "small",
        "green",
        "birds",
        "upon",
        "long",
        "wires",
        "above",
        "our",
        "village",
    ]
)
SENTENCE = st.lists(WORD, min_size=3, max_size=12).map(lambda words: " ".join(words).capitalize())


@given(SENTENCE, SENTENCE, st.lists(SENTENCE, max_size=30), SENTENCE, st.integers(1, 9))
def test_any_equal_opening_within_a_sentence_is_a_start_over(
    opening: str, went: str, page: list[str], goes: str, step: int
) -> None:
    """Of any length. Nothing is doubled, and nothing of the new answer is lost."""
    held, new = f"{opening} but {went}. {'. '.join(page)} and then", f"{opening} or {goes}."
    seam = Seam("turn", held)
    assert (
        "".join(seam.push(new[i : i + step]) for i in range(0, len(new), step)) + seam.end() == new
    )
    assert seam.over


@given(
    SENTENCE,
    st.lists(SENTENCE, max_size=30),
    SENTENCE,
    st.sampled_from(["", "\n", " and", ", ", ".\n\n"]),
)
def test_another_first_word_is_never_a_start_over(
    opening: str, page: list[str], goes: str, end: str
) -> None:
    """However alike the rest is."""
    assume(goes.split()[0] != opening.split()[0])
    held = ". ".join([opening, *page]) + end
    assert not begins_anew(held, goes)
    assert stitch("turn", held, goes).startswith(held)


@given(
    st.lists(SENTENCE, min_size=2, max_size=8),
    SENTENCE,
    st.sampled_from(["- ", "* ", "• ", "| ", "> ", "1. ", ""]),
)
def test_a_line_that_begins_like_earlier_lines_is_never_a_start_over(
    lines: list[str], goes: str, sign: str
) -> None:
    """A list whose items begin alike continues, whether it was cut behind an item or within it."""
    alike = f"{sign}You can also try "
    held = "\n".join(alike + line for line in lines)
    assert not begins_anew(held, f"{alike}it {goes}")
    assert not begins_anew(held + "\n", f"{alike}it {goes}")


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_text_has_a_verdict(held: str, new: str) -> None:
    """For any characters. Without an equal beginning it is never a start over."""
    if begins_anew(held, new):
        assert held.strip()[:2] == new.strip()[:2]
