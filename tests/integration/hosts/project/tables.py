"""The project's tables."""

from sqlmodel import Field, Relationship, SQLModel


class Conversation(SQLModel, table=True):
    """A thread of its own."""

    __tablename__ = "conversations"

    id: int | None = Field(default=None, primary_key=True)
    name: str
    messages: list["Message"] = Relationship(back_populates="thread")


class Message(SQLModel, table=True):
    """A note of its own; its relationships find classes by name."""

    __tablename__ = "messages"

    id: int | None = Field(default=None, primary_key=True)
    thread_id: int = Field(foreign_key="conversations.id")
    body: str = Field(index=True)
    thread: Conversation = Relationship(back_populates="messages")
