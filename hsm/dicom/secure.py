"""The TLS handshake of a connection that was accepted, and what it tells of the peer."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from typing import Any, Final

NAMES_MAX: Final = 100
NAME_CHARACTERS_MAX: Final = 255


@dataclass(frozen=True, slots=True)
class Security:
    """What TLS says of a peer."""

    version: str
    """Such as ``TLSv1.3``."""
    cipher: str
    names: tuple[str, ...] = ()
    """Of its certificate, if it showed one: common names, DNS names and IP addresses, in small letters."""


@dataclass(frozen=True, slots=True)
class Visit:
    """A connection as it is handed to who serves it."""

    address: tuple[Any, ...]
    request: bytes = b""
    """What was read of it: its first PDU, or nothing."""
    security: Security | None = None
    """What TLS said, where somebody else has the keys."""
    encrypted: bool = False
    """Whether the TLS handshake is still to come."""
    door: str = ""
    """The name of the listener that it came in at."""


def secured(client: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
    """Make an accepted connection one of TLS, whose handshake is still to come.

    The socket that was given is detached, and must not be used any more; neither when this raises.

    :raises OSError: it is gone.
    """
    try:
        return context.wrap_socket(client, server_side=True, do_handshake_on_connect=False)
    except BaseException:
        client.close()
        raise


def handshake(client: ssl.SSLSocket, seconds: float) -> Security:
    """Shake hands.

    :param seconds: for all of it.
    :raises OSError: it comes to nothing; :func:`described` says why in words.
    """
    client.settimeout(seconds)
    client.do_handshake()
    client.settimeout(None)
    cipher = client.cipher()
    certificate = client.getpeercert() or {}
    return Security(client.version() or "", cipher[0] if cipher else "", names_of(certificate))


def names_of(certificate: dict[str, Any]) -> tuple[str, ...]:
    """The names in a certificate, as :meth:`ssl.SSLSocket.getpeercert` gives it."""
    common = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
    others = [value for key, value in certificate.get("subjectAltName", ()) if key in ("DNS", "IP Address")]
    found = [str(name).lower() for name in (*common, *others) if len(str(name)) <= NAME_CHARACTERS_MAX]
    return tuple(dict.fromkeys(found))[:NAMES_MAX]


def described(error: Exception) -> str:
    """Why a connection failed, for a person."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: the other side's certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return "TLS: the other side hung up"
    if isinstance(error, ssl.SSLError):
        reason = error.reason or str(error)
        return _REASONS.get(reason) or f"TLS: {reason.replace('_', ' ').lower()}"
    if isinstance(error, TimeoutError):
        return "timed out"
    return getattr(error, "strerror", None) or str(error)


_REASONS: Final = {
    "HTTP_REQUEST": "TLS: the other side speaks HTTP and no TLS",
    "WRONG_VERSION_NUMBER": "TLS: the other side speaks no TLS",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "TLS: the other side shows no certificate",
    "NO_SHARED_CIPHER": "TLS: the other side has none of the ciphers that are allowed here",
    "UNSUPPORTED_PROTOCOL": "TLS: the other side has only versions of TLS that are not allowed here",
    "TLSV1_ALERT_UNKNOWN_CA": "TLS: the other side does not accept our certificate: unknown CA",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "TLS: the other side says that our certificate has expired",
    "SSLV3_ALERT_BAD_CERTIFICATE": "TLS: the other side does not accept our certificate",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "TLS: the other side wants a certificate of ours",
}
