"""Pure: the life of one attempt as one table, from its claim until the answer is no longer its own.

    CLAIMED --> ANSWERING --> SETTLING --> CARRYING_OUT --> OVER
       |          ^   ^          |  |                        ^
       |          |   +----------+  |   paused, or a misfit  |
       +-----> CALLING <------------+   the turn has calls   |
                  |                                          |
                  +------------------------------------------+   a decision is awaited

Inputs go in, acts come out (`Lifecycle.take`). Whatever ends an attempt is an input, too: a
`Verdict`. The provider, the log, the lease, a cancel and a deploy report on their own, at any
moment and more than once. So every pair of a state and an input has a cell in `TABLE`.

What it guarantees
- An attempt carries out one verdict: `CARRY_OUT` comes at most once, so there is no second end.
- `outranks` alone decides which of several verdicts that is. The first cancel keeps its `by`.
- An attempt that lost its answer (`Disowned`) is OVER at once, and OVER ignores every input: a
  disowned attempt writes nothing more.
- A verdict is carried out only when all that was taken is acknowledged, or can no longer be.
- Inputs that only our own code gives (`Begin`, `Settled`, `Paused`, `Misfit`, `Released`,
  `CarriedOut`) are bugs where they make no sense: they raise `Impossible` and change nothing.

Why this way
- The rules stood in five methods of the class that does the I/O, each of which read flags that
  others had set. A table is read, and tested, cell by cell.
- A paused turn is settled before it is resumed: what is sent back must be what readers hold. The
  same holds for a turn with calls: their results go back behind what readers hold.
- An attempt that waits for a decision is over: it has parked the row, and nothing may be undone.
- A verdict that comes too late waits behind the one that is carried out. It counts if the answer
  does not end after all: a hand-over if the turn was only paused, a cancel if there is a retry.

What was rejected
- A rank for each verdict. A provider's failure is retried even if the log breaks afterwards, but
  a finished answer is not complete if the log breaks: no order of ranks says both.
- To end at once. A batch that is out may have been appended and read: the log must first say
  where the text ends.
- A queue of inputs. Each is applied when it is given, so that what comes first counts first.
"""

from dataclasses import dataclass
from enum import Enum, auto

# --- inputs ---


@dataclass(frozen=True, slots=True)
class Begin:
    """The provider may be asked."""


@dataclass(frozen=True, slots=True)
class CallsLeft:
    """The turn is whole: an earlier attempt left its calls."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The provider proved that its turn is whole. Of calls: no worker executes those that are
    left.
    """


@dataclass(frozen=True, slots=True)
class Failed:
    """The provider failed, or fell silent, or nothing may be asked of it."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class Unwritable:
    """The log cannot be written because of a bug: nothing more will be acknowledged. Or what a
    finished turn needs cannot be stored.
    """

    error: BaseException


@dataclass(frozen=True, slots=True)
class HandedOver:
    """This process stops; another one continues the answer."""


@dataclass(frozen=True, slots=True)
class CancelAsked:
    """Somebody asked to stop."""

    by: str


@dataclass(frozen=True, slots=True)
class Disowned:
    """Another process has the answer now, or it has ended or was deleted: change nothing."""


@dataclass(frozen=True, slots=True)
class Settled:
    """Everything that was taken is acknowledged, or may not be written any more."""


@dataclass(frozen=True, slots=True)
class Paused:
    """The same, and the turn that finished was only paused: it can be resumed."""


@dataclass(frozen=True, slots=True)
class Misfit:
    """The same, and the document that is whole breaks its schema: the model is asked once more."""


@dataclass(frozen=True, slots=True)
class Called:
    """The same, and the turn that finished is proven and has calls that are ours to see to."""


@dataclass(frozen=True, slots=True)
class Answered:
    """All calls of the turn have ended: the provider may be asked with their results."""


@dataclass(frozen=True, slots=True)
class Parked:
    """The row waits for a decision about a call."""


@dataclass(frozen=True, slots=True)
class Released:
    """The row says that another attempt follows, and the lease is given up."""


@dataclass(frozen=True, slots=True)
class CarriedOut:
    """The verdict was carried out."""


Verdict = Finished | Failed | Unwritable | HandedOver | CancelAsked | Disowned
Input = (
    Begin
    | CallsLeft
    | Verdict
    | Settled
    | Paused
    | Misfit
    | Called
    | Answered
    | Parked
    | Released
    | CarriedOut
)

# --- which verdict counts ---

_OUTRANKED: dict[type[Verdict], tuple[type[Verdict], ...]] = {
    Finished: (),
    Failed: (),
    HandedOver: (),
    Unwritable: (Finished,),
    CancelAsked: (Finished, Failed, HandedOver, Unwritable),
    Disowned: (Finished, Failed, HandedOver, Unwritable, CancelAsked),
}
"""The verdicts that each one replaces.

