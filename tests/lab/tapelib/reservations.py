"""Persistent reservations of one device (SPC-4, 5.13).

The one real initiator is the nexus ``self``. Other hosts exist through the panel only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tapelib.sense import ILLEGAL_REQUEST, CheckCondition, ReservationConflict, field, invalid_field

TYPES = frozenset({1, 3, 5, 6, 7, 8})
REGISTRANTS_ONLY = frozenset({5, 6, 7, 8})
ALL_REGISTRANTS = frozenset({7, 8})
WRITE_EXCLUSIVE = frozenset({1, 5, 7})
ALWAYS_ALLOWED = frozenset({0x00, 0x03, 0x05, 0x12, 0x4D, 0x5E, 0x5F, 0xA0, 0xA3})
"""Commands that run whoever holds the reservation."""
READS = frozenset({0x08, 0x1A, 0x34, 0x3C, 0x44, 0x5A, 0x8C, 0xB8})
"""Commands that the write exclusive types let through."""

REGISTER, RESERVE, RELEASE, CLEAR, PREEMPT, PREEMPT_AND_ABORT, REGISTER_ANYWAY = range(7)


class Reservations:
    """Who is registered with which key, and who holds the reservation."""

    def __init__(self, attention: Callable[[str, tuple[int, int]], object]) -> None:
        self._attention = attention
        self._generation = 0
        self.keys: dict[str, int] = {}
        self.holder: str | None = None
        self.type = 0

    def holds(self, nexus: str) -> bool:
        if not self.type:
            return False
        return nexus == self.holder or (self.type in ALL_REGISTRANTS and nexus in self.keys)

    def check(self, nexus: str, cdb: bytes) -> None:
        """:raises ReservationConflict: another host's reservation forbids the command."""
        operation = cdb[0]
        allows_removal = operation == 0x1E and not cdb[4] & 1
        if not self.type or operation in ALWAYS_ALLOWED or self.holds(nexus) or allows_removal:
            return
        if self.type in REGISTRANTS_ONLY and nexus in self.keys:
            return
        if self.type in WRITE_EXCLUSIVE and operation in READS:
            return
        raise ReservationConflict

    def out(self, nexus: str, action: int, kind: int, key: int, service_key: int) -> None:
        """PERSISTENT RESERVE OUT."""
        mine = self.keys.get(nexus)
        if action in (REGISTER, REGISTER_ANYWAY):
            if action == REGISTER and key != (mine or 0):
                raise ReservationConflict
            self._register(nexus, mine, service_key)
            return
        if mine is None or key != mine:
            raise ReservationConflict
        if action in (RESERVE, PREEMPT, PREEMPT_AND_ABORT) and kind not in TYPES:
            raise invalid_field()
        if action == RESERVE:
            if self.type and not (self.holds(nexus) and kind == self.type):
                raise ReservationConflict
            self.holder, self.type = nexus, kind
        elif action == RELEASE:
            if self.holds(nexus):
                if kind != self.type:
                    raise CheckCondition(ILLEGAL_REQUEST, 0x26, 0x04)
                self._release(nexus)
        elif action == CLEAR:
            self._tell(nexus, 0x03, self.keys)
            self.holder, self.type = None, 0
            self.keys.clear()
            self._generation += 1
        elif action in (PREEMPT, PREEMPT_AND_ABORT):
            self._preempt(nexus, kind, mine, service_key)
        else:
            raise invalid_field()

    def _register(self, nexus: str, mine: int | None, service_key: int) -> None:
        if service_key:
            self.keys[nexus] = service_key
        elif mine:
            held = self.holds(nexus)
            del self.keys[nexus]
            if held and (self.type not in ALL_REGISTRANTS or not self.keys):
                self._release(nexus)
        self._generation += 1

    def _preempt(self, nexus: str, kind: int, mine: int, service_key: int) -> None:
        everyone = not service_key and self.type in ALL_REGISTRANTS
        losers = [n for n, key in self.keys.items() if n != nexus and (key == service_key or everyone)]
        by_itself = self.holds(nexus) and service_key == mine
        takes = bool(self.type) and (self.holder in losers or everyone or by_itself)
        if not losers and not takes:
            raise ReservationConflict
        for loser in losers:
            del self.keys[loser]
        self._tell(nexus, 0x05, losers)
        self._generation += 1
        if takes:
            self.holder, self.type = nexus, kind

    def _release(self, nexus: str) -> None:
        if self.type in REGISTRANTS_ONLY:
            self._tell(nexus, 0x04, self.keys)
        self.holder, self.type = None, 0

    def _tell(self, nexus: str, qualifier: int, whom: Iterable[str]) -> None:
        for other in whom:
            if other != nexus:
                self._attention(other, (0x2A, qualifier))

    def report(self, action: int) -> bytes:
        """PERSISTENT RESERVE IN: 0 keys, 1 reservation, 2 capabilities, 3 full status."""
        if action == 0:
            body = b"".join(field(key, 8) for key in self.keys.values())
        elif action == 1:
            body = self._reservation()
        elif action == 2:
            return field(8, 2) + bytes((0, 0x80, 0xEA, 0x01, 0, 0))
        elif action == 3:
            body = b"".join(self._registration(nexus, key) for nexus, key in self.keys.items())
        else:
            raise invalid_field()
        return field(self._generation, 4) + field(len(body), 4) + body

    def _reservation(self) -> bytes:
        if not self.type or self.holder is None:
            return b""
        key = 0 if self.type in ALL_REGISTRANTS else self.keys[self.holder]
        return field(key, 8) + bytes((0, 0, 0, 0, 0, self.type, 0, 0))

    def _registration(self, nexus: str, key: int) -> bytes:
        holds = self.holds(nexus)
        sas_port = field(0x5000E11 << 36 | int.from_bytes(nexus.encode()[-4:], "big"), 8)
        status = bytes((0, 0, 0, 0, 1 if holds else 0, self.type if holds else 0, 0, 0, 0, 0))
        return (
            field(key, 8) + status + field(1, 2) + field(24, 4) + bytes((6, 0, 0, 0)) + sas_port + bytes(12)
        )
