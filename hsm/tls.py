"""TLS contexts from certificate files, and how long these are good for.

The profiles are those of PS3.15 annex B.12 (BCP 195: RFC 8996 and RFC 9325): TLS 1.2 with forward
secrecy and authenticated encryption only, TLS 1.3 wherever both sides have it.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, NoReturn

from hsm.errors import ConfigError

Profile = Literal["BCP 195", "TLS 1.3"]
ClientCertificate = Literal["required", "optional", "none"]

WARN_DAYS: Final = 30
"""A certificate that ends sooner is worth a warning."""
CIPHERS: Final = (
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:"
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:@SECLEVEL=2"
)
"""For TLS 1.2: RFC 9325 section 4.2, which every device of B.12 has one of. Those of TLS 1.3 are all good."""
FILE_BYTES_MAX: Final = 8 << 20
_VERIFY: Final = {
    "required": ssl.CERT_REQUIRED,
    "optional": ssl.CERT_OPTIONAL,
    "none": ssl.CERT_NONE,
}
_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


class BadTls(ConfigError):
    """A file that cannot be used. The message names it and says what is wrong.

    ``field`` is the setting that names it: ``certificate``, ``key`` or ``ca``.
    """

    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field = field


def server_context(
    certificate: Path,
    key: Path,
    ca: Path | None,
    client_certificate: ClientCertificate = "required",
    profile: Profile = "BCP 195",
) -> ssl.SSLContext:
    """For connections that we accept.

    :param ca: whose certificates of clients are good; needed unless none is asked for.
    :raises BadTls: a file is missing or no use, or the key is another certificate's.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER, profile)
    # No resumption: a session would outlive its client's certificate, and receivers share no tickets.
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_TICKET
    context.num_tickets = 0
    _load_pair(context, certificate, key)
    context.verify_mode = _VERIFY[client_certificate]
    if ca is not None and client_certificate != "none":
        _load_ca(context, ca)
    return context


def client_context(
    certificate: Path | None,
    key: Path | None,
    ca: Path | None,
    check_host: bool = True,
    profile: Profile = "BCP 195",
) -> ssl.SSLContext:
    """For connections that we open; the other side's certificate is always checked.

    :param certificate: ours, if it is to be shown.
    :param ca: whose certificates are good, or such a certificate itself; None for those that the
        system trusts.
    :param check_host: whether the certificate must be for the name that is connected to.
    :raises BadTls: as for :func:`server_context`.
    """
    context = _context(ssl.PROTOCOL_TLS_CLIENT, profile)
    context.check_hostname = check_host
    context.verify_mode = ssl.CERT_REQUIRED
    if certificate is not None and key is not None:
        _load_pair(context, certificate, key)
    if ca is not None:
        _load_ca(context, ca)
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    return context


def _context(protocol: int, profile: Profile) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if profile == "TLS 1.3" else ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    # A device's own certificate in the CA file is trusted for itself: many sign their own.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _load_pair(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    _certificates("certificate", certificate)
    _read("key", key)
    try:
        context.load_cert_chain(certificate, key, password=_nobody_to_ask)
    except _EncryptedError:
        raise BadTls(
            "key", f"{key}: is encrypted; store it without a passphrase, for the archive's user alone to read"
        ) from None
    except ssl.SSLError as error:
        _raise_about_pair(certificate, key, error)
    except OSError as error:
        raise BadTls("key", f"{key}: cannot be read: {error.strerror or error}") from error


def _raise_about_pair(certificate: Path, key: Path, error: ssl.SSLError) -> NoReturn:
    reason = error.reason or str(error)
    if reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"):
        raise BadTls("key", f"{key}: is not the private key of {certificate}") from error
    if reason.startswith(("EE_", "CA_")):
        raise BadTls("certificate", f"{certificate}: is too weak: {_words(reason)}") from error
    raise BadTls("key", f"{key}: holds no usable private key in PEM ({_words(reason)})") from error


def _load_ca(context: ssl.SSLContext, ca: Path) -> None:
    _certificates("ca", ca)
    try:
        context.load_verify_locations(cafile=ca)
    except ssl.SSLError as error:
        raise BadTls("ca", f"{ca}: cannot be used: {_words(error.reason or str(error))}") from error


