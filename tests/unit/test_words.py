"""Names follow ARCHITECTURE.md, "Words": one word for each thing, and no class name twice."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

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
INSTEAD = {
    "generation": "answer, attempt or draft",
    "viewer": "reader",
    "subscriber": "reader",
    "follower": "reader",
    "position": "cursor or offset",
    "tell": "announce, send or notify",
    "say": "emit, announce or send",
    "look": "check, read or probe",
    "deliver": "send",
}
"""Words that names do not use, and the words of the glossary to use instead."""
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


def test_a_class_name_occurs_once() -> None:
    """A search for a class has one result."""
    files = defaultdict(list)
    for path in FILES:
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.ClassDef):
                files[node.name].append(str(path.relative_to(ROOT)))
    twice = {name: found for name, found in files.items() if len(found) > 1}
    assert twice == {}


def test_names_use_the_words_of_the_glossary() -> None:
    """Names of modules, too."""
    found = {}
    for path in FILES:
        names = {name for name in [path.stem, *_given(_tree(path))] if _banned(name)}
        if names:
            found[str(path.relative_to(ROOT))] = names
    assert found == {}, INSTEAD


def test_a_banned_word_is_found_in_each_kind_of_name() -> None:
    """A part of another word does not count."""
    source = "class Viewer: pass\ndef _told(looks): x.position = said = 1\nessay = 1\n"
    names = [name for name in _given(ast.parse(source)) if _banned(name)]
    assert sorted(names) == ["Viewer", "_told", "looks", "position", "said"]
