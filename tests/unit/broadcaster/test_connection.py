"""broadcaster.connection: changes to the library's behaviour."""

import pytest
from websockets.exceptions import ProtocolError
from websockets.frames import Frame, Opcode
from websockets.server import ServerProtocol

from tokenwire.broadcaster.connection import MAX_FRAGMENTS, _Protocol


def test_fragments_are_counted_for_each_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection may carry any number of messages; the frames of one message are limited."""
    monkeypatch.setattr(ServerProtocol, "recv_frame", lambda _self, _frame: None)
    protocol = _Protocol()
    for _ in range(3 * MAX_FRAGMENTS):
        protocol.recv_frame(Frame(Opcode.TEXT, b"{}"))
    for _ in range(MAX_FRAGMENTS - 1):
        protocol.recv_frame(Frame(Opcode.CONT, b"", fin=False))
    with pytest.raises(ProtocolError):
        protocol.recv_frame(Frame(Opcode.CONT, b"", fin=False))
