"""Programs that know OpenAI's API and call tools, unchanged, against a whole Tokenwire: LangChain,
OpenAI's Agents SDK, the AI SDK.

Their packages do not fit beside those of the project. Each lock file names them all, and they are
fetched once into `var/`.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.stack import Stack, running_stack
from tests.exclusive import exclusive
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


def packages(lock: Path) -> Path:
    """The packages of a lock file, in a folder of their own."""
    folder = ROOT / "var" / "tests" / lock.stem
    stamp = folder / lock.name
    with exclusive(lock.stem):
        if not stamp.exists() or stamp.read_bytes() != lock.read_bytes():
            asked = [sys.executable, "-m", "pip", "install", "--quiet", "--require-hashes"]
            asked += ["--upgrade", "--target", str(folder), "-r", str(lock)]
            run = subprocess.run(asked, capture_output=True, text=True, timeout=300, check=False)
            if run.returncode:
                pytest.skip(f"the packages of {lock.name} cannot be fetched: {run.stderr}")
            stamp.write_bytes(lock.read_bytes())
    return folder


@pytest.mark.timeout(600)  # the packages are fetched once
@pytest.mark.parametrize("client", ["langchain", pytest.param("agents", marks=pytest.mark.long)])
def test_a_python_client_calls_tools(stack: Stack, client: str) -> None:
    """Its own functions, in both dialects; the Agents SDK also tools of the server."""
    run = subprocess.run(
        [sys.executable, str(CLIENTS / f"{client}_script.py"), f"{stack.url}/v1"],
        env=os.environ | {"PYTHONPATH": str(packages(CLIENTS / f"{client}.lock"))},
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
