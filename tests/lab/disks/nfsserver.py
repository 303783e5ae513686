"""The kernel's NFS server and its client in one machine, with a network between that can be cut.

Each :class:`NfsServer` exports an ext4 of its own and mounts it ``hard``, as docs/operations.md advises:
who waits for it waits for ever.
"""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

EXPORTS = Path("/srv/exports")
"""The root of what NFS 4 clients see."""
STATE = Path("/var/lib/nfs")
CLIENT = "127.0.0.1"
THREADS = 4
MOUNTD_PORT = 20048
LEASE_SECONDS = "10"
"""The least there is: after a restart clients have so long to say what they had open."""
TOOL_SECONDS = 60

_numbers = itertools.count(1)


def tool(*words: str | Path) -> str:
    """Run a command that must succeed; what it said."""
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, timeout=TOOL_SECONDS, check=False
    )
    assert done.returncode == 0, f"{' '.join(map(str, words))}: {done.stdout}{done.stderr}"
    return done.stdout


def start_services() -> None:
    """nfsd and what belongs to it; once in a boot."""
    if (EXPORTS / ".made").exists():
        return
    tool(
        "modprobe", "-a", "nfsd", "nfs", "nfsv3", "nfsv4", "loop", "ip_tables", "iptable_filter", "xt_tcpudp"
    )
    EXPORTS.mkdir(parents=True)
    tool("mount", "-t", "tmpfs", "tmpfs", EXPORTS)
    tool("mount", "-t", "tmpfs", "tmpfs", STATE)
    for name in ("sm", "sm.bak", "v4recovery", "rpc_pipefs", "nfsdcltrack"):
        (STATE / name).mkdir()
    for name in ("etab", "rmtab", "xtab"):
        (STATE / name).touch()
    Path("/run/rpcbind").mkdir(exist_ok=True)
    tool("mount", "-t", "nfsd", "nfsd", "/proc/fs/nfsd")
    tool("rpcbind", "-w")
    export(EXPORTS, ("ro", "fsid=0"))
    tool("rpc.mountd", "--no-udp", "-p", str(MOUNTD_PORT))
    start_threads()
    Path("/proc/fs/nfsd/v4_end_grace").write_text("Y")  # nobody had anything open before
    (EXPORTS / ".made").touch()


def export(folder: Path, options: Sequence[str]) -> None:
    """Export a folder to this machine, with these options before any others."""
    every = ",".join([*options, "sync", "no_subtree_check", "insecure"])
    tool("exportfs", "-o", every, f"{CLIENT}:{folder}")


def start_threads() -> None:
    tool("rpc.nfsd", "-G", LEASE_SECONDS, "-L", LEASE_SECONDS, "-V", "3", str(THREADS))


def stop_threads() -> None:
    """The server is shut down: connections are refused."""
    tool("rpc.nfsd", "0")


def cut_the_wire() -> None:
    """What is sent to the server is lost, and nobody says so."""
    tool("iptables-legacy", "-I", "INPUT", "-p", "tcp", "--dport", "2049", "-j", "DROP")


def mend_the_wire() -> None:
    tool("iptables-legacy", "-F", "INPUT")


class NfsServer:
    """``served`` is a file system of its own, seen by the client below ``point``."""

    def __init__(
        self, folder: Path, version: str = "4.2", mebibytes: int = 192, root: str = "no_root_squash"
    ) -> None:
        start_services()
        number = next(_numbers)
        self.version, self._root, self._fsid = version, root, 100 + number
        self.served, self.point = EXPORTS / str(number), folder / "mount"
        self.served.mkdir()
        self.point.mkdir()
        self._image = Path(f"/dev/shm/nfs{number}.img")
        with self._image.open("wb") as file:
            file.truncate(mebibytes << 20)
        tool("mkfs.ext4", "-q", "-O", "quota", "-m", "0", self._image)
        tool("mount", "-o", "loop,discard,usrquota", self._image, self.served)
        self.pool = self.served / "pool"
        self.pool.mkdir()
        self.export()
        self.mount()

    @property
    def seen(self) -> Path:
        """The pool's folder as the client sees it."""
        return self.point / "pool"

    def export(self, fsid: int | None = None) -> None:
        export(self.served, ("rw", self._root, f"fsid={fsid or self._fsid}"))

    def unexport(self) -> None:
        tool("exportfs", "-u", f"{CLIENT}:{self.served}")

    def export_as_another(self) -> None:
        """As a server does whose disk was exchanged, or renumbered at boot: no handle is good any more."""
        self.unexport()
        self.export(self._fsid + 500)
        tool("exportfs", "-f")

    def export_as_before(self) -> None:
        self.unexport()
        self.export()
        tool("exportfs", "-f")

    def mount(self) -> None:
        """``hard``: it asks again for ever. Without lock and port mappers where version 3 would ask them."""
        options = f"hard,timeo=20,retrans=1,vers={self.version}"
        if self.version == "3":
            options += f",nolock,port=2049,mountproto=tcp,mountport={MOUNTD_PORT}"
        remote = self.served if self.version == "3" else f"/{self.served.name}"
        tool("mount", "-t", "nfs", "-o", options, f"{CLIENT}:{remote}", self.point)

    def unmount(self) -> None:
        tool("umount", "-f", "-l", self.point)

    def freeze(self) -> None:
        """The server answers, but its own disk does not."""
        tool("fsfreeze", "--freeze", self.served)

    def thaw(self) -> None:
        tool("fsfreeze", "--unfreeze", self.served)

    def files(self) -> set[str]:
        """Everything that lies in the pool on the server."""
        return {str(path.relative_to(self.pool)) for path in self.pool.rglob("*") if path.is_file()}

    def close(self) -> None:
        if os.path.ismount(self.point):
            self.unmount()
        self.unexport()
        tool("exportfs", "-f")
        for each in self.served.iterdir():
            tool("rm", "-rf", each)
        # Handles that a client never gave back keep it in use for as long as the server remembers them.
        tool("umount", "--lazy", self.served)
        self._image.unlink()
