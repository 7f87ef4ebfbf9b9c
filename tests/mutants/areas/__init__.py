"""The list: one module per area of the code, each with an `AREA`."""

import importlib
import pkgutil

from tests.mutants.mutant import Area


def areas() -> dict[str, Area]:
    """All areas by name."""
    found = [
        importlib.import_module(f"{__name__}.{module.name}").AREA
        for module in pkgutil.iter_modules(__path__)
    ]
    return {area.name: area for area in sorted(found, key=lambda area: area.name)}
