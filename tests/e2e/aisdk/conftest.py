"""The real packages of the AI SDK (tests/js/aisdk, installed by npm when missing), and a stack for
them.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.stack import Stack, running_stack
from tests.js.packages import need_node, need_packages

PACKAGES = Path(__file__).parents[2] / "js" / "aisdk"
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
MODELS = """
default: demo
models:
  demo: {provider: demo, options: {tokens_per_second: 150}}
  unhurried: {provider: demo, options: {tokens_per_second: 20}}
  anew: {provider: demo, continuation: restart, options: {tokens_per_second: 150}}
  json: {provider: demo, options: {tokens_per_second: 50,
    text: '{"recipe": {"name": "Lasagne", "steps": ["one", "two", "three"]}}'}}
"""


@pytest.fixture(scope="session")
def node() -> str:
    """Node with the packages beside it. Without Node or network: a skip on a laptop, a failure in
    CI.
    """
    need_packages(PACKAGES)
    return need_node()


def run_node(node: str, *names: str, **environ: str) -> str:
    """Run test files in Node; every test of them must pass."""
    command = [node, "--test", *(str(PACKAGES / name) for name in names)]
    try:
        run = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
            env=os.environ | environ,
        )
    except subprocess.TimeoutExpired as error:
        said = (error.stdout or b"").decode()
        raise AssertionError(f"Node did not end: {said[-12_000:]}") from error
    assert run.returncode == 0, run.stdout[-12_000:] + run.stderr[-2_000:]
    assert "\n# pass 0\n" not in run.stdout
    return run.stdout


@pytest.fixture(scope="package")
def chat_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack with a fast demo model, a slow one, one that always starts over, and one that writes
    JSON, and with a schema of documents. Pages of one other origin may use it.
    """
    folder = tmp_path_factory.mktemp("chats")
    (folder / "models.yml").write_text(MODELS)
    (folder / "schemas.json").write_text(json.dumps({"city": CITY}))
    files = {"MODELS_FILE": "models.yml", "OBJECT_SCHEMAS_FILE": "schemas.json"}
    with running_stack(
        folder, **{name: str(folder / file) for name, file in files.items()}
    ) as running:
        yield running
