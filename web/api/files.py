"""The route for files that are parts of answers (PROTOCOL.md, section 6).

A model, or somebody who has steered it, chose these bytes and their type. So only types that a
browser shows without running anything are shown; all others are downloads.
"""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from tokenwire.protocol.files import ANY_MEDIA_TYPE
from tokenwire.web.problems import documented
from tokenwire.web.services import CurrentUser, JsonRoute, MessageId, With

router = APIRouter(
    prefix="/api",
    route_class=JsonRoute,
    responses=documented("unauthenticated", "unknown_host", "internal", "damaged", "unavailable"),
)
SHOWN = {
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/gif": "gif",
    "image/webp": "webp",
    "image/avif": "avif",
    "audio/mpeg": "mp3",
    "audio/wav": "wav",
    "video/mp4": "mp4",
    "video/webm": "webm",
}
"""Types that a browser may show, and their file names. No SVG: it can hold scripts."""
Digest = Annotated[str, Path(pattern="^[0-9a-f]{64}$")]


@router.get(
    "/messages/{message_id}/files/{digest}",
    responses=documented("not_found", "invalid") | {200: {"content": {ANY_MEDIA_TYPE: {}}}},
    response_class=Response,
    summary="A file that an answer holds",
)
async def read_file(
    services: With, user: CurrentUser, message_id: MessageId, digest: Digest
) -> Response:
    """Send a file. Its address holds the digest of its bytes, so it may be cached for ever."""
    found = await services.store.visible_file(message_id, digest, user)
    ending = SHOWN.get(found.media_type)
    kind = "attachment" if ending is None else "inline"
    headers = {
        "Cache-Control": "private, max-age=31536000, immutable",
        "Content-Disposition": f'{kind}; filename="{digest[:16]}.{ending or "bin"}"',
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "X-Content-Type-Options": "nosniff",
    }
    media_type = found.media_type if ending else ANY_MEDIA_TYPE
    return Response(found.data, media_type=media_type, headers=headers)
