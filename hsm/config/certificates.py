"""The files that the TLS settings name: whether they can be used, and how long."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from ssl import SSLContext

from hsm.config.access import ApiConfig, TcpConfig
from hsm.config.dicom import DicomConfig
from hsm.config.document import Place
from hsm.config.doors import TlsConfig
from hsm.config.model import Config
from hsm.config.peers import AeConfig
from hsm.tls import BadTls, ClientCertificate, client_context, server_context, warning
from hsm.tokens import TokenFileError
from hsm.tokens import read as read_tokens

Finding = tuple[Place, str]


def accepting(tls: TlsConfig) -> SSLContext:
    """For the TLS port.

    :raises BadTls: a file cannot be used.
    """
    return server_context(tls.certificate, tls.key, tls.ca, tls.client_certificate, tls.profile)


def sending(peer: AeConfig, own: TlsConfig | None) -> SSLContext | None:
    """For connections to a peer; None where they are plain.

    :param own: whose files stand in for those that the peer's settings do not name.
    :raises BadTls: a file cannot be used.
    """
    if peer.tls is None:
        return None
    pair = (peer.tls.certificate, peer.tls.key)
    if pair == (None, None) and own is not None:
        pair = (own.certificate, own.key)
    ca = peer.tls.ca or (own.ca if own is not None else None)
    return client_context(*pair, ca, peer.tls.check_host, peer.tls.profile)


def accepting_api(tcp: TcpConfig) -> SSLContext:
    """For the control API.

    :raises BadTls: a file cannot be used.
    """
    asked: ClientCertificate = "required" if tcp.client_ca is not None else "none"
    return server_context(tcp.certificate, tcp.key, tcp.client_ca, asked, tcp.profile)


def api_facts(api: ApiConfig, now: datetime) -> tuple[list[str], list[str]]:
    """Where the control API listens and who may come in, in sentences; and what is to be known of that."""
    facts, warnings = [f"control API on {api.socket}"], []
    if api.tcp is not None:
        facts.append(f"control API on {api.tcp.listen}:{api.tcp.port} (TLS)")
        if ends := warning(api.tcp.certificate, now):
            warnings.append(f"api.tcp: {ends}")
        if not api.tcp.tokens_file.exists():
            warnings.append(f"api.tcp: no token was made yet, so nobody comes in ({api.tcp.tokens_file})")
    if api.two_person.commands:
        facts.append(f"by two persons: {', '.join(api.two_person.commands)}")
    return facts, warnings


def file_findings(config: Config) -> Iterator[Finding]:
    """What is wrong with the files, and where they are named."""
    if config.api.tcp is not None:
        try:
            accepting_api(config.api.tcp)
        except BadTls as error:
            yield ("api", "tcp", "client_ca" if error.field == "ca" else error.field), str(error)
        try:
            if config.api.tcp.tokens_file.exists():
                read_tokens(config.api.tcp.tokens_file)
        except TokenFileError as error:
            yield ("api", "tcp", "tokens_file"), str(error)
    dicom = config.dicom
    own_is_good = True
    if dicom.tls is not None:
        try:
            accepting(_without_ca(dicom.tls) if dicom.listeners else dicom.tls)
        except BadTls as error:
            own_is_good = False
            yield ("dicom", "tls", error.field), str(error)
    for number, (listener, door) in enumerate(zip(dicom.listeners, dicom.doors, strict=False)):
        try:
            if door.tls is not None and own_is_good:
                accepting(door.tls)
        except BadTls as error:
            place: Place = ("dicom", "listeners", number, "tls")
            named = listener.tls is not None and getattr(listener.tls, error.field) is not None
            yield (*place, error.field) if named else place, str(error)
    for number, peer in enumerate(dicom.aes):
        try:
            if own_is_good:  # else it would be told again of each peer
                sending(peer, dicom.tls)
        except BadTls as error:
            yield ("dicom", "aes", number, "tls", error.field), str(error)


def _without_ca(tls: TlsConfig) -> TlsConfig:
    """Beside listeners it opens no door: its files only stand in where others name none."""
    return tls if tls.ca is not None else tls.model_copy(update={"client_certificate": "none"})


def certificate_files(dicom: DicomConfig) -> list[Path]:
    """The certificates that the archive shows, each once."""
    own = [dicom.tls.certificate] if dicom.tls is not None else []
    own += [door.tls.certificate for door in dicom.doors if door.tls is not None]
    peers = [peer.tls.certificate for peer in dicom.aes if peer.tls is not None]
    return list(dict.fromkeys([*own, *(path for path in peers if path is not None)]))


def certificate_warnings(dicom: DicomConfig, now: datetime) -> list[str]:
    """What is to be known of certificates that end soon or have ended."""
    return [text for path in certificate_files(dicom) if (text := warning(path, now)) is not None]
