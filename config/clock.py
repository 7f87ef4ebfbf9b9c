"""The clock of running work: seconds of the event loop, which tests and simulations may set."""

import asyncio


def clock() -> float:
    """Seconds since some moment. They never go back."""
    return asyncio.get_running_loop().time()
