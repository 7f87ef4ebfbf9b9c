"""The tool itself: the list fits the code, a bug is planted and removed, and the verdicts are
right.
"""

import ast
from pathlib import Path

import pytest

from tests.mutants.__main__ import _verdict
from tests.mutants.areas import areas
from tests.mutants.mutant import Area, Mutant, Stale
from tests.mutants.tree import Tree
from tokenwire.config.settings import ROOT


@pytest.mark.parametrize("area", areas().values(), ids=areas())
def test_mutants_fit_the_code_and_their_checks_exist(area: Area) -> None:
    """A stale mutant would never be planted again, unnoticed."""
    for mutant in area.mutants:
        try:
            changed = mutant.applied((ROOT / mutant.file).read_text("utf-8"))
            if mutant.file.endswith(".py"):
                ast.parse(changed, mutant.file)
        except (Stale, SyntaxError) as error:
            pytest.fail(f"{area.name}/{mutant.name}: {error}")
        for check in area.checks_of(mutant):
            assert (ROOT / check.partition("::")[0]).exists(), f"{mutant.name}: {check}"


def test_names_are_unique() -> None:
    """A mutant is selected by its name."""
    for area in areas().values():
        names = [mutant.name for mutant in area.mutants]
        assert len(names) == len(set(names)), area.name


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A small project and its copy."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "thing.py").write_text("def double(n):\n    return n * 2\n")
    (project / "test_thing.py").write_text(
        "from thing import double\n\n\ndef test_double():\n    assert double(3) == 6\n"
    )
    return Tree(project)


@pytest.mark.timeout(600)  # four processes of pytest on a busy machine
def test_a_bug_is_noticed_survives_or_is_stale(tree: Tree) -> None:
    """Each verdict; afterwards the checkout and the copy are unchanged."""
    checks = ("test_thing.py",)
    before = (tree.path / "thing.py").read_text()
    noticed = Mutant("triple", "thing.py", "n * 2", "n * 3")
    harmless = Mutant("other_way_round", "thing.py", "n * 2", "2 * n")
    gone = Mutant("gone", "thing.py", "n * 4", "n")
    try:
        assert _verdict(tree, checks, None, 0.0)[0] == "sound"
        verdict, _, by = _verdict(tree, checks, noticed, 0.0)
        assert (verdict, by) == ("caught", "test_thing.py::test_double")
        assert _verdict(tree, checks, harmless, 0.0)[0] == "survived"
        assert _verdict(tree, checks, gone, 0.0)[0] == "stale"
        assert (tree.path / "thing.py").read_text() == before
    finally:
        tree.remove()


def test_a_text_that_occurs_twice_is_stale() -> None:
    """It is unclear which one is meant."""
    with pytest.raises(Stale, match="2 times"):
        Mutant("twice", "a.py", "x", "y").applied("x x")
