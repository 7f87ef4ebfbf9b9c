"""A continuation joined in one go, as a run does it piece by piece."""

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
    """`held` continued by the whole new `text` without repetitions, or `text` alone if the model
    started over.
    """
    seam = Seam(rung, held, stripped=stripped, echoes=echoes)
    new = seam.push(text) + seam.end()
    return new if seam.over else held + new
