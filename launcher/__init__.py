"""Development: one command that runs every process of the Procfile on this machine, and leaves nothing behind.

Production needs none of this: any runner of Procfiles, systemd or containers start the same three commands.
"""

if not __name__.startswith("tokenwire."):
    # A second copy of every class would follow, and none of them would fit the first.
    raise ImportError("import tokenwire.launcher, not launcher")