The first reason counts: a finished answer is not handed over. But an answer whose text cannot be
appended is not whole; after a cancel nothing can be appended; and who lost the answer changes
nothing.
"""


def outranks(new: Verdict, old: Verdict | None) -> bool:
    """Whether `new` is carried out instead of `old` (None: there is none)."""
    return old is None or type(old) in _OUTRANKED[type(new)]


# --- states and acts ---


class AttemptState(Enum):
    """The state of an attempt."""

    CLAIMED = "claimed"
    """The attempt has the answer, and has not asked a provider."""
    ANSWERING = "answering"
    """The provider writes."""
    SETTLING = "settling"
    """Nothing more is taken; what was taken is being appended."""
    CALLING = "calling"
    """Tools run, or somebody is asked about their calls."""
    CARRYING_OUT = "carrying out"
    """The verdict stands: the answer ends, or is left to another attempt."""
    OVER = "over"
    """The answer ended, or is another attempt's."""


class Act(Enum):
    """An act that the attempt carries out, in the order given."""

    ASK = auto()
    """Ask the provider, and take what it sends until it ends or is left."""
    LEAVE_PROVIDER = auto()
    """Take nothing more. (If the provider has ended, its stream is closed already.)"""
    CALL = auto()
    """See to the calls of the turn; then give `Answered`, `Parked` or `Finished`."""
    STOP_CALLS = auto()
    """Begin no further call, and stop those that run."""
    RELEASE = auto()
    """Give up the lease of a row that waits, and enqueue its job if it waits no more."""
    FLUSH = auto()
    """Show a waiting half character. After a broken stream, the next attempt shows it whole."""
    AWAIT_PROVIDER = auto()
    """Wait until its stream is closed: it may yet name the run that continues without us."""
    ABANDON_WAITING = auto()
    """Drop what waits. The batch under way may be in the log: its outcome must be known."""
    ABANDON_ALL = auto()
    """Drop what waits and the batch under way."""
    SETTLE = auto()
    """Wait until the log has everything; then give `Settled`, `Paused`, `Misfit` or `Called`."""
    LEAVE_RUN = auto()
    """Note the provider's run, so that it can be ended, or forget it."""
    CARRY_OUT = auto()
    """Carry the verdict out; then give `CarriedOut`, or `Released` if another attempt follows."""
    REQUEUE = auto()
    """Enqueue the job of the next attempt."""
    CANCEL = auto()
    """End the answer as the cancel that waits behind the verdict asks, as if no worker had it."""


AT_ONCE = frozenset(
    {Act.LEAVE_PROVIDER, Act.STOP_CALLS, Act.FLUSH, Act.ABANDON_WAITING, Act.ABANDON_ALL}
)
"""Acts that wait for nothing, done before the next input is given. The table names them first."""


@dataclass(frozen=True, slots=True)
class Transition:
    """A cell of the table: the next state, and the acts on the way."""

    state: AttemptState
    acts: tuple[Act, ...] = ()


