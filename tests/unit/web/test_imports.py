"""Which modules of `providers` a web process loads."""

import subprocess
import sys

import pytest

LIGHT = {"catalogue", "cost", "parameters", "presets", "spec"}


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    "module", ["tokenwire.web.__main__", "tokenwire.web.app", "tokenwire.launcher.__main__"]
)
def test_web_loads_no_decoder_and_no_http_client(module: str) -> None:
    """The catalogue needs only pydantic and YAML: web starts fast and needs no provider's
    package.
    """
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    ours = {name.split(".")[2] for name in loaded if name.startswith("tokenwire.providers.")}
    assert ours == LIGHT
    assert not loaded & {"aiohttp", "httpx", "httpx_aiohttp"}
