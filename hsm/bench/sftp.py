"""What the sftp driver moves, against OpenSSH's own `sftp` on the same server in the same run."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from drivers.sftp.settings import DEFAULT_CIPHERS
from drivers.sftp.store import SftpStore
from hsm.bench.frame import Report, interleaved
from hsm.bench.moving import Object, Times, made_up, report, through
from hsm.bench.openssh import SshServer
from hsm.errors import ConfigError

_COMMAND_SECONDS_MAX = 3600.0


def run(size: int, rounds: int, cipher: str, folder: Path, say: Callable[[str], None]) -> Report:
    """Measure in ``folder``, through an OpenSSH server that is started for it.

    :param size: bytes of the object.
    :param cipher: of both, as `ssh -Q cipher` names it; the driver's first choice when empty.
    :raises ConfigError: OpenSSH is not installed.
    """
    if shutil.which("sftp") is None:
        raise ConfigError("sftp is not installed (Debian: openssh-client)")
    cipher = cipher or DEFAULT_CIPHERS[0]
    server = SshServer(folder / "server")
    pool = folder / "pool"
    pool.mkdir()
    store = SftpStore(server.settings(pool, ciphers=(cipher,)))
    try:
        given = made_up(folder / "object", size)
        say(f"one object of {size >> 20} MiB, {rounds} rounds, {cipher}")
        times = interleaved(
            {
                "hsm (flushed)": lambda n: through(store, given, f"ours-{n}"),
                "sftp -f (flushed)": lambda _: _theirs(server, cipher, given, pool, flush=True),
                "sftp": lambda _: _theirs(server, cipher, given, pool, flush=False),
            },
            rounds,
        )
    finally:
        store.close()
        server.kill()
    return report(
        "sftp",
        times,
        given,
        {"rounds": rounds, "cipher": cipher},
        (
            "Server and clients share this machine's cores and disk.",
            "`sftp` alone leaves its bytes in the server's memory; -f flushes once, at the end. A get is "
            "served from the server's memory to all alike.",
        ),
    )


def _theirs(server: SshServer, cipher: str, given: Object, pool: Path, *, flush: bool) -> Times:
    there, back = pool / "theirs", given.path.with_name("back")
    put = _timed(server, cipher, f"put {'-f ' if flush else ''}{given.path} {there}")
    get = _timed(server, cipher, f"get {there} {back}")
    given.require_same(back)
    there.unlink()
    return Times(put, get)


def _timed(server: SshServer, cipher: str, batch: str) -> float:
    begun = time.perf_counter()
    done = subprocess.run(
        [*server.command("sftp"), "-c", cipher, "-b", "-", f"{server.user}@127.0.0.1"],
        input=batch,
        capture_output=True,
        text=True,
        timeout=_COMMAND_SECONDS_MAX,
        check=False,
    )
    taken = time.perf_counter() - begun
    if done.returncode != 0:
        raise ConfigError(f"sftp failed: {done.stderr.strip()[-500:]}")
    return taken
