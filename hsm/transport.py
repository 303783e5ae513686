"""How the client reaches the daemon: the socket on this machine, or TLS to another one."""

from __future__ import annotations

import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit

import httpx

from hsm.tls import BadTls, client_context

CONNECT_SECONDS: Final = 5.0
TOKEN_FILE_BYTES_MAX: Final = 4096


class CannotUseError(Exception):
    """What was given to reach the daemon with makes no sense; the message says what to do."""


class Transport(Protocol):
    """One way to the daemon."""

    @property
    def name(self) -> str:
        """Where it goes, for messages."""

    @property
    def hint(self) -> str:
        """What to do when nobody answers."""

    def open(self) -> httpx.Client:
        """
        :raises CannotUseError: a file or address that cannot be used.
        """

    def probe(self) -> None:
        """Try to connect.

        :raises OSError: nobody is there.
        """


@dataclass(frozen=True, slots=True)
class Local:
    """The control socket."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path)

    @property
    def hint(self) -> str:
        return "start one with `hsm serve`, or name its socket with --socket or its data folder with --home"

    def open(self) -> httpx.Client:
        # No TLS on a unix socket; reading the machine's certificates would take 50 ms.
        transport = httpx.HTTPTransport(uds=str(self.path), verify=False)
        return httpx.Client(transport=transport, base_url="http://hsm")

    def probe(self) -> None:
        """By hand: httpcore forgets to close a unix socket that does not connect."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(CONNECT_SECONDS)
            probe.connect(str(self.path))


@dataclass(frozen=True, slots=True)
class Remote:
    """Another machine's daemon: over TLS only, with a token that a file holds.

    The token stands in a file and never among a command's arguments, where every user of the machine sees it.
    """

    url: str
    token_file: Path
    ca: Path | None = None
    """Whose certificate the daemon must have, or its own; None for those that the machine trusts."""
    certificate: Path | None = None
    """Ours, where the daemon asks for one; with its ``key``."""
    key: Path | None = None

    @property
    def name(self) -> str:
        return self.url

    @property
    def hint(self) -> str:
        return "the daemon's configuration needs api.tcp, and --url (HSM_URL) its host and port"

    def open(self) -> httpx.Client:
        parts = urlsplit(self.url)
        if parts.scheme != "https" or not parts.hostname or parts.username or parts.query or parts.fragment:
            raise CannotUseError("expected https://HOST:PORT; a daemon on another machine speaks TLS only")
        if (self.certificate is None) != (self.key is None):
            raise CannotUseError("expected a certificate and its key, or neither of them")
        try:
            context = client_context(self.certificate, self.key, self.ca)
        except BadTls as error:
            raise CannotUseError(str(error)) from error
        headers = {"authorization": f"Bearer {read_token(self.token_file)}"}
        # No proxy from the environment, no redirect: the token goes where it is meant to go and nowhere else.
        return httpx.Client(
            base_url=self.url, verify=context, headers=headers, trust_env=False, follow_redirects=False
        )

    def probe(self) -> None:
        """Nothing to do: the first request tells."""


def read_token(path: Path) -> str:
    """The token in a file: its first line.

    :raises CannotUseError: no file, others may read it, or no token in it.
    """
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(TOKEN_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise CannotUseError(f"{path}: cannot be read: {error.strerror or error}") from error
    if stat.S_ISREG(mode) and mode & 0o077:
        raise CannotUseError(
            f"{path}: mode {stat.S_IMODE(mode):04o} lets others read the token: chmod 0600 {path}"
        )
    lines = content.decode("ascii", "replace").splitlines()
    token = lines[0].strip() if lines and len(content) <= TOKEN_FILE_BYTES_MAX else ""
    if not token or not all("!" <= character <= "~" for character in token):
        raise CannotUseError(f"{path}: holds no token; expected one line, as `hsm token new` prints it")
    return token
