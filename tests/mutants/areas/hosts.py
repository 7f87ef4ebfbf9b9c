"""A database shared with a host application."""

from tests.mutants.mutant import Area, Mutant

_BESIDE = ("tests/integration/test_host_databases.py",)
_FORMER = ("tests/integration/test_former_versions.py",)

AREA = Area(
    "hosts",
    (*_FORMER, *_BESIDE),
    [
        Mutant(
            "any_revision_is_ours",
            "models/migrate.py",
            "found[0] in KNOWN",
            "found[0] is not None",
            _FORMER,
        ),
        Mutant(
            "two_revisions_are_one",
            "models/migrate.py",
            "== 1",
            "> 0",
            _FORMER,
        ),
        Mutant(
            "tables_of_our_names_are_ours",
            "models/migrate.py",
            " and columns <= {each",
            " or columns <= {each",
            _FORMER,
        ),
        Mutant(
            "one_of_our_tables_is_enough",
            "models/migrate.py",
            "and all(_has(",
            "and any(_has(",
            _FORMER,
        ),
        Mutant(
            "taken_names_are_not_looked_for",
            "models/migrate.py",
            "    if taken:\n",
            "    if False:\n",
            _BESIDE,
        ),
        Mutant(
            "the_former_revision_is_forgotten",
            "models/migrate.py",
            "command.stamp(config, former)",
            "pass",
            _FORMER,
        ),
        Mutant(
            "a_host_drops_our_tables",
            "models/hosts.py",
            "return not ours or",
            "return True or",
            _BESIDE,
        ),
        Mutant(
            "a_host_drops_our_version",
            "models/hosts.py",
            "{*Table.metadata.tables, str(VERSION.name)}",
            "Table.metadata.tables",
            _BESIDE,
        ),
        Mutant(
            "classes_are_shared_with_the_host",
            "models/tables.py",
            "class Table(SQLModel, registry=registry()):",
            "class Table(SQLModel):",
            _BESIDE,
        ),
        Mutant(
            "the_version_table_is_everybodys",
            "models/names.py",
            'table(named("tokenwire_version")',
            'table("alembic_version"',
            _BESIDE,
        ),
        Mutant(
            "an_index_has_a_bare_name",
            "models/migrations/versions/rev_0013_lately.py",
            """
        named(name), named(table), [when, "id"], sqlite_where=where, postgresql_where=where
    """,
            'name, named(table), [when, "id"], sqlite_where=where, postgresql_where=where',
            _BESIDE,
        ),
        Mutant(
            "a_prefix_in_capitals",
            "config/settings.py",
            '"([a-z_][a-z0-9_]*)?"',
            '"([A-Za-z_][A-Za-z0-9_]*)?"',
            ("tests/unit/config/test_settings.py",),
        ),
        Mutant(
            "another_name_of_a_row_is_unfinished",
            "models/sweeps.py",
            "is_unfinished(row), col(row.conversation_id) > after",
            "is_unfinished(Message), col(row.conversation_id) > after",
            ("tests/contracts/test_sweeps.py",),
        ),
    ],
)
