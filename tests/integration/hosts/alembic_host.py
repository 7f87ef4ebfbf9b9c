"""The project's command line: `python -m tests.integration.hosts.alembic_host DATABASE_URL
COMMAND...`.

A COMMAND is upgrade, downgrade, create_all, write, or revision=FOLDER.
"""

import shutil
import sys
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, create_engine
from sqlmodel import Session, SQLModel, select

from tests.integration.hosts.project.tables import Conversation, Message
from tokenwire.models.engines import driver_url

FOLDER = Path(__file__).parent / "project"


def config(url: str, folder: Path) -> Config:
    """The settings of alembic.ini."""
    found = Config()
    found.set_main_option("script_location", str(folder))
    found.set_main_option("sqlalchemy.url", url)
    return found


def autogenerate(url: str, folder: str) -> str:
    """Write a revision by `--autogenerate` into a copy of the project."""
    copy = Path(shutil.copytree(FOLDER, folder))
    command.revision(config(url, copy), "more", autogenerate=True, rev_id="0002")
    return next((copy / "versions").glob("0002_*.py")).read_text()


def write(engine: Engine) -> None:
    """A note in a thread."""
    with Session(engine) as session:
        session.add(Message(body="a note", thread=Conversation(name="board")))
        session.commit()


def read(engine: Engine) -> list[tuple[str, str]]:
    """All notes."""
    with Session(engine) as session:
        return [(note.thread.name, note.body) for note in session.exec(select(Message))]


def main(database_url: str, *commands: str) -> None:
    """Run the commands in order, then print all notes."""
    url = driver_url(database_url, asynchronous=False).render_as_string(hide_password=False)
    engine = create_engine(url)
    for each in commands:
        what, _, folder = each.partition("=")
        if what == "upgrade":
            command.upgrade(config(url, FOLDER), "head")
        elif what == "downgrade":
            command.downgrade(config(url, FOLDER), "base")
        elif what == "create_all":
            SQLModel.metadata.create_all(engine)
        elif what == "write":
            write(engine)
        elif what == "revision":
            sys.stdout.write(autogenerate(url, folder))
    sys.stdout.write(f"{read(engine)}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
