"""A continuation put together in one go, as a run does it piece by piece."""

from typing import Literal

from tokenwire.providers.seams import Seam


def stitch(
    rung: Literal["prefix", "turn"],
    held: str,
    text: str,
    *,
    stripped: bool = False,
    echoes: bool = False,
) -> str:
    """`held` continued by the whole new `text`, repetitions dropped; only `text` where the model began anew."""
    seam = Seam(rung, held, stripped=stripped, echoes=echoes)
    new = seam.push(text) + seam.end()
    return new if seam.over else held + new
