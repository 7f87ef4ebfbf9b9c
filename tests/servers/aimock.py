"""aimock (the npm package `@copilotkit/aimock`): OpenAI chat and responses, Anthropic, Gemini and
Ollama on one port, with faults.

Answers come from fixture files: `{"fixtures": [{"match": {"userMessage": "hello"}, "response":
{"content": "Hi!"}}]}`.
"""

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.servers.service import CACHE, NotInstalled, free_port, run, serving

_PACKAGE = "@copilotkit/aimock@1.43.0"
_HOME = CACHE / "aimock"
_PROGRAM = _HOME / "node_modules" / ".bin" / "llmock"


def install() -> None:
    """Fetch it once (12 MB). Raises NotInstalled."""
    if _PROGRAM.exists():
        return
    if shutil.which("npm") is None:
        raise NotInstalled("aimock: needs Node.js and npm")
    run("npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", _HOME, _PACKAGE)


@contextlib.contextmanager
def start(
    fixtures: Sequence[dict[str, Any]], *options: str, port: int | None = None
) -> Iterator[str]:
    """Run it with fixtures and its own options (`--latency 20`, `--chaos-disconnect 1`, ...).

    Yields `http://127.0.0.1:<port>`: OpenAI under /v1, Anthropic under /v1/messages, Gemini under
    /v1beta, Ollama under /api.
    """
    port = port or free_port()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fixtures.json"
        path.write_text(json.dumps({"fixtures": list(fixtures)}))
        argv = [_PROGRAM, "--port", str(port), "--fixtures", path, "--strict", *options]
        with serving(argv, f"http://127.0.0.1:{port}/health"):
            yield f"http://127.0.0.1:{port}"
