"""Programs that know OpenAI's API and call tools, unchanged, against a whole Tokenwire: OpenAI's
clients, their Agents SDK, LangChain, the AI SDK.
"""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.clients.packages import packages
from tests.e2e.stack import Stack, running_stack
from tests.js.packages import HERE, need_node, need_packages
from tokenwire.config.settings import ROOT

CLIENTS = Path(__file__).parent / "clients"
HOWS = ("whole", "streamed")
MODELS = "default: demo\nmodels: {demo: {provider: demo, options: {tokens_per_second: 0}}}\n"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    catalogue = folder / "models.yml"
    catalogue.write_text(MODELS)
    tools = {"TOOLS": "tests.e2e.clients.server_tools", "PYTHONPATH": str(ROOT)}
    tools["TOOLS_PAID_FILE"] = str(folder / "paid")
    with running_stack(folder, MODELS_FILE=str(catalogue), **tools) as running:
        yield running


def paid(stack: Stack, about: str) -> Counter[str]:
    """How often the tool ran, by whom it paid. `about`: a word of these names."""
    noted = stack.folder / "paid"
    names = noted.read_text().split() if noted.exists() else []
    return Counter(name for name in names if about in name)


def ran(script: str, stack: Stack, path: str) -> str:
    """The output of a script with `path` before all other packages."""
    run = subprocess.run(
        [sys.executable, str(CLIENTS / script), f"{stack.url}/v1"],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout.strip()


@pytest.mark.timeout(600)  # the packages are fetched once
@pytest.mark.long
@pytest.mark.parametrize("client", ["langchain", "agents"])
def test_a_python_client_calls_tools(stack: Stack, client: str) -> None:
    """Its own functions, in both dialects; the Agents SDK also tools of the server, with
    approvals.
    """
    assert ran(f"{client}_script.py", stack, str(packages(client))) == "ok"
    if client == "agents":  # each call that was allowed, once
        hows = [f"{how}{then}" for how in HOWS for then in ("", "-followed")]
        names = [f"agent-{word}-{how}" for word in ("allowed", "kept") for how in hows]
        assert paid(stack, "agent-") == Counter(names)


@pytest.mark.long
@pytest.mark.timeout(600)  # the packages are fetched once
@pytest.mark.parametrize(
    ("beside", "major"), [(None, "2."), pytest.param("langchain", "3.", marks=pytest.mark.long)]
)
def test_approvals_with_a_python_client(stack: Stack, beside: str | None, major: str) -> None:
    """Whole and streamed, followed and with a repeated history; a connection that breaks. Each call
    that was allowed runs once.
    """
    path = "" if beside is None else str(packages(beside))
    version = ran("approvals_script.py", stack, path)
    assert version.startswith(major)
    names = [f"{version}-{word}" for word in ("allowed", "repeated", "again")]
    assert paid(stack, version) == Counter(f"{n}-{how}" for n in names for how in HOWS)


@pytest.mark.timeout(600)  # the packages are fetched once
def test_clients_for_node_call_tools(stack: Stack) -> None:
    """The AI SDK with three providers, and OpenAI's own client."""
    folder = HERE / "openai"
    need_packages(folder)
    run = subprocess.run(
        [need_node(), "--test", str(folder / "tools.test.mjs")],
        env=os.environ | {"TOKENWIRE_URL": stack.url},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "\n# pass 9\n" in run.stdout
    assert paid(stack, "node-") == Counter(["node-false", "node-true"])