class Cell(Enum):
    """A cell of the table that is no transition."""

    NOTHING = "-"
    """The input comes too late to matter."""
    BEHIND = "behind"
    """The input waits behind the verdict, and counts if the answer continues."""
    IMPOSSIBLE = "!"
    """The input cannot occur in this state: a bug of ours."""


CLAIMED, ANSWERING, SETTLING, CALLING, CARRYING_OUT, OVER = AttemptState
NOTHING, BEHIND, IMPOSSIBLE = Cell


def _to(state: AttemptState, *acts: Act) -> Transition:
    return Transition(state, acts)


# fmt: off
TABLE: dict[AttemptState, dict[type[Input], Transition | Cell]] = {
    CLAIMED: {
        Begin:       _to(ANSWERING, Act.ASK),
        CallsLeft:   _to(CALLING, Act.CALL),
        Finished:    IMPOSSIBLE,
        Failed:      _to(SETTLING, Act.SETTLE),
        Unwritable:  _to(SETTLING, Act.SETTLE),
        HandedOver:  _to(SETTLING, Act.SETTLE),
        CancelAsked: _to(SETTLING, Act.ABANDON_WAITING, Act.SETTLE),
        Disowned:    _to(OVER, Act.ABANDON_ALL),
        Settled:     IMPOSSIBLE,
        Paused:      IMPOSSIBLE,
        Misfit:      IMPOSSIBLE,
        Called:      IMPOSSIBLE,
        Answered:    IMPOSSIBLE,
        Parked:      IMPOSSIBLE,
        Released:    IMPOSSIBLE,
        CarriedOut:  IMPOSSIBLE,
    },
    ANSWERING: {
        Begin:       IMPOSSIBLE,
        CallsLeft:   IMPOSSIBLE,
        Finished:    _to(SETTLING, Act.FLUSH, Act.AWAIT_PROVIDER, Act.SETTLE),
        Failed:      _to(SETTLING, Act.LEAVE_PROVIDER, Act.AWAIT_PROVIDER, Act.SETTLE),
        Unwritable:  _to(SETTLING, Act.LEAVE_PROVIDER, Act.AWAIT_PROVIDER, Act.SETTLE),
        HandedOver:  _to(SETTLING, Act.LEAVE_PROVIDER, Act.AWAIT_PROVIDER, Act.SETTLE),
        CancelAsked: _to(SETTLING, Act.LEAVE_PROVIDER, Act.ABANDON_WAITING, Act.SETTLE),
        Disowned:    _to(OVER, Act.LEAVE_PROVIDER, Act.ABANDON_ALL, Act.LEAVE_RUN),
        Settled:     IMPOSSIBLE,
        Paused:      IMPOSSIBLE,
        Misfit:      IMPOSSIBLE,
        Called:      IMPOSSIBLE,
        Answered:    IMPOSSIBLE,
        Parked:      IMPOSSIBLE,
        Released:    IMPOSSIBLE,
        CarriedOut:  IMPOSSIBLE,
    },
    SETTLING: {
        Begin:       NOTHING,  # it had to stop before it began
        CallsLeft:   NOTHING,
        Finished:    NOTHING,
        Failed:      NOTHING,
        Unwritable:  _to(SETTLING),
        HandedOver:  BEHIND,
        CancelAsked: _to(SETTLING, Act.ABANDON_WAITING),
        Disowned:    _to(OVER, Act.ABANDON_ALL, Act.LEAVE_RUN),
        Settled:     _to(CARRYING_OUT, Act.LEAVE_RUN, Act.CARRY_OUT),
        Paused:      _to(ANSWERING, Act.ASK),  # or as Settled, if a hand-over waits
        Misfit:      _to(ANSWERING, Act.ASK),
        Called:      _to(CALLING, Act.CALL),
        Answered:    IMPOSSIBLE,
        Parked:      IMPOSSIBLE,
        Released:    IMPOSSIBLE,
        CarriedOut:  IMPOSSIBLE,
    },
    CALLING: {
        Begin:       IMPOSSIBLE,
        CallsLeft:   IMPOSSIBLE,
        Finished:    _to(SETTLING, Act.SETTLE),  # what is left is for the program that asked
        Failed:      _to(SETTLING, Act.STOP_CALLS, Act.SETTLE),
        Unwritable:  _to(SETTLING, Act.STOP_CALLS, Act.SETTLE),
        HandedOver:  _to(SETTLING, Act.STOP_CALLS, Act.SETTLE),
        CancelAsked: _to(SETTLING, Act.STOP_CALLS, Act.ABANDON_WAITING, Act.SETTLE),
        Disowned:    _to(OVER, Act.STOP_CALLS, Act.ABANDON_ALL),
        Settled:     IMPOSSIBLE,
        Paused:      IMPOSSIBLE,
        Misfit:      IMPOSSIBLE,
        Called:      IMPOSSIBLE,
        Answered:    _to(ANSWERING, Act.ASK),
        Parked:      _to(OVER, Act.RELEASE),
        Released:    IMPOSSIBLE,
        CarriedOut:  IMPOSSIBLE,
    },
    CARRYING_OUT: {
        Begin:       IMPOSSIBLE,
        CallsLeft:   IMPOSSIBLE,
        Finished:    NOTHING,
        Failed:      NOTHING,
        Unwritable:  NOTHING,
        HandedOver:  NOTHING,
        CancelAsked: BEHIND,
        Disowned:    _to(OVER, Act.ABANDON_ALL),
        Settled:     IMPOSSIBLE,
        Paused:      IMPOSSIBLE,
        Misfit:      IMPOSSIBLE,
        Called:      IMPOSSIBLE,
        Answered:    IMPOSSIBLE,
        Parked:      IMPOSSIBLE,
        Released:    _to(OVER, Act.REQUEUE),  # or CANCEL, if a cancel waits
        CarriedOut:  _to(OVER),
    },
    OVER: {
        Begin:       NOTHING,
        CallsLeft:   NOTHING,
        Finished:    NOTHING,
        Failed:      NOTHING,
        Unwritable:  NOTHING,
        HandedOver:  NOTHING,
        CancelAsked: NOTHING,
        Disowned:    NOTHING,
        Settled:     NOTHING,
        Paused:      NOTHING,
        Misfit:      NOTHING,
        Called:      NOTHING,
        Answered:    NOTHING,
        Parked:      NOTHING,
        Released:    NOTHING,
        CarriedOut:  NOTHING,
    },
}
# fmt: on


