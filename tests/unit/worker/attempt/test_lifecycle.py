"""worker.attempt.lifecycle: every cell of the table, which verdict counts, lives of any length."""

from collections import deque
from collections.abc import Iterable

import hypothesis
import pytest
from hypothesis import strategies as st

from tests.examples import many
from tokenwire.worker.attempt.lifecycle import (
    AT_ONCE,
    TABLE,
    Act,
    Answered,
    AttemptState,
    Begin,
    Called,
    CallsLeft,
    CancelAsked,
    CarriedOut,
    Disowned,
    Failed,
    Finished,
    HandedOver,
    Impossible,
    Input,
    Lifecycle,
    Misfit,
    Parked,
    Paused,
    Released,
    Settled,
    Transition,
    Unwritable,
    Verdict,
    outranks,
)

DOWN, BUG = Failed(ConnectionError("down")), Unwritable(TypeError("bug"))
VERDICTS: list[Verdict] = [Finished(), DOWN, BUG, HandedOver(), CancelAsked("me"), Disowned()]
OURS: list[Input] = [
    Begin(),
    CallsLeft(),
    Settled(),
    Paused(),
    Misfit(),
    Called(),
    Answered(),
    Parked(),
    Released(),
    CarriedOut(),
]
INPUTS: list[Input] = [*VERDICTS, *OURS]
BY_NAME = {type(given).__name__: given for given in INPUTS}

ENDS = "settling:LEAVE_PROVIDER+AWAIT_PROVIDER+SETTLE"
STOPS = "settling:STOP_CALLS+SETTLE"
CELLS = {  # claimed, answering, settling, calling, carrying out, over
    "Begin": "answering:ASK ! - ! ! -",
    "CallsLeft": "calling:CALL ! - ! ! -",
    "Finished": "! settling:FLUSH+AWAIT_PROVIDER+SETTLE - settling:SETTLE - -",
    "Failed": f"settling:SETTLE {ENDS} - {STOPS} - -",
    "Unwritable": f"settling:SETTLE {ENDS} settling: {STOPS} - -",
    "HandedOver": f"settling:SETTLE {ENDS} - {STOPS} - -",
    "CancelAsked": (
        "settling:ABANDON_WAITING+SETTLE settling:LEAVE_PROVIDER+ABANDON_WAITING+SETTLE"
        " settling:ABANDON_WAITING settling:STOP_CALLS+ABANDON_WAITING+SETTLE - -"
    ),
    "Disowned": (
        "over:ABANDON_ALL over:LEAVE_PROVIDER+ABANDON_ALL+LEAVE_RUN"
        " over:ABANDON_ALL+LEAVE_RUN over:STOP_CALLS+ABANDON_ALL over:ABANDON_ALL -"
    ),
    "Settled": "! ! carrying-out:LEAVE_RUN+CARRY_OUT ! ! -",
    "Paused": "! ! answering:ASK ! ! -",
    "Misfit": "! ! answering:ASK ! ! -",
    "Called": "! ! calling:CALL ! ! -",
    "Answered": "! ! ! answering:ASK ! -",
    "Parked": "! ! ! over:RELEASE ! -",
    "Released": "! ! ! ! over:REQUEUE -",
    "CarriedOut": "! ! ! ! over: -",
}
"""By input: what follows in each state, after a turn that finished. `!` impossible, `-` nothing."""


def named(name: str) -> AttemptState:
    return AttemptState(name.replace("-", " "))


def cells() -> Iterable[tuple[AttemptState, str, str]]:
    for name, row in CELLS.items():
        yield from (
            (state, name, cell) for state, cell in zip(AttemptState, row.split(), strict=True)
        )


def reached(state: AttemptState) -> Lifecycle:
    """A life that has come so far, by a turn that finished."""
    if state is AttemptState.CALLING:
        return lived(CallsLeft())
    life = Lifecycle()
    for given in (Begin(), Finished(), Settled(), CarriedOut()):
        if life.state is state:
            break
        life.take(given)
    assert life.state is state
    return life


def lived(*inputs: Input) -> Lifecycle:
    life = Lifecycle()
    for given in inputs:
        life.take(given)
    return life


def all_of(life: Lifecycle) -> tuple[object, ...]:
    return life.state, life.verdict, life.behind


@pytest.mark.parametrize(("state", "name", "cell"), list(cells()))
def test_each_cell(state: AttemptState, name: str, cell: str) -> None:
    """The next state and the acts in order; what is impossible raises and changes nothing."""
    life = reached(state)
    before = all_of(life)
    if cell == "!":
        with pytest.raises(Impossible):
            life.take(BY_NAME[name])
        assert all_of(life) == before
        return
    acts = life.take(BY_NAME[name])
    if cell == "-":
        assert (life.state, acts) == (state, ())
        return
    after, _, names = cell.partition(":")
    expected = tuple(Act[act] for act in names.split("+") if act)
    assert (life.state, acts) == (named(after), expected)


