"""Pure: what a mutant is. One exact replacement in one file, in an area whose checks must fail with
it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field


class Stale(Exception):
    """The code has changed: the mutant's text does not occur exactly once any more."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """`old` occurs exactly once in `file` and becomes `new`. `checks`: replace the area's, if only
    these can notice it.
    """

    name: str
    file: str
    old: str
    new: str
    checks: Sequence[str] = ()

    def applied(self, source: str) -> str:
        """The file with the bug. Raises Stale."""
        count = source.count(self.old)
        if count != 1:
            raise Stale(f"{self.file} holds its text {count} times")
        return source.replace(self.old, self.new)


@dataclass(frozen=True, slots=True)
class Area:
    """Mutants with common checks: paths or node ids for pytest, fast ones first, in total under
    five minutes.
    """

    name: str
    checks: Sequence[str]
    mutants: Sequence[Mutant] = field(default_factory=list)

    def checks_of(self, mutant: Mutant) -> tuple[str, ...]:
        """The checks of this mutant."""
        return tuple(mutant.checks or self.checks)
