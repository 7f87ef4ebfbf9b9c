"""The arguments of an HTTP tool: a JSON Schema from the catalogue, and the check of the JSON text
that a model (or a person, who edits it) wrote.

A schema that cannot be used is refused when the process starts. `worker/schemas.py` says what that
means, and what a check may cost.
"""

import json
from collections.abc import Mapping
from typing import Any

from tokenwire.protocol.text import input_object
from tokenwire.worker import schemas
from tokenwire.worker.schemas import BadSchema
from tokenwire.worker.tools.arguments import NO_OBJECT, BadArguments, refusal

MAX_ARGUMENT_BYTES = 64 * 1024
NOT_CHECKED = "The arguments could not be checked."


class NotChecked(BadArguments):
    """The check of the arguments took too long."""

    def __init__(self) -> None:
        super().__init__(NOT_CHECKED)


class SchemaReader:
    """The arguments of one tool, for a function that gets them as `arguments`."""

    context_name = "context"

    def __init__(
        self, schema: Mapping[str, Any], *, asker: str | None = None, was_checked: bool = False
    ) -> None:
        """Raises BadSchema, unless the schema was checked when it was stored. `asker`: whose schema
        it is (`schemas.in_turn`); None: the operator's.
        """
        self.asker = asker
        if not was_checked:
            if schema.get("type") != "object":
                raise BadSchema("#/type: must be object")
            schemas.require_usable_now(schema)
        self.schema = schema

    def read(self, text: str, cpu_seconds: float = schemas.CPU_SECONDS) -> dict[str, Any]:
        """The arguments by parameter. Raises BadArguments; BadSchema, if they could not be checked.
        Call it in a thread: a check may take some seconds.
        """
        if len(text.encode(errors="surrogatepass")) > MAX_ARGUMENT_BYTES:
            raise BadArguments(f"The arguments have more than {MAX_ARGUMENT_BYTES} bytes.")
        value = input_object(text)
        if value is None:
            raise BadArguments(NO_OBJECT)
        if found := schemas.mistakes(self.schema, json.dumps(value), cpu_seconds):
            raise BadArguments(refusal([(".".join(path), words) for path, words in found]))
        return {"arguments": value}