def test_the_table_is_whole() -> None:
    """Every input has a cell in every state; acts that wait for nothing come first."""
    assert set(TABLE) == set(AttemptState)
    for row in TABLE.values():
        assert set(row) == {type(given) for given in INPUTS}
        for cell in row.values():
            waits = (
                [act not in AT_ONCE for act in cell.acts] if isinstance(cell, Transition) else []
            )
            assert waits == sorted(waits)


# --- which verdict counts ---

REPLACED = {
    "Finished": "",
    "Failed": "",
    "HandedOver": "",
    "Unwritable": "Finished",
    "CancelAsked": "Finished Failed HandedOver Unwritable",
    "Disowned": "Finished Failed HandedOver Unwritable CancelAsked",
}


@pytest.mark.parametrize("old", VERDICTS, ids=lambda verdict: type(verdict).__name__)
@pytest.mark.parametrize("new", VERDICTS, ids=lambda verdict: type(verdict).__name__)
def test_each_pair_of_verdicts(new: Verdict, old: Verdict) -> None:
    """The first reason counts, save for a broken log, a cancel and a lost answer."""
    assert outranks(new, old) is (type(old).__name__ in REPLACED[type(new).__name__].split())
    assert outranks(new, None)


def test_verdicts_are_ordered() -> None:
    """Nothing outranks itself, and what outranks the better one outranks the worse one."""
    for a in VERDICTS:
        assert not outranks(a, a)
        for b in VERDICTS:
            assert not (outranks(a, b) and outranks(b, a))
            for c in VERDICTS:
                assert not (outranks(a, b) and outranks(b, c)) or outranks(a, c)


def test_the_first_cancel_is_named() -> None:
    """Whoever asks second does not take the first one's place."""
    life = lived(Begin(), CancelAsked("first"))
    assert life.take(CancelAsked("second")) == ()
    assert life.verdict == CancelAsked("first")


def test_a_finished_answer_is_not_handed_over() -> None:
    """Another attempt would only say it again."""
    life = lived(Begin(), Finished(), HandedOver(), Settled())
    assert (life.state, life.verdict) == (AttemptState.CARRYING_OUT, Finished())


def test_text_that_cannot_be_appended_makes_an_answer_less_than_whole() -> None:
    """But a provider's failure is retried all the same, and so is what is handed over."""
    assert lived(Begin(), Finished(), BUG).verdict == BUG
    assert lived(Begin(), DOWN, BUG).verdict == DOWN
    assert lived(Begin(), HandedOver(), BUG).verdict == HandedOver()


# --- calls ---


def test_results_go_back_to_the_provider() -> None:
    """In the same attempt, with a verdict of its own to come."""
    life = lived(Begin(), Finished(), Called())
    assert all_of(life) == (AttemptState.CALLING, None, None)
    assert life.take(Answered()) == (Act.ASK,)
    assert lived(Begin(), Finished(), Called(), Answered(), DOWN).verdict == DOWN


def test_calls_are_left_to_the_next_attempt_if_that_was_asked_meanwhile() -> None:
    """No tool begins in a process that stops."""
    life = lived(Begin(), Finished(), HandedOver())
    assert life.take(Called()) == (Act.LEAVE_RUN, Act.CARRY_OUT)
    assert all_of(life) == (AttemptState.CARRYING_OUT, HandedOver(), None)


def test_an_answer_ends_with_calls_of_the_program_that_asked() -> None:
    """As a turn that finished. A hand-over comes too late, and a failure too."""
    life = lived(Begin(), Finished(), Called(), Finished(), HandedOver(), DOWN)
    assert life.take(Settled()) == (Act.LEAVE_RUN, Act.CARRY_OUT)
    assert life.verdict == Finished()


def test_a_parked_attempt_is_over() -> None:
    """What comes later is the business of who decides, or cancels."""
    life = lived(CallsLeft(), Parked(), CancelAsked("me"))
    assert all_of(life) == (AttemptState.OVER, None, None)


# --- what waits behind the verdict ---


def test_a_paused_turn_is_resumed_by_the_same_attempt() -> None:
    """With a verdict of its own to come."""
    life = lived(Begin(), Finished(), Paused())
    assert all_of(life) == (AttemptState.ANSWERING, None, None)
    assert lived(Begin(), Finished(), Paused(), DOWN).verdict == DOWN
    assert all_of(lived(Begin(), Finished(), Misfit())) == all_of(life)


def test_a_paused_turn_is_handed_over_if_that_was_asked_meanwhile() -> None:
    """The hand-over was too late for an answer that is whole, and not for a pause."""
    life = lived(Begin(), Finished(), HandedOver())
    assert life.take(Paused()) == (Act.LEAVE_RUN, Act.CARRY_OUT)
    assert all_of(life) == (AttemptState.CARRYING_OUT, HandedOver(), None)


