"""Programs that know OpenAI's API and call tools, unchanged, against a whole Tokenwire: LangChain,
OpenAI's Agents SDK, the AI SDK.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.clients.packages import packages
from tests.e2e.stack import Stack, running_stack
from tests.js.packages import HERE, need_node, need_packages
from tokenwire.config.settings import ROOT

CLIENTS = Path(__file__).parent / "clients"
MODELS = "default: demo\nmodels: {demo: {provider: demo, options: {tokens_per_second: 0}}}\n"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    catalogue = folder / "models.yml"
    catalogue.write_text(MODELS)
    tools = {"TOOLS": "tests.e2e.clients.server_tools", "PYTHONPATH": str(ROOT)}
    with running_stack(folder, MODELS_FILE=str(catalogue), **tools) as running:
        yield running


@pytest.mark.timeout(600)  # the packages are fetched once
@pytest.mark.parametrize("client", ["langchain", pytest.param("agents", marks=pytest.mark.long)])
def test_a_python_client_calls_tools(stack: Stack, client: str) -> None:
    """Its own functions, in both dialects; the Agents SDK also tools of the server."""
    run = subprocess.run(
        [sys.executable, str(CLIENTS / f"{client}_script.py"), f"{stack.url}/v1"],
        env=os.environ | {"PYTHONPATH": str(packages(client))},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert (run.returncode, run.stdout) == (0, "ok\n"), run.stdout + run.stderr


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
    assert "\n# pass 7\n" in run.stdout
