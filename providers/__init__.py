"""Language-model providers: one stream of deltas for all of them, and the catalogue of models.

Usable by itself: imports only the pure `protocol` of the project.
"""

if not __name__.startswith("tokenwire."):
    # A bare import would create a second copy of every class.
    raise ImportError("import tokenwire.providers, not providers")
