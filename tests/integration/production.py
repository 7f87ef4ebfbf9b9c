"""A web process in production mode, and how its host application logs people in."""

import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt

from tests.integration.serving import Web, serving

KEY = "the-host-application-signs-with-this"
PRODUCTION = {
    "mode": "production",
    "redis_url": "redis://127.0.0.1:1",
    "host_jwt_key": KEY,
    "forwarded_allow_ips": "127.0.0.1",
}
MIB = 1024 * 1024


def login(user: str) -> dict[str, str]:
    claims = {"sub": user, "exp": int(time.time()) + 600}
    return {"Authorization": f"Bearer {jwt.encode(claims, KEY, 'HS256')}"}


def line(user: str) -> str:
    return f"Authorization: {login(user)['Authorization']}"


@contextlib.asynccontextmanager
async def public(folder: Path, **settings: Any) -> AsyncIterator[Web]:
    """In production mode."""
    async with serving(folder, **PRODUCTION | settings) as web:
        yield web
