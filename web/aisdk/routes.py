"""The routes for clients of the AI SDK. docs/ai-sdk.md describes them.

`chat` answers `useChat`, `socket` its transport over WebSocket, `completions` answers
`useCompletion` and `useObject`.
"""

from fastapi import FastAPI

from tokenwire.web.aisdk import chat, completions, socket


def install(app: FastAPI) -> None:
    """Serve all of them."""
    for part in (chat, socket, completions):
        app.include_router(part.router)