class _EncryptedError(Exception):
    pass


def _nobody_to_ask() -> str:
    raise _EncryptedError


def _words(reason: str) -> str:
    return reason.replace("_", " ").lower()


def _read(field: str, path: Path) -> str:
    try:
        with open(path, "rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise BadTls(field, f"{path}: {error.strerror or error}") from error
    if len(content) > FILE_BYTES_MAX:
        raise BadTls(field, f"{path}: larger than {FILE_BYTES_MAX} bytes; this is not a {field}")
    return content.decode("latin-1")


def _certificates(field: str, path: Path) -> list[bytes]:
    """The certificates of a PEM file, in DER; at least one."""
    found = []
    for part in _read(field, path).split(_BEGIN)[1:]:
        try:
            found.append(ssl.PEM_cert_to_DER_cert(_BEGIN + part[: part.index(_END) + len(_END)]))
        except ValueError as error:
            raise BadTls(field, f"{path}: holds a certificate that is damaged") from error
    if not found:
        raise BadTls(field, f"{path}: holds no certificate in PEM")
    return found


@dataclass(frozen=True, slots=True)
class Validity:
    """When a certificate is good; of several in a chain, when all of them are."""

    begins: datetime
    ends: datetime

    def days_left(self, now: datetime) -> int:
        """Whole days; negative when it has ended, by the days since."""
        return (self.ends - now).days


def validity(certificate: Path) -> Validity:
    """
    :raises BadTls: the file cannot be read, or holds no certificate that can be understood.
    """
    try:
        found = [_validity(der) for der in _certificates("certificate", certificate)]
    except (ValueError, IndexError) as error:
        raise BadTls("certificate", f"{certificate}: holds a certificate that is damaged") from error
    return Validity(max(each.begins for each in found), min(each.ends for each in found))


def warning(certificate: Path, now: datetime) -> str | None:
    """What an operator should know of a certificate's time; None while there is nothing to do."""
    try:
        good = validity(certificate)
    except BadTls as error:
        return str(error)
    days = good.days_left(now)
    if good.ends <= now:
        return f"the certificate {certificate} expired on {good.ends:%Y-%m-%d}, {-days} days ago: renew it"
    if good.begins > now:
        return f"the certificate {certificate} is not valid before {good.begins:%Y-%m-%d %H:%M} UTC"
    if days < WARN_DAYS:
        return f"the certificate {certificate} expires in {days} days, on {good.ends:%Y-%m-%d}: renew it"
    return None


# X.509, RFC 5280 section 4.1: as much of DER as leads to a certificate's validity.

_SEQUENCE, _VERSION, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18


def _validity(der: bytes) -> Validity:
    at, _ = _enter(der, 0, _SEQUENCE)  # Certificate
    at, _ = _enter(der, at, _SEQUENCE)  # TBSCertificate
    if der[at] == _VERSION:
        at = _value(der, at)[1]
    for _ in ("serialNumber", "signature", "issuer"):
        at = _value(der, at)[1]
    at, _ = _enter(der, at, _SEQUENCE)
    begins, at = _time(der, at)
    ends, _ = _time(der, at)
    return Validity(begins, ends)


def _value(der: bytes, at: int) -> tuple[int, int]:
    """Where the value of the element at ``at`` begins and ends."""
    length, start = der[at + 1], at + 2
    if length & 0x80:
        count = length & 0x7F
        length, start = int.from_bytes(der[start : start + count], "big"), start + count
    if start + length > len(der):
        raise ValueError("longer than what holds it")
    return start, start + length


def _enter(der: bytes, at: int, tag: int) -> tuple[int, int]:
    if der[at] != tag:
        raise ValueError(f"tag {der[at]:02x} in place of {tag:02x}")
    return _value(der, at)


def _time(der: bytes, at: int) -> tuple[datetime, int]:
    start, end = _value(der, at)
    text = der[start:end].decode("ascii")
    if der[at] == _UTC_TIME:
        text = ("19" if int(text[:2]) >= 50 else "20") + text
    elif der[at] != _GENERALIZED_TIME:
        raise ValueError(f"tag {der[at]:02x} is no time")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC), end
