"""The operator's settings: `settings` reads the environment and `.env`.

Imports nothing of the project.
"""

if not __name__.startswith("tokenwire."):
    # A bare import would create a second copy of every class.
    raise ImportError("import tokenwire.config, not config")
