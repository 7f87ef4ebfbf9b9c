"""What an operator may set: `settings` reads the environment and `.env`.

Imports nothing of the project.
"""

if not __name__.startswith("tokenwire."):
    # A second copy of every class would follow, and none of them would fit the first.
    raise ImportError("import tokenwire.config, not config")
