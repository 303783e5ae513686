"""What is wrong between the settings of listeners, of TLS and of those who come: in plain values, as
:mod:`hsm.config.rules` has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hsm.config.document import Place
from hsm.config.driverrules import Finding

_ASKED = ("required", "optional")


def tls_sections(data: Mapping[str, Any]) -> Iterator[tuple[Place, Any]]:
    """Ours, the listeners', and the peers'; whatever else may stand in their places is left out."""
    dicom = data.get("dicom")
    if not isinstance(dicom, Mapping):
        return
    if isinstance(dicom.get("tls"), Mapping):
        yield ("dicom", "tls"), dicom["tls"]
    for place, entry in (*_entries(dicom, "listeners"), *_entries(dicom, "aes")):
        if isinstance(entry.get("tls"), Mapping):
            yield (*place, "tls"), entry["tls"]


def tls_errors(data: Mapping[str, Any]) -> Iterator[Finding]:
    """What only the TLS settings together can tell."""
    dicom = data.get("dicom")
    if not isinstance(dicom, Mapping):
        return
    tls, listeners = dicom.get("tls"), list(_entries(dicom, "listeners"))
    if isinstance(tls, Mapping):
        if tls.get("ca") is None and tls.get("client_certificate", "required") in _ASKED and not listeners:
            yield ("dicom", "tls"), _needs_ca(tls.get("client_certificate", "required"))
        if not listeners and not tls.get("only") and tls.get("port", 2762) == dicom.get("port", 11112) != 0:
            yield ("dicom", "tls", "port"), "the same as dicom.port; expected another one (or only: true)"
    for place, section in tls_sections(data):
        if len(place) > 2 and (section.get("certificate") is None) != (section.get("key") is None):
            yield place, "expected certificate and key, or neither of them"
    asked = list(_certificates_asked(tls, listeners))
    for place, peer in _entries(dicom, "aes"):
        if not asked and (peer.get("only_tls") is True or peer.get("certificate_names")):
            which = "only_tls" if peer.get("only_tls") is True else "certificate_names"
            no_tls = "no listener has tls" if listeners else "dicom.tls is not set"
            yield (*place, which), f"nobody can come over TLS: {no_tls}"
        if peer.get("certificate_names") and asked and all(each == "none" for each in asked):
            where = "dicom.tls.client_certificate is none" if not listeners else "client_certificate is none"
            yield (*place, "certificate_names"), f"no certificate is asked for: {where}"


def door_errors(data: Mapping[str, Any]) -> Iterator[Finding]:
    """What only the listeners together, and with the AEs, can tell."""
    dicom = data.get("dicom")
    if not isinstance(dicom, Mapping):
        return
    taken: dict[tuple[Any, Any], Any] = {}
    for place, listener in _entries(dicom, "listeners"):
        address = (listener.get("listen", "127.0.0.1"), listener.get("port"))
        if address in taken and address[1]:
            yield (*place, "port"), f"the same address and port as those of listener {taken[address]!r}"
        taken.setdefault(address, listener.get("name"))
        if listener.get("may") in ([], ()):
            yield (*place, "may"), "nobody could do anything here: name a right, or leave the listener out"
        yield from _listener_tls_errors(place, listener, dicom.get("tls"))
    titles = [peer.get("ae_title") for _, peer in _entries(dicom, "aes")]
    for place, section, key in (
        (("dicom",), dicom, "unknown_move_to"),
        *((place, peer, "move_to") for place, peer in _entries(dicom, "aes")),
    ):
        wanted = section.get(key)
        for number, title in enumerate(wanted if isinstance(wanted, list) else []):
            if isinstance(title, str) and title not in titles:
                yield (
                    (*place, key, number),
                    f"{title!r} is not among dicom.aes: where it listens is not known",
                )


def _listener_tls_errors(place: Place, listener: Mapping[str, Any], own: Any) -> Iterator[Finding]:
    tls = {} if listener.get("tls") is True else listener.get("tls")
    if not isinstance(tls, Mapping):
        return
    own = own if isinstance(own, Mapping) else {}
    if tls.get("certificate") is None and tls.get("key") is None and not own.get("certificate"):
        yield (*place, "tls"), "has no certificate and key, and there is no dicom.tls to take them from"
    asked = tls.get("client_certificate") or own.get("client_certificate") or "required"
    if asked in _ASKED and tls.get("ca") is None and own.get("ca") is None:
        yield (*place, "tls"), _needs_ca(asked)


def _certificates_asked(tls: Any, listeners: list[tuple[Place, Mapping[str, Any]]]) -> Iterator[Any]:
    """Of each place where somebody can come over TLS: which certificate is asked for."""
    own = tls.get("client_certificate", "required") if isinstance(tls, Mapping) else "required"
    if not listeners:
        if tls is not None:
            yield own
        return
    for _, listener in listeners:
        given = listener.get("tls")
        if isinstance(given, Mapping):
            yield given.get("client_certificate") or own
        elif given is True:
            yield own


def _needs_ca(asked: Any) -> str:
    return (
        f"client_certificate: {asked} needs ca: the file with the CAs of the clients' certificates "
        "(or client_certificate: none)"
    )


def _entries(dicom: Mapping[str, Any], key: str) -> Iterator[tuple[Place, Mapping[str, Any]]]:
    entries = dicom.get(key)
    if isinstance(entries, list):
        for number, entry in enumerate(entries):
            if isinstance(entry, Mapping):
                yield ("dicom", key, number), entry
