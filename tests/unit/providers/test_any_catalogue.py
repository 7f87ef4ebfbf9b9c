"""Any catalogue file in any environment gives a catalogue or one line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.examples import many
from tokenwire.config.settings import ROOT
from tokenwire.providers.catalogue import Catalogue, CatalogueError, load, parse, variables_of
from tokenwire.providers.presets import PRESETS
from tokenwire.providers.spec import LADDER

SECRET = "s3cret"
SHIPPED = (ROOT / "config" / "models.yml").read_text()
texts = st.sampled_from(
    [
        SECRET,
        f"http://{SECRET}/v1",
        f"http://u:{SECRET}@h/v1",
        f"http://h:{SECRET}/v1",
        f"http://[{SECRET}/v1",
        f"a\n{SECRET}",
        "${A}",
        "http://${A}/v1",
        "http://h/${B}${C}",
        "",
        " ",
        *LADDER,
    ]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts | st.binary()
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.integers(), inner)
    ),
    max_leaves=5,
)
right: dict[str, st.SearchStrategy[Any]] = {
    "model": st.sampled_from(["a", "${A}"]),
    "api": st.just("openai.chat"),
    "base_url": st.sampled_from(["http://h/v1", "http://${A}/v1"]),
    "api_key": st.sampled_from([SECRET, "${A}"]),
    "headers": st.dictionaries(st.sampled_from(["x-a", "x-b"]), st.sampled_from([SECRET, "${A}"])),
    "continuation": st.sampled_from(LADDER),
    "stall_seconds": st.floats(0.1, 9) | st.integers(1, 9),
    "context_tokens": st.integers(1, 9),
    "input_price": st.floats(0, 9),
    "output_price": st.floats(0, 9),
    "options": st.dictionaries(st.sampled_from(["x", "y"]), values),
}


@st.composite
def entries(draw: st.DrawFn) -> dict[str, Any]:
    """Mostly valid entries, so that each mistake occurs alone and some files have none."""
    known = ["demo", "ollama", "openai_compatible", *PRESETS]
    entry: dict[str, Any] = {"provider": draw(st.sampled_from(known))}
    for name in draw(st.lists(st.sampled_from(sorted(right)), max_size=4, unique=True)):
        entry[name] = draw(right[name])
    if draw(st.integers(0, 3)) == 0:
        field = draw(st.sampled_from(["provider", "name", "colour", *right]))
        entry[field] = draw(values) if field != "provider" else draw(st.integers() | st.none())
    return entry


models = st.dictionaries(
    st.sampled_from(["a", "b c", "4", "a\nb", "\x85x"]), entries(), min_size=1, max_size=3
)
documents = (
    st.builds(dict, models=models)
    | st.builds(dict, models=models, title_model=st.none())
    | st.builds(dict, models=models, default=st.none())
    | st.builds(dict, models=models, default=st.sampled_from(["", "a", 4, None]))
    | st.builds(dict, models=models, title_model=st.integers(), colour=values)
    | st.builds(dict, models=values)
    | values
)
environs = st.dictionaries(
    st.sampled_from(["A", "B", "C", "OPENAI_API_KEY"]), st.sampled_from([SECRET, f"\n{SECRET}", ""])
)


def outcome(read: Callable[[], object], path: str) -> object:
    """The catalogue; None for a mistake, which is one line with the file's name and no value."""
    try:
        return read()
    except CatalogueError as error:
        line = str(error)
        assert line.startswith(f"{path}: ")
        assert len(line.splitlines()) == 1
        assert SECRET not in line
        return None


@settings(max_examples=many(400))
@given(documents, environs)
@example({"models": {"m": {"provider": "demo"}}}, {})
def test_any_document(document: Any, environ: dict[str, str]) -> None:
    """The parts of a catalogue fit together."""
    found = outcome(lambda: parse(document, environ), "models.yml")
    if isinstance(found, Catalogue):
        assert found.default in found.models
        assert found.title_model in found.models
        assert not found.missing.keys() & found.models.keys()
        assert all(spec.name == name for name, spec in found.models.items())


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("catalogue") / "models.yml"


@settings(max_examples=many(200))
@given(
    cuts=st.tuples(st.integers(0, len(SHIPPED)), st.integers(0, len(SHIPPED))),
    put=st.text("{}[]:,&*!|>'\"%@`#?-\n\t ${}~0.eE+_\0\ud800\x85", max_size=8),
)
@example(cuts=(0, len(SHIPPED)), put="")
def test_any_text(file: Path, cuts: tuple[int, int], put: str) -> None:
    """The shipped file with a piece of it replaced."""
    start, end = sorted(cuts)
    text = SHIPPED[:start] + put + SHIPPED[end:]
    file.write_text(text, encoding="utf-8", errors="surrogatepass")
    outcome(
        lambda: load(file, dict.fromkeys(("OPENAI_API_KEY", "OLLAMA_MODEL"), SECRET)), str(file)
    )
    outcome(lambda: variables_of(file), str(file))
