"""Frames over fd 3: one JSON object per line. Knows nothing of what the frames mean."""

import fcntl
import json
import os
import socket
from collections.abc import Callable, Mapping
from typing import Final, cast

Frame = Mapping[str, object]

FRAMES_FD: Final = 3
# User code that closes low descriptors in a loop does not reach this one.
PRIVATE_FD: Final = 200
READ_BYTES: Final = 1 << 18


class Channel:
    """The socket to the daemon. Reads never block; writes do, until all is sent."""

    def __init__(self) -> None:
        private = fcntl.fcntl(FRAMES_FD, fcntl.F_DUPFD_CLOEXEC, PRIVATE_FD)
        os.close(FRAMES_FD)
        self._socket = socket.socket(fileno=private)
        self._socket.setblocking(True)
        self._buffer = bytearray()
        self._encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode
        self._decode = json.JSONDecoder().decode

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._socket.fileno()

    def send(self, frame: Frame) -> None:
        """Sends one frame."""
        self._socket.sendall(self._encode(frame).encode() + b"\n")

    def receive(self, handle: Callable[[Frame], None]) -> bool:
        """Takes what has arrived and hands on complete frames; `False` when the daemon is gone."""
        try:
            data = self._socket.recv(READ_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        if not data:
            return False
        self._buffer += data
        while b"\n" in data:
            line, _, rest = bytes(self._buffer).partition(b"\n")
            self._buffer = bytearray(rest)
            data = rest
            handle(cast("Frame", self._decode(line.decode())))
        return True
