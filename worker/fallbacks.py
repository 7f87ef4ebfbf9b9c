"""Pure: which model answers if the model of an answer cannot (`fallback` in the catalogue)."""

from tokenwire.models.tables import Message
from tokenwire.providers.catalogue import Catalogue
from tokenwire.providers.parameters import refusal_by
from tokenwire.worker.context import options


def next_model(catalogue: Catalogue, row: Message) -> str | None:
    """The next one in the list of the answer's first model. None: there is none.

    A model that is left out of the catalogue is passed over, and so is one that does not take the
    answer's parameters.
    """
    first = catalogue.models.get(row.first_model or row.model or "")
    if first is None:
        return None
    names = [first.name, *first.fallback]
    if row.model not in names:
        return None
    for name in names[names.index(row.model) + 1 :]:
        spec = catalogue.models.get(name)
        if spec is not None and refusal_by(spec, options(row)) is None:
            return name
    return None
