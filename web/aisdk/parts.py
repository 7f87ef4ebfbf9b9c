"""Pure: parts of an answer with one form, as a chunk and as a part of a UI message."""

from collections.abc import Mapping
from typing import Any

from tokenwire.protocol.files import ANY_MEDIA_TYPE
from tokenwire.protocol.fold import Part
from tokenwire.web.aisdk.values import UIChunk
from tokenwire.web.aisdk.writer import Writer


def plain(write: Writer, number: int, part: Part) -> list[UIChunk]:
    """A source, file, data or provider part with this number; none if it cannot be shown."""
    fields = part.fields
    match part.type:
        case "source":
            return _source(write, f"source-{number}", fields)
        case "file" if have(fields, "url"):
            return write.file(fields["url"], _media_type(fields))
        case "data" if have(fields, "name"):
            part_id = fields["id"] if have(fields, "id") else f"part-{number}"
            return write.data(fields["name"], fields.get("data"), part_id=part_id)
        case "provider" if write.profile == "v7" and have(fields, "dialect", "kind"):
            return write.custom(f"{fields['dialect']}.{fields['kind']}")
        case _:
            return []


def is_shown(part: Part) -> bool:
    """Whether a text or a reasoning is shown: without text only where other parts may come first.

    A stream cannot know whether any text will follow them. So an empty part stays an empty part.
    """
    return part.units > 0 or "at" in part.fields


def have(fields: Mapping[str, Any], *names: str) -> bool:
    """Whether all of these are non-empty texts."""
    return all(isinstance(fields.get(name), str) and fields[name] for name in names)


def _source(write: Writer, source_id: str, fields: Mapping[str, Any]) -> list[UIChunk]:
    if have(fields, "url"):
        title = fields["title"] if have(fields, "title") else None
        return write.source_url(source_id, fields["url"], title)
    names = [fields[name] for name in ("title", "file_id", "address") if have(fields, name)]
    return write.source_document(source_id, _media_type(fields), names[0]) if names else []


def _media_type(fields: Mapping[str, Any]) -> str:
    return fields["media_type"] if have(fields, "media_type") else ANY_MEDIA_TYPE
