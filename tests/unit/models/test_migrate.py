"""models.migrate: the command line."""

import stat
from pathlib import Path

import pytest

from tokenwire.models import migrate
from tokenwire.models.store import Store


def run(monkeypatch: pytest.MonkeyPatch, url: str) -> int:
    monkeypatch.setenv("MODE", "development")
    monkeypatch.setenv("DATABASE_URL", url)
    return migrate.main()


def test_the_folder_is_made_and_a_second_run_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first run migrates; the second finds nothing to do."""
    url = f"sqlite:///{tmp_path}/deep/er/tokenwire.db"
    assert run(monkeypatch, url) == 0
    assert "migrated to revision" in capsys.readouterr().out
    assert run(monkeypatch, url) == 0
    assert "is at revision" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("url", "code", "says"),
    [
        ("sqlite:///:memory:", 78, "DATABASE_URL"),
        ("postgresql://nobody@127.0.0.1:1/none", 1, "cannot be migrated"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(
    url: str,
    code: int,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The operator sees no stack trace; the exit code tells a wrong setting from an absent
    server.
    """
    assert run(monkeypatch, url) == code
    assert says in capsys.readouterr().err


def test_a_database_from_the_future_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A revision that these scripts do not know is left alone."""
    url = f"sqlite:///{tmp_path}/future.db"
    assert run(monkeypatch, url) == 0
    engine = migrate._open(url)
    with engine.execution_options(writes=True).begin() as connection:
        connection.exec_driver_sql("UPDATE tokenwire_version SET version_num = '9999'")
    engine.dispose()
    assert run(monkeypatch, url) == 1
    assert "9999" in capsys.readouterr().err


async def test_a_new_file_is_its_owners_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file holds everybody's messages; so do the files that SQLite puts beside it."""
    assert run(monkeypatch, f"sqlite:///{tmp_path}/new/private.db") == 0
    store = Store.open(f"sqlite:///{tmp_path}/new/private.db")
    try:
        await store.create_conversation("me")
        rights = {
            path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "new").iterdir()
        }
    finally:
        await store.aclose()
    assert rights == {"private.db": 0o600, "private.db-wal": 0o600, "private.db-shm": 0o600}
