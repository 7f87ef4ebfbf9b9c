"""web.admission.layer: what the gate decides from headers alone.
tests/integration/test_admission.py tests the rest on real sockets.
"""

import time
from typing import Any

import pytest

from tests.unit.web.admission.test_identity import PRODUCTION
from tests.unit.web.conftest import TOKEN_KEY, MakeApp
from tests.unit.web.test_refusal_forms import login
from tokenwire.protocol import tokens
from tokenwire.web.admission.layer import Caller
from tokenwire.web.problems import ApiProblem

EVENTS = "/api/conversations/c/events"


def scope(path: str, bearer: str, method: str = "GET") -> dict[str, Any]:
    headers = [(b"host", b"localhost"), (b"authorization", bearer.encode())]
    return {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "server": ("localhost", 80),
        "client": ("203.0.113.7", 5),
        "headers": headers,
    }


def token() -> str:
    return f"Bearer {tokens.mint(TOKEN_KEY, 'c', 'ada', 600, time.time())}"


def test_a_subscription_token_is_no_login(make_app: MakeApp) -> None:
    """It names the user whose limits count, for events alone; no route accepts it as a login."""
    gate = make_app(**PRODUCTION).state.gate
    assert gate.caller(scope(EVENTS, token())) == Caller("ada", "203.0.113.7", login=False)
    assert gate.caller(scope(EVENTS, login()["Authorization"])) == Caller(
        "ada", "203.0.113.7", login=True
    )
    for path, method in (
        (EVENTS, "POST"),
        ("/api/conversations/c", "GET"),
        ("/v1/responses", "POST"),
    ):
        with pytest.raises(ApiProblem):
            gate.caller(scope(path, token(), method))
