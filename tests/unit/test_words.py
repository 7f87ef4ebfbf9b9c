"""Names follow ARCHITECTURE.md, "Words": one word for each thing, one thing for each type name."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tokenwire.config.settings import ROOT

FOLDERS = (
    "benchmarks", "broadcaster", "client", "config", "examples", "launcher", "models", "protocol",
    "providers", "streams", "web", "worker",
)  # fmt: skip
FILES = [
    path
    for folder in FOLDERS
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "versions" not in path.parts  # a migration keeps the names of its day
]
WORDS = (ROOT / "ARCHITECTURE.md").read_text("utf-8").split("\n## Words\n")[1].split("\n## ")[0]


def _table(head: str) -> list[tuple[str, str]]:
    """The rows of the table with this heading."""
    rows = WORDS.split(f"{head}\n|---|---|\n")[1].split("\n\n")[0].splitlines()
    return [(word.strip(), rest.strip()) for word, rest in (row.split("|")[1:3] for row in rows)]


GLOSSARY = {word for word, _ in _table("| word | meaning |")}
VERBS = set(re.findall(r"\*\*(\w+)\*\*", WORDS))
INSTEAD = {
    word: others.split(", ")
    for words, others in _table("| not | but |")
    for word in words.split(", ")
}
"""Words that names do not use, and the words of the glossary to use instead."""
TYPE_NAME = re.compile(r"_?[A-Z][A-Za-z]*[a-z]")
"""Not a constant, nor a type variable of one letter."""
FORMS = {
    "told": "tell", "telling": "tell", "untold": "tell", "said": "say", "saying": "say",
    "looked": "look", "looking": "look",
}  # fmt: skip


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def _given(tree: ast.Module) -> Iterator[str]:
    """The names that a module gives: of classes, functions, arguments, variables and fields."""
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                yield name
            case ast.AsyncFunctionDef(name=name) | ast.arg(arg=name):
                yield name
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name


def _banned(name: str) -> bool:
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)
    return any(_stem(word.lower()) in INSTEAD for word in words)


def _stem(word: str) -> str:
    return FORMS.get(word, word.removesuffix("s"))


def _types(tree: ast.Module, file: str) -> Iterator[tuple[str, str]]:
    """The names of types that a module gives, and what each stands for.

    Classes anywhere; aliases (`Name = ...`) at the top; imports under another name.
    """
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef(name=name, lineno=line):
                yield name, f"{file}:{line}"
            case ast.ImportFrom(module=module, names=names):
                for found in names:
                    if found.asname not in (None, found.name):
                        yield found.asname or "", f"{module}.{found.name}"
    for node in tree.body:
        match node:
            case (
                ast.Assign(targets=[ast.Name(id=name)], lineno=line)
                | ast.AnnAssign(target=ast.Name(id=name), lineno=line)
            ) if TYPE_NAME.match(name):
                yield name, f"{file}:{line}"


def _given_twice(modules: Mapping[str, ast.Module]) -> dict[str, list[str]]:
    meanings = defaultdict(set)
    for file, tree in modules.items():
        for name, meaning in _types(tree, file):
            meanings[name.lstrip("_")].add(meaning)
    return {name: sorted(found) for name, found in meanings.items() if len(found) > 1}


def test_a_type_name_occurs_once() -> None:
    """A search for a class, or for an alias of types, has one result. `_Name` is `Name`."""
    assert _given_twice({str(path.relative_to(ROOT)): _tree(path) for path in FILES}) == {}


@pytest.mark.parametrize(
    "other", ["Row = dict", "Row: TypeAlias = dict", "import m\nfrom m import X as Row"]
)
def test_an_alias_with_the_name_of_a_class_is_found(other: str) -> None:
    """The same import in many modules is one meaning."""
    same = "from m import X as Other\nT = 1\nLIMIT = 1\n"
    modules = {"a": ast.parse(f"{same}class Row: pass"), "b": ast.parse(same + other)}
    assert list(_given_twice(modules)) == ["Row"]


def test_names_use_the_words_of_the_glossary() -> None:
    """Names of modules, too."""
    found = {}
    for path in FILES:
        names = {name for name in [path.stem, *_given(_tree(path))] if _banned(name)}
        if names:
            found[str(path.relative_to(ROOT))] = names
    assert found == {}, INSTEAD


def test_what_to_say_instead_is_in_the_glossary() -> None:
    """And no word of the glossary is banned."""
    assert INSTEAD
    assert {word for words in INSTEAD.values() for word in words} <= GLOSSARY | VERBS
    assert not (GLOSSARY | VERBS) & INSTEAD.keys()


def test_a_banned_word_is_found_in_each_kind_of_name() -> None:
    """A part of another word does not count."""
    source = "class Viewer: pass\ndef _told(looks): x.position = said = 1\nessay = 1\n"
    names = [name for name in _given(ast.parse(source)) if _banned(name)]
    assert sorted(names) == ["Viewer", "_told", "looks", "position", "said"]
