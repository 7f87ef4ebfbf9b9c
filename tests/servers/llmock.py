"""llmock (PyPI): OpenAI, Anthropic, Gemini and others, each with its own error forms and stream
faults.

It also checks its clients. It has its own virtual environment, since it brings its own web
framework.
"""

import contextlib
import sys
from collections.abc import Iterator

from tests.servers.service import CACHE, free_port, run, serving

_PACKAGE = "llmock==0.2.2"
_HOME = CACHE / "llmock"
_PROGRAM = _HOME / "bin" / "llmock"


def install() -> None:
    """Fetch it once (84 MB). Raises NotInstalled."""
    if not _PROGRAM.exists():
        uv = [sys.executable, "-m", "uv"]
        run(*uv, "venv", "--quiet", "--python", sys.executable, _HOME)
        run(*uv, "pip", "install", "--quiet", "--python", _HOME / "bin" / "python", _PACKAGE)


@contextlib.contextmanager
def start(*options: str, port: int | None = None) -> Iterator[str]:
    """Run it with its own options (`--error-rate 429=1`, `--stream-fault truncate=1`, ...); yields
    `http://127.0.0.1:<port>`.
    """
    port = port or free_port()
    with serving(
        [_PROGRAM, "serve", "--port", str(port), *options], f"http://127.0.0.1:{port}/health"
    ):
        yield f"http://127.0.0.1:{port}"
