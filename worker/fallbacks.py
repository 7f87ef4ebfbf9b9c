"""Pure: which model answers if the model of an answer cannot (`fallback` in the catalogue)."""

from collections.abc import Mapping
from typing import Any

from tokenwire.providers.parameters import refusal_by
from tokenwire.providers.spec import ModelSpec


def next_model(
    models: Mapping[str, ModelSpec], first: str, present: str, options: Mapping[str, Any]
) -> str | None:
    """The one behind `present` in the list of the answer's first model. None: there is none.

    A model that is left out of the catalogue is passed over, and so is one that does not take the
    answer's parameters (`options`).
    """
    spec = models.get(first)
    names = [first, *spec.fallback] if spec is not None else []
    if present not in names:
        return None
    behind = (models.get(name) for name in names[names.index(present) + 1 :])
    fitting = (each for each in behind if each is not None and refusal_by(each, options) is None)
    return next((each.name for each in fitting), None)
