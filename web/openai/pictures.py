"""Stored images of an answer, for its items in a Response.

An image is shown if it fits, with those before it, into MAX_FILE_BYTES. So a Response stays small
enough to be sent, and a stream shows the same images live and again. A larger one keeps its item,
with `result` null: its bytes are at the address of its part.
"""

import base64
import contextlib

from tokenwire.models.errors import NotFound
from tokenwire.protocol.files import digest_in
from tokenwire.protocol.fold import Answer
from tokenwire.web.openai.items import fitting_pictures
from tokenwire.web.services import WebServices


class Pictures:
    """The images of one answer that were read so far. `shown`: their base64, by address."""

    def __init__(self, services: WebServices, user: str) -> None:
        self._services, self._user = services, user
        self.shown: dict[str, str] = {}

    async def read(self, answer: Answer) -> None:
        """Read the images that the answer holds now. Raises StoreUnavailable."""
        most = self._services.settings.max_file_bytes
        for address in fitting_pictures(answer, most):
            digest = digest_in(address, answer.id)
            if digest is not None and address not in self.shown:
                with contextlib.suppress(NotFound):  # its conversation is being deleted
                    found = await self._services.store.visible_file(answer.id, digest, self._user)
                    self.shown[address] = base64.b64encode(found.data).decode()
