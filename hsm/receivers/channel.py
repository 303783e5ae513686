"""Messages between the daemon and a receiver: small ones in JSON, with open files along."""

from __future__ import annotations

import array
import contextlib
import json
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

MESSAGE_BYTES_MAX: Final = 4096
FILES_MAX: Final = 2
SEND_SECONDS: Final = 5.0
"""The other side reads at once, or it hangs."""


@dataclass(frozen=True)
class Message:
    """What came: its kind, its values, and descriptors that are the receiver's to close."""

    kind: str
    values: dict[str, Any] = field(default_factory=dict)
    files: tuple[int, ...] = ()


class Channel:
    """One end of a pair. Messages keep their borders (SOCK_SEQPACKET), so any thread may send."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    @classmethod
    def pair(cls) -> tuple[Channel, socket.socket]:
        """A channel and the socket at its other end, for another process."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(SEND_SECONDS)
        return cls(ours), theirs

    @classmethod
    def at(cls, descriptor: int) -> Channel:
        end = socket.socket(fileno=descriptor)
        end.settimeout(SEND_SECONDS)
        return cls(end)

    def fileno(self) -> int:
        return self._end.fileno()

    def send(self, kind: str, files: Sequence[int] = (), **values: Any) -> None:
        """Send a message; the descriptors stay the caller's.

        :raises OSError: the other side is gone, or does not read.
        """
        data = json.dumps({"kind": kind, **values}).encode()
        if len(data) > MESSAGE_BYTES_MAX:
            raise ValueError(f"a message of {len(data)} bytes; put its bulk into a file")
        socket.send_fds(self._end, [data], list(files))

    def receive(self) -> Message | None:
        """The next message, or None when the other side is gone. Call it when there is one to read."""
        try:
            # Not socket.recv_fds(): what it receives would be inherited by the next process started.
            data, ancillary, _, _ = self._end.recvmsg(
                MESSAGE_BYTES_MAX, socket.CMSG_SPACE(FILES_MAX * array.array("i").itemsize), _RECEIVE_FLAGS
            )
        except ConnectionError:
            return None
        files = array.array("i")
        for level, kind, body in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                files.frombytes(body[: len(body) - len(body) % files.itemsize])
        if not data:
            return None
        values = json.loads(data)
        return Message(values.pop("kind"), values, tuple(files))

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._end.close()


_RECEIVE_FLAGS: Final = socket.MSG_CMSG_CLOEXEC


def put_in_file(data: bytes) -> int:
    """A descriptor of a file in memory that holds ``data``."""
    file = os.memfd_create("hsm", os.MFD_CLOEXEC)
    with open(file, "wb", closefd=False) as whole:
        whole.write(data)
    return file


def take_from_file(file: int) -> bytes:
    """What :func:`put_in_file` was given; closes the file."""
    with open(file, "rb") as whole:
        whole.seek(0)
        return whole.read()
