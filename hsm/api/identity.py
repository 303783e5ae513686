"""Who is at the other end of the unix socket, asked of the kernel and not of the caller."""

from __future__ import annotations

import asyncio
import grp
import os
import pwd
import socket
import struct
from collections.abc import Hashable
from dataclasses import dataclass

from starlette.requests import Request

from hsm.api.caller import caller_of
from hsm.api.protocol import LimitedProtocol

_UCRED = struct.Struct("3i")  # struct ucred of unix(7): pid, uid, gid
NAME_LENGTH_MAX = 80


@dataclass(frozen=True, slots=True)
class UnixPeer:
    """What the kernel says of the process at the other end."""

    uid: int
    name: str
    pid: int


class PeerProtocol(LimitedProtocol):
    """HTTP/1.1 with the peer's user name and process id as ``scope["client"]``, and all that the
    kernel says as ``peer`` of ``scope["state"]``."""

    connections_max = 96  # consoles, scripts and monitoring may well share a user
    _uid: int | None = None

    def peer_key(self) -> Hashable:
        return self._uid

    def learn_peer(self, transport: asyncio.BaseTransport) -> None:
        peer = transport.get_extra_info("socket")
        if peer is not None and peer.family == socket.AF_UNIX:
            pid, uid, _ = _UCRED.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
            self._uid = uid
            self.client = (user_name(uid), pid)
            self.app_state = {**self.app_state, "peer": UnixPeer(uid, *self.client)}


def user_name(uid: int) -> str:
    """The login name of ``uid``; ``uid 1234`` where the machine knows none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def group_names(uid: int) -> frozenset[str]:
    """Of all groups that the machine's user with this number is in; none where there is no such user."""
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return frozenset()
    return frozenset(map(_group_name, os.getgrouplist(entry.pw_name, entry.pw_gid)))


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return f"gid {gid}"


def actor(request: Request, claimed: str) -> str:
    """Who acts, for the journal: the answer of the kernel or of a token, and the name the caller gave if it
    differs."""
    peer = caller_of(request).name
    claimed = "".join(character for character in claimed if character.isprintable())[:NAME_LENGTH_MAX].strip()
    return peer if claimed in ("", peer) else f"{claimed} (as {peer})"
