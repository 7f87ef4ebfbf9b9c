"""A module that calls itself pure is one: the import contract knows it."""

import ast
import re
import tomllib
from collections.abc import Iterator

from tokenwire.config.settings import ROOT

FOLDERS = (
    "broadcaster", "client", "config", "launcher", "models", "protocol", "providers", "streams",
    "web", "worker",
)  # fmt: skip
CONTRACT = "Pure modules decide and touch nothing"


def proven() -> set[str]:
    """The source modules of the contract."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (contract,) = (each for each in settings["contracts"] if each["name"] == CONTRACT)
    return set(contract["source_modules"])


def called_pure() -> Iterator[str]:
    """Modules whose docstring begins so."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
            if text.startswith("Pure"):
                parts = path.relative_to(ROOT).with_suffix("").parts
                yield ".".join(("tokenwire", *parts)).removesuffix(".__init__")


def covers(pattern: str, name: str) -> bool:
    """Whether a line of the contract means this module, or a package around it."""
    plain = re.escape(pattern).replace(r"\*", "[^.]+")  # as import-linter reads a `*`
    return re.fullmatch(rf"{plain}(\..+)?", name) is not None


def test_a_module_that_calls_itself_pure_is_in_the_contract() -> None:
    """With its package, or by itself."""
    modules = proven()
    named = set(called_pure())
    missing = {name for name in named if not any(covers(module, name) for module in modules)}
    assert not missing
    assert len(named) > 60
