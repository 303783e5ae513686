"""The Debian packages that the laboratory needs: which lack, and how to get them."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PROGRAMS = {
    "linux.uml": "user-mode-linux",
    "modprobe": "kmod",
    "ip": "iproute2",
    "mt": "mt-st",
    "mtx": "mtx",
    "sg_logs": "sg3-utils",
    "lsscsi": "lsscsi",
    "/usr/bin/python3": "python3",
}
"""A program that the package brings -> the package."""

TGT = {"tgtd": "tgt", "iscsiadm": "open-iscsi"}
SETUPS: dict[str, dict[str, str]] = {
    "library-tgt": TGT,
    "library-both": TGT,
    "disks": {
        "rpc.nfsd": "nfs-kernel-server",
        "mount.nfs": "nfs-common",
        "rpcbind": "rpcbind",
        "iptables-legacy": "iptables",
        "setquota": "quota",
        "mkfs.xfs": "xfsprogs",
        "multipathd": "multipath-tools",
        "dmsetup": "dmsetup",
        "/lib/systemd/systemd-udevd": "udev",
    },
    "jukebox": {**TGT, "growisofs": "growisofs", "genisoimage": "genisoimage", "xorriso": "xorriso"},
}
"""What a set-up needs beside those."""
NO_SERVICES = Path("/usr/sbin/policy-rc.d")
"""While it ends with 101 no package starts its service: tgt's would listen on every interface."""

APT_SECONDS = 300


class Lacking(Exception):
    """The laboratory cannot be had here; says what lacks and why it was not installed."""


def missing() -> list[str]:
    """Packages whose program is not there, in alphabetical order."""
    lacking = {package for program, package in PROGRAMS.items() if shutil.which(program, path=PATH) is None}
    mt = shutil.which("mt", path=PATH)
    if mt is not None and Path(mt).resolve().name == "mt-gnu":
        lacking.add("mt-st")  # the other mt, of cpio, knows neither seek nor setblk
    return sorted(lacking)


def missing_for(setup: str) -> list[str]:
    """Packages that a set-up in ``guest`` needs beside the usual ones and whose program is not there."""
    programs = SETUPS.get(setup, {})
    return sorted(
        {package for program, package in programs.items() if shutil.which(program, path=PATH) is None}
    )


def try_for(*setups: str) -> None:
    """Install what these set-ups need, where that can be done; say so where it cannot."""
    wanted = sorted({package for setup in setups for package in missing_for(setup)})
    try:
        with _no_services_started():
            _install(wanted)
    except (Lacking, OSError) as error:
        print(f"lab: {error}", file=sys.stderr)


@contextlib.contextmanager
def _no_services_started() -> Iterator[None]:
    if NO_SERVICES.exists():
        yield
        return
    NO_SERVICES.write_text("#!/bin/sh\nexit 101\n")
    NO_SERVICES.chmod(0o755)
    try:
        yield
    finally:
        NO_SERVICES.unlink()


def require() -> None:
    """Install what is missing, where that can be done.

    :raises Lacking: it cannot.
    """
    _install(missing())
    if missing():
        raise Lacking(f"installed, and still no program of: {' '.join(missing())}")


def _install(wanted: list[str]) -> None:
    """:raises Lacking: it cannot be done here."""
    if not wanted:
        return
    names = " ".join(wanted)
    if os.geteuid() != 0:
        raise Lacking(f"not installed: {names} (as root: apt-get install --no-install-recommends {names})")
    if shutil.which("apt-get") is None:
        raise Lacking(f"not installed: {names}, and there is no apt-get to install them with")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "-qq", "update"],
        ["apt-get", "-qq", "install", "--yes", "--no-install-recommends", *wanted],
    ):
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=APT_SECONDS, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise Lacking(f"not installed: {names}; {' '.join(command)} took over {APT_SECONDS} s") from error
        if done.returncode:
            last = (done.stderr or done.stdout).strip().splitlines()[-1:]
            raise Lacking(f"not installed: {names}; {' '.join(command)} says: {' '.join(last) or 'nothing'}")
