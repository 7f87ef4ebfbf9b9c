"""Tools of the server, for clients of OpenAI's API.

`pay` counts its runs itself: a line for each, in the file that `TOOLS_PAID_FILE` names.
"""

import os
from pathlib import Path

from tokenwire.tools import tool


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool(approve=True)
def pay(to: str) -> str:
    """Pay somebody."""
    with Path(os.environ["TOOLS_PAID_FILE"]).open("a") as file:
        file.write(f"{to}\n")
    return f"Paid {to}."
