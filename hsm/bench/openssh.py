"""An OpenSSH server for benchmarks and tests: an ordinary process on a free port, with keys of its own.

Each connection is served by processes of its own, which are found by their parent.
"""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from drivers.sftp.settings import Settings
from hsm.errors import ConfigError

_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
SSHD, KEYGEN = shutil.which("sshd", path=_PATH), shutil.which("ssh-keygen")
MISSING = "" if SSHD and KEYGEN else "sshd or ssh-keygen is not installed (Debian: openssh-server)"
_START_SECONDS = 10.0


class SshServer:
    """Listens on 127.0.0.1; ``id`` in its folder is the key that it lets in, as this user."""

    def __init__(self, folder: Path, subsystem: str = "internal-sftp") -> None:
        if MISSING:
            raise ConfigError(MISSING)
        self.folder, self.port, self._subsystem = folder, free_port(), subsystem
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("hostkey", "id", "other"):
            keygen(folder / name)
        (folder / "authorized_keys").write_text((folder / "id.pub").read_text())
        self.known_hosts = folder / "known_hosts"
        self.know(self.host_key())
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def host_key(self) -> str:
        """Kind and key, as a known_hosts line has them."""
        return " ".join((self.folder / "hostkey.pub").read_text().split()[:2])

    def know(self, key: str) -> None:
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {key}\n")

    def start(self) -> None:
        config = self.folder / "sshd_config"
        config.write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.folder}/hostkey\n"
            f"AuthorizedKeysFile {self.folder}/authorized_keys\nPidFile none\nUsePAM no\nStrictModes no\n"
            "PermitRootLogin yes\nPasswordAuthentication no\nMaxStartups 100\nUseDNS no\n"
            f"Subsystem sftp {self._subsystem}\n"
        )
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(SSHD), "-D", "-e", "-f", str(config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + _START_SECONDS
        while True:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise ConfigError(f"sshd does not start: {(self.folder / 'log').read_text()}")
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1):
                    return
            except OSError:
                time.sleep(0.01)

    @property
    def user(self) -> str:
        """Whom it lets in: who we are."""
        return getpass.getuser()

    @property
    def pid(self) -> int:
        return self.process.pid if self.process else 0

    def children(self) -> list[int]:
        """Every process below the server, which serve its connections."""
        parents = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    stat = (entry / "stat").read_text()
                except OSError:
                    continue
                parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
        found, seen = [], {self.pid}
        while new := [pid for pid, parent in parents.items() if parent in seen and pid not in seen]:
            found += new
            seen |= set(new)
        return found

    def signal_sessions(self, number: signal.Signals) -> None:
        for pid in self.children():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        """The server and all it serves, at once."""
        if self.process is None:
            return
        children = self.children()
        self.process.kill()
        for pid in children:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def command(self, name: str) -> list[str]:
        """`sftp` or `ssh` with what it needs to come in; its own files are left alone."""
        return [
            name,
            "-q",
            "-F",
            "none",
            "-o",
            f"UserKnownHostsFile={self.known_hosts}",
            "-o",
            "IdentitiesOnly=yes",
            "-i",
            str(self.folder / "id"),
            "-P",
            str(self.port),
        ]

    def settings(self, path: Path | str, **changes: Any) -> Settings:
        plain = Settings(
            "127.0.0.1",
            self.user,
            str(path),
            port=self.port,
            known_hosts=self.known_hosts,
            key_file=self.folder / "id",
        )
        return replace(plain, **changes)


def keygen(path: Path, passphrase: str = "") -> None:
    """Make a key pair, unless it is there."""
    if not path.exists():
        subprocess.run(
            [str(KEYGEN), "-q", "-t", "ed25519", "-N", passphrase, "-f", str(path)],
            check=True,
            stdin=subprocess.DEVNULL,
        )


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
