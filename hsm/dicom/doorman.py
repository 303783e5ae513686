"""Who is hung up on, who is rejected and why; and what is told of it.

Everybody can knock as often as he likes: what is refused goes to the journal through
:mod:`hsm.refusals`, which bounds it, and an address that is refused too often is not listened to for a
while (:mod:`hsm.lockout`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from hsm.config import DicomConfig, Door
from hsm.dicom.admission import (
    ACSE,
    LOG_IN,
    OTHER_ADDRESS,
    TOO_MANY_TRIES,
    Rejection,
    admit,
    admit_at,
    admit_secured,
)
from hsm.dicom.rights import AeBook
from hsm.dicom.secure import Security
from hsm.lockout import Lockout
from hsm.log import get_logger
from hsm.origin import Names, Networks, comes_from
from hsm.refusals import Refusal

log = get_logger(__name__)

TRANSIENT: Final = 2
"""Result of a rejection: come again (PS3.8 table 9-21)."""


class Doorman:
    """Of one process. Thread-safe.

    :param monotonic: seconds that never go backwards.
    :param note: where refusals go.
    """

    def __init__(
        self,
        config: DicomConfig,
        ae_title: str,
        monotonic: Callable[[], float],
        note: Callable[[Refusal], None],
    ) -> None:
        self._ae_title = ae_title
        self._monotonic = monotonic
        self._note = note
        self._names = Names(monotonic)
        self._lockout = Lockout(monotonic, config.lockout)
        self.apply(config)

    def apply(self, config: DicomConfig) -> None:
        """Use another configuration from the next connection on; who is locked out stays so, unless the
        rule for it has changed."""
        if config.lockout != self._lockout.rule:
            self._lockout = Lockout(self._monotonic, config.lockout)
        self.book = AeBook.of(config)
        self._check_called = config.check_called_ae
        self._associations_max = config.max_associations
        self._doors = {door.name: door for door in config.doors}
        self._networks = {door.name: Networks(door.addresses) for door in config.doors if door.addresses}
        self._numbers = {door.name: number for number, door in enumerate(config.doors)}

    def door(self, name: str) -> Door:
        """A door's rules; one that is not configured lets do nothing."""
        return self._doors.get(name) or Door(name, "", 0, may=frozenset())

    def number(self, name: str) -> int:
        """A door's place in the configuration."""
        return self._numbers.get(name, 0)

    def rights(self, door: str, calling: str) -> frozenset[str]:
        """What an AE may do that came in at a door."""
        return self.book.rights(calling) & self.door(door).may

    def hangs_up(self, door: str, address: str) -> bool:
        """Whether a connection is closed before anything of it is read."""
        networks = self._networks.get(door)
        if networks is not None and address not in networks:
            why = "its address is not one of this listener's"
        else:
            why = self._lockout.refuses(address)
        if why:
            log.warning("connection from %s at %s refused: %s", address, door, why)
            self._note(Refusal("", door, "connect", why, address))
        return bool(why)

    def welcome(
        self, door: str, called: str, calling: str, address: str, security: Security | None
    ) -> Rejection | None:
        """What of an association can be decided without knowing who else is there. May ask for a name's
        address: nothing is to wait for this."""
        ae = self.book.by_title.get(calling)
        found = admit(called, calling, self._ae_title, self._check_called, self.book)
        found = found or admit_at(self.door(door), calling, self.book) or admit_secured(ae, security)
        if found is None and ae is not None and ae.addresses:
            return None if comes_from(address, ae.addresses, self._names) else OTHER_ADDRESS
        return found

    def has_room(self, door: str, standing: int, standing_here: int) -> bool:
        """Whether one more association is taken, beside those that stand."""
        most_here = self.door(door).max_associations
        return standing < self._associations_max and (most_here is None or standing_here < most_here)

    def rejected(self, door: str, calling: str, address: str, rejection: Rejection) -> None:
        """An association was rejected: journalled and counted, unless it was only one too many."""
        if rejection.result != TRANSIENT or rejection is TOO_MANY_TRIES:
            act = LOG_IN if rejection.source == ACSE or rejection is TOO_MANY_TRIES else "associate"
            self._note(Refusal(calling, door, act, rejection.reason, address))
            self.failed(door, address)

    def unsecured(self, door: str, address: str, why: str) -> None:
        """A TLS connection came to nothing."""
        self._note(Refusal("", door, "connect", why, address))
        self.failed(door, address)

    def failed(self, door: str, address: str) -> None:
        """An association was refused or made no sense."""
        if what := self._lockout.failed(address):
            log.warning("%s at %s is %s", address, door, what)
            self._note(Refusal("", door, "connect", what, address))

    def refused(self, door: str, calling: str, address: str, act: str, why: str) -> None:
        """One operation of an association was refused."""
        self._note(Refusal(calling, door, act, why, address))
