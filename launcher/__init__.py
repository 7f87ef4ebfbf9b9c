"""Development: one command that runs every process of the Procfile, and leaves nothing behind.

Production does not need it: any runner of Procfiles, systemd or containers start the same three
commands.
"""

if not __name__.startswith("tokenwire."):
    # A bare import would create a second copy of every class.
    raise ImportError("import tokenwire.launcher, not launcher")