@pytest.mark.parametrize("verdict", [BUG, CancelAsked("me")])
def test_no_verdict_but_a_finished_turn_is_a_pause(verdict: Verdict) -> None:
    """What stronger reason came is carried out."""
    life = lived(Begin(), Finished(), verdict)
    assert life.take(Paused()) == (Act.LEAVE_RUN, Act.CARRY_OUT)
    assert life.verdict == verdict


@pytest.mark.parametrize("verdict", [DOWN, HandedOver()])
def test_a_cancel_while_the_answer_is_left_to_another_attempt(verdict: Verdict) -> None:
    """It ends the answer in the place of the next attempt, in the name of whoever asked first."""
    life = lived(Begin(), verdict, Settled(), CancelAsked("first"), CancelAsked("second"))
    assert life.verdict == verdict
    assert life.take(Released()) == (Act.CANCEL,)
    assert (life.state, life.behind) == (AttemptState.OVER, CancelAsked("first"))


def test_a_cancel_waits_before_a_hand_over() -> None:
    """Both came too late to be the verdict; the answer is cancelled and not brought to anybody."""
    life = lived(Begin(), DOWN, HandedOver(), Settled(), CancelAsked("me"))
    assert life.take(Released()) == (Act.CANCEL,)


def test_told_to_stop_before_it_began() -> None:
    """No provider is asked."""
    life = lived(HandedOver())
    assert life.take(Begin()) == ()
    assert life.take(Settled()) == (Act.LEAVE_RUN, Act.CARRY_OUT)
    assert life.verdict == HandedOver()


# --- lives of any length ---

any_verdict = st.sampled_from([*VERDICTS, CancelAsked("second"), CancelAsked("third")])


@hypothesis.settings(max_examples=many(500))
@hypothesis.given(st.lists(any_verdict | st.sampled_from(OURS), max_size=40))
def test_any_sequence_of_inputs(inputs: list[Input]) -> None:
    """Never two ends; what is over stays over and acts no more; the best verdict is carried out."""
    life, done = Lifecycle(), list[Act]()
    reasons: list[Verdict] = []
    for given in inputs:
        before = all_of(life)
        try:
            acts = life.take(given)
        except Impossible:
            assert all_of(life) == before
            continue
        if before[0] is AttemptState.OVER:
            assert (all_of(life), acts) == (before, ())
        if isinstance(given, Verdict) and before[0] is not AttemptState.CARRYING_OUT:
            reasons.append(given)
        if Act.ASK in acts or Act.CALL in acts:
            reasons.clear()
        if Act.CARRY_OUT in acts:
            assert life.verdict in reasons
            assert not any(outranks(reason, life.verdict) for reason in reasons)
        done += acts
    assert done.count(Act.CARRY_OUT) + done.count(Act.RELEASE) <= 1
    assert done.count(Act.REQUEUE) + done.count(Act.CANCEL) <= done.count(Act.CARRY_OUT)


@hypothesis.settings(max_examples=many(500))
@hypothesis.given(st.lists(any_verdict, max_size=20), st.lists(st.booleans(), max_size=60))
def test_any_life_of_an_attempt(reports: list[Verdict], choices: list[bool]) -> None:
    """Reports at any moment, our own code doing one act after the other: no input is impossible.

    Each life ends, with one end or one successor at most. A disowned attempt writes nothing more.
    """
    life, to_do, done = Lifecycle(), deque[Act](), list[Act]()
    waiting, chosen = deque(reports), iter(choices)

    def yes() -> bool:
        return next(chosen, False)

    def give(given: Input) -> None:
        acts = life.take(given)
        if acts and life.state is AttemptState.OVER:
            to_do.clear()
        to_do.extend(act for act in acts if act not in AT_ONCE)

    def report() -> None:
        given = waiting.popleft()
        if not (life.state is AttemptState.CLAIMED and given == Finished()):
            give(given)

    while waiting and yes():
        report()
    give(CallsLeft() if yes() else Begin())
    while to_do:
        act = to_do.popleft()
        if isinstance(life.verdict, Disowned):
            assert act is Act.LEAVE_RUN
        done.append(act)
        while waiting and yes():
            report()
        if act is Act.ASK and life.state is AttemptState.ANSWERING:
            give(Finished() if yes() else DOWN)
        elif act is Act.CALL and life.state is AttemptState.CALLING:
            give(Parked() if yes() else Answered())
        elif act is Act.SETTLE:
            again = life.verdict == Finished() and yes()
            give((Paused() if yes() else Called()) if again else Settled())
        elif act is Act.CARRY_OUT:
            if isinstance(life.verdict, Failed | HandedOver) and yes():
                give(Released())
            give(CarriedOut())
    assert life.state is AttemptState.OVER
    assert done.count(Act.CARRY_OUT) + done.count(Act.RELEASE) <= 1
    assert done.count(Act.REQUEUE) + done.count(Act.CANCEL) <= 1
    cancels = [given.by for given in reports if isinstance(given, CancelAsked)]
    if isinstance(life.verdict, CancelAsked):
        assert life.verdict.by == cancels[0]
