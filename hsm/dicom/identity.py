"""User Identity Negotiation, PS3.7 section D.3.3.7: who comes, and may he?

Names, and names with passcodes, are compared with those of the configuration. Tickets and
assertions (Kerberos, SAML, JWT) are not understood.
"""

from __future__ import annotations

import hashlib
import hmac
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pynetdicom.association import Association
from pynetdicom.pdu_primitives import UserIdentityNegotiation

from hsm.config import AeConfig, DicomConfig, UserConfig
from hsm.dicom.admission import ACSE, TOO_MANY_TRIES, Rejection
from hsm.lockout import Throttle, counted_by
from hsm.passcode import COST, DIGEST_BYTES, SALT_BYTES, Passcode, parse

USERNAME, PASSCODE = 1, 2
_KINDS: Final = {1: "a user name", 2: "a user name and passcode", 3: "Kerberos", 4: "SAML", 5: "JWT"}
FIELD_BYTES_MAX: Final = 1024
"""Of a name or a passcode; nobody's is longer."""
TRIES: Final = 5
SECONDS_A_TRY: Final = 12.0
"""An address may fail so often at once, and then once in so many seconds."""
REMEMBERED_MAX: Final = 1000
AT_ONCE: Final = 2
"""Passcodes that are compared at the same time: each takes memory and a core."""
_NOBODY: Final = Passcode(COST, 8, 1, bytes(SALT_BYTES), bytes(DIGEST_BYTES))
"""Compared with where there is no such user, so that the time says nothing."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What an association request says of its user."""

    kind: int
    primary: bytes
    secondary: bytes = b""
    wants_answer: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether the user may come."""

    user: str = ""
    """Who it is; empty where that was not asked."""
    rejection: Rejection | None = None


def given_by(assoc: Association) -> Identity | None:
    """What an association request says of its user."""
    item = assoc.requestor.user_identity
    if item is None:
        return None
    return Identity(
        int(item.user_identity_type or 0),
        bytes(item.primary_field or b""),
        bytes(item.secondary_field or b""),
        bool(item.positive_response_requested),
    )


def answer(assoc: Association) -> None:
    """Let the acceptance say that the user was recognized; for names and passcodes there is nothing more
    to it (PS3.7 section D.3.3.7.2)."""
    item = UserIdentityNegotiation()
    item.server_response = b""
    assoc.acceptor.add_negotiation_item(item)


def refused(reason: str) -> Rejection:
    """PS3.7 section D.3.3.7: rejected permanent, by the service provider (ACSE related), no reason given."""
    return Rejection(1, ACSE, 1, reason)


class Identities:
    """Judges identities; remembers which passcodes were right, for modalities that come by the minute.

    :param secret: random; what is remembered is worth nothing without it.
    """

    def __init__(self, monotonic: Callable[[], float], secret: bytes) -> None:
        self._throttle = Throttle(monotonic, TRIES, SECONDS_A_TRY)
        self._secret = secret
        self._right: OrderedDict[bytes, None] = OrderedDict()
        self._lock = threading.Lock()
        self._working = threading.Semaphore(AT_ONCE)

    def judge(
        self, config: DicomConfig, ae: AeConfig | None, address: str, given: Identity | None
    ) -> Finding:
        """
        :param ae: the configured AE that calls, if it is one.
        :param address: where it calls from.
        """
        rule = (ae.user_identity if ae is not None else None) or config.user_identity
        if rule == "ignored":
            return Finding()
        if given is None:
            if rule == "required":
                return Finding(rejection=refused("it says not which user it is for"))
            return Finding()
        if given.kind not in (USERNAME, PASSCODE):
            kind = _KINDS.get(given.kind, f"type {given.kind}")
            return Finding(rejection=refused(f"a user identity by {kind} is not supported"))
        key = counted_by(address)
        if not self._throttle.take(key):
            return Finding(rejection=TOO_MANY_TRIES)
        name = given.primary[:FIELD_BYTES_MAX].decode("utf-8", "replace").strip(" \0")
        user = next((each for each in config.users if each.name == name), None)
        if ae is not None and ae.users and name not in ae.users:
            user = None
        if not self._is_right(user, given):
            return Finding(rejection=refused(f"its user identity is wrong, given as {name!r}"))
        self._throttle.give_back(key)
        return Finding(user=name)

    def _is_right(self, user: UserConfig | None, given: Identity) -> bool:
        if given.kind == USERNAME:
            return user is not None and user.passcode is None
        passcode = given.secondary
        if user is None or user.passcode is None or not passcode or len(passcode) > FIELD_BYTES_MAX:
            with self._working:
                _NOBODY.matches(passcode[:FIELD_BYTES_MAX])
            return False
        remembered = hmac.digest(self._secret, user.passcode.encode() + b"\0" + passcode, hashlib.sha256)
        with self._lock:
            if remembered in self._right:
                self._right.move_to_end(remembered)
                return True
        with self._working:
            right = parse(user.passcode).matches(passcode)
        if right:
            with self._lock:
                self._right[remembered] = None
                if len(self._right) > REMEMBERED_MAX:
                    self._right.popitem(last=False)
        return right
