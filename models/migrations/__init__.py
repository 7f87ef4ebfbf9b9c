"""The history of the schema (alembic). `HEAD` is the newest revision: what a process of this
version needs.

It is written down here so that web and worker can compare it without loading alembic. A test keeps
it equal to the scripts.
"""

HEAD = "0023"
KNOWN = frozenset(f"{number:04}" for number in range(1, int(HEAD) + 1))
"""All revisions up to `HEAD`. They are numbered without a gap."""


def serves(revision: str | None) -> bool:
    """Whether a process of this version can work with a database at that revision.

    A newer revision is served, too: migrations run before the new processes start, and every
    revision leaves what the version before it uses.
    """
    return revision is not None and revision.isdecimal() and int(revision) >= int(HEAD)