class Impossible(Exception):
    """An input in a state in which nobody can give it: a bug of ours."""


class Lifecycle:
    """One attempt's life. `verdict`: why it ends; `behind`: what came too late to be that."""

    def __init__(self) -> None:
        self.state = CLAIMED
        self.verdict: Verdict | None = None
        self.behind: Verdict | None = None

    def take(self, given: Input) -> tuple[Act, ...]:
        """The acts that follow, in order. Raises Impossible, and changes nothing then."""
        cell = TABLE[self.state][type(given)]
        if cell is IMPOSSIBLE:
            raise Impossible(f"{type(given).__name__} while {self.state.value}")
        if isinstance(given, Verdict) and not self._counts(given, cell):
            return ()
        if not isinstance(cell, Transition):
            return ()
        if isinstance(given, Paused | Misfit | Called) and not self._resumes():
            return self.take(Settled())
        self.state = cell.state
        if isinstance(given, Released) and isinstance(self.behind, CancelAsked):
            return (Act.CANCEL,)
        return cell.acts

    def _counts(self, given: Verdict, cell: Transition | Cell) -> bool:
        """Whether it is the verdict now."""
        if cell is BEHIND and outranks(given, self.behind):
            self.behind = given
        if not (isinstance(cell, Transition) and outranks(given, self.verdict)):
            return False
        self.verdict = given
        return True

    def _resumes(self) -> bool:
        """Whether this attempt resumes the turn. A hand-over that waits takes the answer away."""
        if isinstance(self.verdict, Finished):
            self.verdict, self.behind = self.behind, None
        return self.verdict is None
