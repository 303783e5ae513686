"""The OpenSSH server of the tests: :mod:`hsm.bench.openssh`, and one that all tests of a process share."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path

from hsm.bench.openssh import MISSING, SshServer, keygen

__all__ = ["MISSING", "SshServer", "keygen", "shared_server"]

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
