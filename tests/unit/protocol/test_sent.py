"""protocol/sent.py: sent text stays, and is never sent twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenwire.protocol.sent import Sent, Withdrawn

TEXTS = st.text(st.sampled_from("ab👍"), max_size=12)
STEPS = st.one_of(
    st.tuples(st.just("grow"), TEXTS),
    st.tuples(st.just("become"), TEXTS),
    st.tuples(st.just("take"), st.integers(0, 3)),
    st.tuples(st.just("rest"), st.none()),
)


@given(st.lists(STEPS, max_size=30))
def test_sent_text_begins_the_text(steps: list[tuple[str, object]]) -> None:
    """Against a model with all of the text; Withdrawn where that is impossible."""
    sent, text, out = Sent(), "", ""
    for name, value in steps:
        if name in ("grow", "become"):
            text = (text if name == "grow" else "") + str(value)
            fits = text.startswith(out) or out.startswith(text)
            try:
                sent.grow(str(value)) if name == "grow" else sent.replace(str(value))
            except Withdrawn:
                assert not fits
                return
            assert fits
        elif name == "take":
            given_now = sent.take(2, int(str(value)))
            assert all(len(piece) == 2 for piece in given_now)
            assert len(given_now) == min(int(str(value)), max(len(text) - len(out), 0) // 2)
            out += "".join(given_now)
        else:
            out += sent.take_rest()
            assert len(out) >= len(text)
        assert sent.out == out
        assert sent.waiting == max(len(text) - len(out), 0)
        assert sent.behind == (len(text) < len(out))


@given(TEXTS, TEXTS)
def test_an_end(text: str, last: str) -> None:
    """An end with less than the sent text is no end of it."""
    sent = Sent()
    sent.grow(text)
    sent.take_rest()
    if not (last.startswith(text) or text.startswith(last)):
        with pytest.raises(Withdrawn):
            sent.replace(last)
        return
    sent.replace(last)
    if len(last) < len(text):
        with pytest.raises(Withdrawn):
            sent.finish()
    else:
        sent.finish()
        assert text + sent.take_rest() == last


def test_a_long_text_is_sent_in_linear_time() -> None:
    """Taken text is not copied with each further piece."""
    sent = Sent()
    sent.replace("word " * 200_000)
    pieces = 0
    while sent.waiting >= 4:
        pieces += len(sent.take(4, 256))
    assert pieces == 250_000
