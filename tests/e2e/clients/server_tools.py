"""A tool of the server, for clients of OpenAI's API."""

from tokenwire.tools import tool


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b
