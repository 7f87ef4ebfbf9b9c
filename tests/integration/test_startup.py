"""Each process logs at its start, in one line without secrets, why the database or Redis cannot be
used, and when it can.
"""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.databases import Postgres
from tests.integration.processes import BROADCASTER, WEB, WORKER, Process, running
from tests.servers.service import free_port
from tests.valkey import Valkey
from tokenwire.models.migrate import migrate

WRONG = "not-the-password-at-all"
ROLE = "app"


def reasons(process: Process, service: str) -> list[str]:
    """The log lines with a reason for this service."""
    return [
        line
        for line in process.log.splitlines()
        if "cannot be used yet" in line and f"service={service}" in line
    ]


def _asks_for_passwords(server: Postgres) -> None:
    rules = server.folder / "data" / "pg_hba.conf"
    rules.write_text(f"host all {ROLE} 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
    server.execute(
        f"CREATE ROLE {ROLE} LOGIN PASSWORD 'right' IN ROLE pg_read_all_data, pg_write_all_data"
    )
    server.execute("SELECT pg_reload_conf()")


@pytest.mark.sampled(1)
@pytest.mark.parametrize("program", [WEB, WORKER], ids=["web", "worker"])
def test_a_database_that_refuses_the_login(
    tmp_path: Path, own_postgres: Postgres, valkey_url: str, program: Sequence[str]
) -> None:
    """In the server's own words; after the password is corrected, a line says that it works,
    without a restart.
    """
    migrate(own_postgres.url)
    _asks_for_passwords(own_postgres)
    url = own_postgres.url.replace("://tokenwire@", f"://{ROLE}:{WRONG}@")
    with running(
        tmp_path, program, DATABASE_URL=url, REDIS_URL=valkey_url, PORT=str(free_port())
    ) as process:
        assert f'password authentication failed for user "{ROLE}"' in process.says(
            "cannot be used yet"
        )
        own_postgres.execute(f"ALTER ROLE {ROLE} PASSWORD '{WRONG}'")
        assert "service=database" in process.says("can be used now")
        assert (len(reasons(process, "database")), reasons(process, "redis")) == (1, [])
        assert WRONG not in process.log


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    "program", [WEB, WORKER, BROADCASTER], ids=["web", "worker", "broadcaster"]
)
def test_a_redis_that_refuses_the_login(
    tmp_path: Path, valkey: Valkey, program: Sequence[str]
) -> None:
    """The same."""
    database = f"sqlite:///{tmp_path}/rows.db"
    migrate(database)
    with valkey.client() as client:
        client.config_set("requirepass", "right")
        ports = {"PORT": str(free_port()), "BROADCASTER_PORT": str(free_port())}
        given = {
            "DATABASE_URL": database,
            "REDIS_URL": valkey.url.replace("://", f"://:{WRONG}@"),
            **ports,
        }
        with running(tmp_path, program, **given) as process:
            line = process.says("cannot be used yet")
            assert "service=redis" in line
            assert "invalid username-password pair" in line
            client.config_set("requirepass", WRONG)
            assert "service=redis" in process.says("can be used now")
            assert len(reasons(process, "redis")) == 1
            assert WRONG not in process.log
