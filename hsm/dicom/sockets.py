"""Sockets: options that associations need, and ends of connections that other threads still use."""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import Final

RECEIVE_BYTES: Final = 2**20


def halt(sock: socket.socket, how: int) -> None:
    """Shut the connection down, whichever thread uses it and whether it is broken already.

    Not by ``SSLSocket.shutdown``: that one takes the encryption away from who reads and writes.
    """
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, how)


def say_goodbye(sock: ssl.SSLSocket) -> None:
    """Tell the other side of TLS that nothing more comes, if that can be said at once; on the thread
    that uses the connection."""
    with contextlib.suppress(OSError, ValueError):
        sock.settimeout(0)
        sock.unwrap()  # raises, because it does not wait for the answer


def drain(sock: socket.socket) -> None:
    """Throw away what has come: closing with something unread would take from the peer what was sent."""
    with contextlib.suppress(OSError):
        sock.settimeout(0)
        while socket.socket.recv(sock, RECEIVE_BYTES):
            pass


def set_options(sock: socket.socket, silence_seconds: float) -> None:
    """No delay for small writes; find out within ``silence_seconds`` that a peer has vanished."""
    with contextlib.suppress(OSError):  # a peer that closed at once: reading will tell
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if silence_seconds and hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(silence_seconds * 1000))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, int(silence_seconds / 2)))
    acknowledge_at_once(sock)


def acknowledge_at_once(sock: socket.socket) -> None:
    """Do not delay the next acknowledgement; the kernel forgets this, so it is said after each PDU.

    DCMTK writes a PDU's head and body apart and leaves Nagle's algorithm on: its body waits until
    our acknowledgement of the head comes, which the kernel would hold back for 40 ms.
    """
    if hasattr(socket, "TCP_QUICKACK"):
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
