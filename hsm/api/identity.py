"""Who is at the other end of the unix socket, asked of the kernel and not of the caller."""

from __future__ import annotations

import asyncio
import pwd
import socket
import struct

from starlette.requests import Request
from uvicorn.protocols.http.h11_impl import H11Protocol

_UCRED = struct.Struct("3i")  # struct ucred of unix(7): pid, uid, gid
NAME_LENGTH_MAX = 80


class PeerProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, with the peer's user name and process id as ``scope["client"]``."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        peer = transport.get_extra_info("socket")
        if peer is not None and peer.family == socket.AF_UNIX:
            pid, uid, _ = _UCRED.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
            self.client = (user_name(uid), pid)


def user_name(uid: int) -> str:
    """The login name of ``uid``; ``uid 1234`` where the machine knows none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def actor(request: Request, claimed: str) -> str:
    """Who acts, for the journal: the kernel's answer, and the name the caller gave if it differs."""
    peer = request.client.host if request.client else "unknown"
    claimed = "".join(character for character in claimed if character.isprintable())[:NAME_LENGTH_MAX].strip()
    return peer if claimed in ("", peer) else f"{claimed} (as {peer})"
