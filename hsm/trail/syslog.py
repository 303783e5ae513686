"""Syslog messages, RFC 5424, and their frames on a stream (RFC 5425 section 4.3). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

MESSAGE_ID_DICOM = "DICOM+RFC3881"
"""MSGID of a DICOM audit message."""
MESSAGE_ID_JOURNAL = "hsm-journal"
SEQUENCE_MODULUS = 2**31
"""RFC 5424 section 7.3.1: a sequenceId goes up to 2147483647 and begins again at 1."""
_BOM = "\N{ZERO WIDTH NO-BREAK SPACE}"


@dataclass(frozen=True, slots=True)
class Origin:
    """Who sends."""

    facility: int
    """10 is security and authorisation."""
    host: str
    application: str
    process: str
    version: str


def message(origin: Origin, severity: int, at: datetime, message_id: str, sequence: int, text: str) -> bytes:
    """One message.

    :param severity: 0 emergency to 7 debug; 5 is a significant event, 4 a warning.
    :param sequence: the record's number in the journal: a receiver that has it already drops the message.
    """
    stamp = at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    number = (sequence - 1) % (SEQUENCE_MODULUS - 1) + 1
    data = f'[meta sequenceId="{number}"][origin software="hsm" swVersion="{_value(origin.version)}"]'
    priority = origin.facility * 8 + severity
    names = [_name(origin.host, 255), _name(origin.application, 48), _name(origin.process, 128)]
    head = f"<{priority}>1 {stamp} {' '.join(names)} {_name(message_id, 32)} {data} "
    return (head + _BOM + text).encode("utf-8", "replace")


def framed(data: bytes) -> bytes:
    """With its length before it (octet counting)."""
    return b"%d %s" % (len(data), data)


def _name(text: str, most: int) -> str:
    """PRINTUSASCII; a nil value where nothing is left."""
    return "".join(each for each in text if "!" <= each <= "~")[:most] or "-"


def _value(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")
