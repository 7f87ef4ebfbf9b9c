"""Development: one command that runs every process of the Procfile on this machine, and leaves nothing behind.

Production needs none of this: any runner of Procfiles, systemd or containers start the same three commands.
"""
