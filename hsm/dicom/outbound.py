"""What peers are sent at the same time: so many associations and so much a second for each, as configured,
and a pause after one could not be reached.

One for the whole process: C-MOVEs whose callers wait, deliveries after they have gone, and reports share it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Final

from drivers.wrappers import Bucket
from hsm.clock import Clock
from hsm.config import AeConfig, SendConfig

REST_FIRST_SECONDS: Final = 2.0
REST_LAST_SECONDS: Final = 600.0
"""After a peer could not be reached: doubling."""


@dataclass(slots=True)
class _Peer:
    """What is known of one peer."""

    send: SendConfig
    open: int = 0
    """Associations with it."""
    failures: int = 0
    rests_until: float = float("-inf")
    buckets: list[tuple[Bucket, bool]] = field(default_factory=list)
    """Each, and whether it counts bytes."""
    pays_until: float = float("-inf")
    """When the next instance may be sent."""


class Gate:
    """The way to one peer. Thread-safe; any number of senders share it."""

    def __init__(self, owner: Outbound, title: str) -> None:
        self._owner, self._title = owner, title

    def enter(self) -> str:
        """Have one association more; or, where there are as many as may be, why not."""
        return self._owner.enter(self._title)

    def leave(self) -> None:
        """One association less."""
        self._owner.leave(self._title)

    def full(self) -> str:
        """Why there may not be one association more; empty when there may."""
        return self._owner.full(self._title)

    def pause_seconds(self) -> float:
        """How long until the next instance may be sent."""
        return self._owner.pause_seconds(self._title)

    def sent(self, size: int) -> None:
        """An instance of so many bytes went out."""
        self._owner.sent(self._title, size)

    def reached(self) -> None:
        """It answers."""
        self._owner.reached(self._title)

    def unreachable(self) -> None:
        """It does not: work that nobody waits for rests for a while."""
        self._owner.unreachable(self._title)


class Outbound:
    """All peers, by AE title."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._peers: dict[str, _Peer] = {}

    def gate(self, peer: AeConfig) -> Gate:
        """The way to a peer, with its limits as they are configured now."""
        with self._lock:
            known = self._peers.setdefault(peer.ae_title, _Peer(peer.send))
            if known.send != peer.send or not known.buckets:
                known.send = peer.send
                known.buckets = self._buckets(peer.send)
        return Gate(self, peer.ae_title)

    def _buckets(self, send: SendConfig) -> list[tuple[Bucket, bool]]:
        now = self._clock.monotonic
        found = []
        if send.bytes_per_second:
            found.append((Bucket(send.bytes_per_second, now), True))
        if send.instances_per_second:
            rate = send.instances_per_second
            found.append((Bucket(rate, now, burst_bytes=max(1.0, rate)), False))
        return found

    def resting(self) -> list[str]:
        """The peers for which nobody begins work now: they could not be reached a moment ago, or have as many
        associations as they may."""
        now = self._clock.monotonic()
        with self._lock:
            return [
                title for title, peer in self._peers.items() if now < peer.rests_until or _full(title, peer)
            ]

    def enter(self, title: str) -> str:
        with self._lock:
            peer = self._peers[title]
            if why := _full(title, peer):
                return why
            peer.open += 1
            return ""

    def leave(self, title: str) -> None:
        with self._lock:
            self._peers[title].open -= 1

    def full(self, title: str) -> str:
        with self._lock:
            return _full(title, self._peers[title])

    def pause_seconds(self, title: str) -> float:
        with self._lock:
            return max(0.0, self._peers[title].pays_until - self._clock.monotonic())

    def sent(self, title: str, size: int) -> None:
        with self._lock:
            peer = self._peers[title]
            waits = [bucket.take(size if of_bytes else 1) for bucket, of_bytes in peer.buckets]
            if waits:
                peer.pays_until = self._clock.monotonic() + max(waits)

    def reached(self, title: str) -> None:
        with self._lock:
            self._peers[title].failures = 0
            self._peers[title].rests_until = float("-inf")

    def unreachable(self, title: str) -> None:
        with self._lock:
            peer = self._peers[title]
            rest = min(REST_FIRST_SECONDS * 2.0 ** min(peer.failures, 30), REST_LAST_SECONDS)
            peer.failures += 1
            peer.rests_until = self._clock.monotonic() + rest


def _full(title: str, peer: _Peer) -> str:
    most = peer.send.associations_max
    if most is None or peer.open < most:
        return ""
    return f"waiting for {title}: {peer.open} of {most} associations in use"
