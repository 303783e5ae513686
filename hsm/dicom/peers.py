"""The other side of an association: its name for messages, and whether it is gone."""

from __future__ import annotations

from pynetdicom.association import Association

from hsm.log import neutral


def peer_name(assoc: Association) -> str:
    """The other side in words for a log line: ``WS1 (10.1.2.3)``."""
    other = assoc.requestor if assoc.is_acceptor else assoc.acceptor
    title = (other.ae_title or "").strip()
    address = other.address_info.address if other.address_info else "?"
    return f"{neutral(title)} ({address})" if title else address


def gone(assoc: Association) -> bool:
    """Whether the peer aborted, vanished, or asked for release, seen from inside an operation."""
    if not assoc.is_established or not assoc.dul.is_alive():
        return True
    waiting = assoc.dul.peek_next_pdu()
    return waiting is not None
