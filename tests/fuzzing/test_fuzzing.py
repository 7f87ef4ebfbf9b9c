"""A bounded number of damaged recordings; `make fuzz` takes any number."""

from random import Random
from typing import Any

import pytest

from tests.fuzzing import checks
from tests.fuzzing.__main__ import MAX_BODY_BYTES, run
from tests.fuzzing.mutations import repeated
from tests.steps import steps
from tests.unit.providers.recordings import Recording, own
from tokenwire.providers.decoding import Decoder
from tokenwire.providers.dialects import decoder_of

RECORDINGS = [recording for recording in own() if len(recording.body) <= MAX_BODY_BYTES]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("seed", range(4))
def test_damaged_recordings(seed: int) -> None:
    """The end is either proved or a failure of ours; some bodies are complete in spite of the
    damage.
    """
    made, whole, reports = run(RECORDINGS, seed, 750)
    assert reports == []
    assert made == 750
    assert 20 < whole < 700


@pytest.mark.parametrize("seed", range(2))
def test_work_is_proportional_to_the_body(seed: int) -> None:
    """Twice as many frames of any kind run twice as many lines of code."""
    for recording in Random(seed).sample(RECORDINGS, 25):
        few, many = (
            _lines(recording, repeated(Random(seed), recording.body, times)) for times in (100, 200)
        )
        assert many < 2.3 * few + 500, f"{recording.name}: {few} lines, {many} for twice as many"


def test_quadratic_work_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that walks all frames again for each of them."""
    seen: list[int] = []
    frame = Decoder._frame

    def slow(self: Decoder, *arguments: Any) -> None:
        seen.append(1)
        self._out += []
        for _ in seen:
            self._note_output(())
        frame(self, *arguments)

    monkeypatch.setattr(Decoder, "_frame", slow)
    with pytest.raises(AssertionError, match="twice as many"):
        test_work_is_proportional_to_the_body(1)


def _lines(recording: Recording, body: bytes) -> int:
    def read() -> None:
        decoder = decoder_of(recording.api)()
        for at in range(0, len(body), 1000):
            decoder.feed(body[at : at + 1000])
        decoder.close()

    return steps(read)


@pytest.mark.parametrize(
    ("method", "broken", "word"),
    [
        ("_keep", lambda *_: None, "lost"),
        ("_emit_reasoning", lambda *_: None, "lost"),
        ("_safely", lambda self, work: work() or self._take(), "raised"),
    ],
)
def test_the_checks_notice_broken_decoders(
    monkeypatch: pytest.MonkeyPatch, method: str, broken: object, word: str
) -> None:
    """Decoders that drop text or raise exceptions."""
    monkeypatch.setattr(Decoder, method, broken)
    _, _, reports = run(RECORDINGS, 1, 3000, most_reports=1)
    assert reports
    assert word in reports[0]


def test_a_status_that_loses_its_class_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a delay beyond all reason."""
    monkeypatch.setattr(checks, "_LONGEST_WAIT_S", 0.5)
    with pytest.raises(checks.Broken, match="a wait"):
        checks.check_error(429, {"retry-after": "20"}, b"{}")
    monkeypatch.setitem(checks._KEEPS, 429, "Unavailable")
    with pytest.raises(checks.Broken, match="429 became"):
        checks.check_error(429, {}, b"{}")
