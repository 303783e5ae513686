"""A real OpenSSH server for tests: an ordinary process on a free port, with keys of its own.

Each connection is served by processes of its own; those of :class:`SshServer` are found by their parent,
so that a test can stop or kill exactly them.
"""

from __future__ import annotations

import atexit
import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from drivers.sftp.settings import Settings

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
KEYGEN = shutil.which("ssh-keygen")
MISSING = "" if SSHD and KEYGEN else "sshd or ssh-keygen is not installed (Debian: openssh-server)"


class SshServer:
    """Listens on 127.0.0.1; ``id`` in its folder is the key that it lets in, as this user."""

    def __init__(self, folder: Path, subsystem: str = "internal-sftp") -> None:
        assert SSHD
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
        assert SSHD
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [SSHD, "-D", "-e", "-f", str(config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + 10
        while True:
            assert self.process.poll() is None, (self.folder / "log").read_text()
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1):
                    return
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.01)

    def children(self) -> list[int]:
        """Every process below the server, which serve its connections."""
        assert self.process
        parents = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    stat = (entry / "stat").read_text()
                except OSError:
                    continue
                parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
        found, seen = [], {self.process.pid}
        while new := [pid for pid, parent in parents.items() if parent in seen and pid not in seen]:
            found += new
            seen |= set(new)
        return found

    def signal_sessions(self, number: signal.Signals) -> None:
        for pid in self.children():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    def kill(self) -> None:
        """The server and all it serves, at once."""
        assert self.process
        children = self.children()
        self.process.kill()
        for pid in children:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()

    def settings(self, path: Path | str, **changes: Any) -> Settings:
        plain = Settings(
            "127.0.0.1",
            getpass.getuser(),
            str(path),
            port=self.port,
            known_hosts=self.known_hosts,
            key_file=self.folder / "id",
        )
        return replace(plain, **changes)


_shared: list[SshServer] = []


def shared_server() -> SshServer:
    """One server for all tests of this process that do not harm it."""
    if not _shared:
        folder = Path(tempfile.mkdtemp(prefix="hsm-sshd-"))
        server = SshServer(folder)
        _shared.append(server)

        def end() -> None:
            server.kill()
            shutil.rmtree(folder, ignore_errors=True)

        atexit.register(end)
    return _shared[0]


def keygen(path: Path, passphrase: str = "") -> None:
    assert KEYGEN
    if not path.exists():
        subprocess.run(
            [KEYGEN, "-q", "-t", "ed25519", "-N", passphrase, "-f", str(path)],
            check=True,
            stdin=subprocess.DEVNULL,
        )


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
