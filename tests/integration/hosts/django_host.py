"""A Django project:
`python -m tests.integration.hosts.django_host DATABASE_URL [migrate] [write]`."""

import sys
from urllib.parse import urlsplit

import django
from django.conf import settings
from django.core.management import call_command


def databases(url: str) -> dict[str, object]:
    """The address as Django's settings."""
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": parts.path[1:]}
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.path[1:],
        "USER": parts.username,
        "HOST": parts.hostname,
        "PORT": parts.port,
    }


def main(url: str, *commands: str) -> None:
    """Create the tables, write a note, then print all notes."""
    apps = ["django.contrib.contenttypes", "django.contrib.auth", "tests.integration.hosts.board"]
    settings.configure(
        DATABASES={"default": databases(url)},
        INSTALLED_APPS=apps,
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    )
    django.setup()
    from django.contrib.auth.models import User

    from tests.integration.hosts.board.models import Conversation, Message

    if "migrate" in commands:
        call_command("migrate", verbosity=0)
        call_command("makemigrations", check=True, dry_run=True, verbosity=0)
    if "write" in commands:
        author, _ = User.objects.get_or_create(username="ada")
        Message.objects.create(
            thread=Conversation.objects.create(name="board"), author=author, body="a note"
        )
    notes = [(note.author.username, note.thread.name, note.body) for note in Message.objects.all()]
    sys.stdout.write(f"{notes}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
