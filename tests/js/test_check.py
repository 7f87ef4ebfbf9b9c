"""The check of JavaScript finds mistakes, and is never skipped silently."""

import shutil
from pathlib import Path

import pytest

from tests.js import packages
from tests.js.check import ESLINT, PRETTIER, TYPES, main, run
from tests.js.packages import HERE, need_node, need_packages


@pytest.mark.parametrize(
    ("place", "source", "rule"),
    [
        ("web/page/static/x.js", "export const f = () => nowhere;", "no-undef"),
        (
            "web/page/static/x.js",
            "export const f = () => process.env;",
            "no-undef",
        ),  # the page has no `process`; tests have
        ("tests/js/x.mjs", "export const f = () => process.env;", None),
        ("web/page/static/x.js", "import { crc32 } from './tokenwire.js';", "no-unused-vars"),
        (
            "web/page/static/x.js",
            "export const f = (list) => list.map((one) => { one.x = 1; });",
            "array-callback-return",
        ),
        ("web/page/static/x.js", "export const f = (list) => list.map((one) => one.x);", None),
    ],
)
def test_mistakes_are_found(
    place: str, source: str, rule: str | None, capfd: pytest.CaptureFixture[str]
) -> None:
    """In the page by its own globals, in tests by Node's."""
    need_node()
    need_packages()
    code = run(*ESLINT, "--stdin", "--stdin-filename", place, standard_input=source)
    told = capfd.readouterr().out
    assert (code, rule is None or rule in told) == (int(rule is not None), True), told


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("export const f = (x) => x;\n", 0),
        ("export const f = x => x\n", 1),
        (f"f({'x + ' * 25}x);\n", 1),
    ],
)
def test_another_format_is_found(
    source: str, code: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Prettier's own, with lines of 100 columns."""
    need_node()
    need_packages()
    file = tmp_path / "x.js"
    file.write_text(source)
    assert run(*PRETTIER, "--check", str(file)) == code, capfd.readouterr()


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        ("written.js", "", "", ""),
        pytest.param(
            *("written.js", '#enter({ name: "live" })', '#enter({ name: "lively" })', '"lively"'),
            marks=pytest.mark.long,
        ),
        pytest.param(
            *("written.js", "export const hasEnded", "const hasEnded", "hasEnded"),
            marks=pytest.mark.long,
        ),
        pytest.param(
            "written.js",
            "export const hasEnded",
            "export const ended = 0;\nexport const hasEnded",
            "ended",
            marks=pytest.mark.long,
        ),
        (
            "tokenwire.d.ts",
            "readonly overfull: boolean;",
            "readonly overfull: string;",
            "'boolean'",
        ),
    ],
)
def test_wrong_types_are_found(
    file: str, old: str, new: str, says: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """In tokenwire.js itself, and between its exports and their declarations."""
    need_node()
    need_packages()
    types = shutil.copytree(HERE / "types", tmp_path / "types")
    source = (types / file).read_text()
    assert not old or source.count(old) == 1
    (types / file).write_text(source.replace(old, new) if old else source)
    code = run(*TYPES, str(types))
    told = capfd.readouterr().out
    assert (code, says in told) == (2 if old else 0, True), told


@pytest.mark.parametrize(("environment", "code"), [("", 0), ("true", 1)])
def test_without_node_it_is_reported(
    environment: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a laptop it passes; in CI, where everything is installed, it fails."""
    monkeypatch.setenv("CI", environment)
    monkeypatch.setattr(packages.shutil, "which", lambda _name: None)
    assert main() == code
    assert "JavaScript was not checked: node is not installed" in capsys.readouterr().err
