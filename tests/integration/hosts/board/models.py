"""The tables of the app, under the same names as ours."""

from typing import ClassVar

from django.db import models


class Conversation(models.Model):
    """A thread of a message board."""

    name = models.CharField(max_length=100)

    class Meta:
        """Where it is kept."""

        db_table = "conversations"


class Message(models.Model):
    """A note on it."""

    thread = models.ForeignKey(Conversation, on_delete=models.CASCADE)
    author = models.ForeignKey("auth.User", on_delete=models.CASCADE)
    body = models.TextField()

    class Meta:
        """Where it is kept."""

        db_table = "messages"
        indexes: ClassVar = [models.Index(fields=["body"], name="ix_messages_ended")]
