"""Language-model providers: one stream of deltas for all of them, and the catalogue of models.

Usable by itself: imports nothing of the project but the pure `protocol`.
"""

if not __name__.startswith("tokenwire."):
    # A second copy of every class would follow, and none of them would fit the first.
    raise ImportError("import tokenwire.providers, not providers")
