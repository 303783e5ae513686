"""Where an export goes, and whether who asks may write there.

The daemon has rights that its callers may not have: it writes only where the caller could write
himself, as the mode of the folder (or of the burner's device) says.
"""

from __future__ import annotations

import enum
import os
import pwd
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from drivers.errors import Corrupt, OperatorNeeded
from drivers.optical import xorriso
from drivers.optical.burner import XorrisoBurner
from drivers.optical.fileset import file_digest
from drivers.optical.once import XORRISO, OnceBurner
from hsm.errors import BadInput, Refused
from hsm.export.leavings import Leavings

IMAGE_SUFFIXES = (".iso", ".img")
LARGE_BYTES = (4 << 30) - 1


class Kind(enum.StrEnum):
    """What an export makes."""

    FOLDER = "folder"
    IMAGE = "image"
    DISC = "disc"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as the kernel says."""

    name: str
    uid: int
    gids: frozenset[int]


def caller_named(name: str) -> Caller:
    """A login name of this machine with its groups.

    :raises Refused: the machine does not know it, so nobody can say what it may do.
    """
    try:
        entry = pwd.getpwnam(name)
    except KeyError as error:
        raise Refused(f"who asks ({name}) is no user of this machine") from error
    return Caller(name, entry.pw_uid, frozenset(os.getgrouplist(name, entry.pw_gid)))


def may_write(caller: Caller, found: os.stat_result) -> bool:
    """The owner's, the group's or the others' bits, whichever apply to the caller; a folder needs both write
    and search."""
    if caller.uid == 0:
        return True
    wanted = 0o3 if stat.S_ISDIR(found.st_mode) else 0o2
    shift = 6 if found.st_uid == caller.uid else 3 if found.st_gid in caller.gids else 0
    return (found.st_mode >> shift) & wanted == wanted


@dataclass(frozen=True, slots=True)
class Target:
    """A place that was looked at and may be written to."""

    kind: Kind
    path: Path
    caller: Caller


def look_at(path: Path, caller: Caller) -> Target:
    """What ``path`` means: a device is burnt, a name that ends in .iso or .img is an image, else a folder.

    :raises BadInput: not an absolute path, or one with ``..``.
    :raises Refused: something is there already, or the caller may not write there.
    """
    if not path.is_absolute() or ".." in path.parts:
        raise BadInput(f"export to {path}: expected an absolute path without ..")
    if path.is_block_device():
        _require(caller, path)
        return Target(Kind.DISC, path, caller)
    kind = Kind.IMAGE if path.suffix.lower() in IMAGE_SUFFIXES else Kind.FOLDER
    parent = path.parent.resolve()
    if not parent.is_dir():
        raise Refused(f"export to {path}: there is no folder {parent}")
    path = parent / path.name
    if path.is_symlink():
        raise Refused(f"export to {path}: it is a link; name the place itself")
    if path.is_dir() and kind is Kind.FOLDER:
        if next(path.iterdir(), None) is not None:
            raise Refused(f"export to {path}: the folder is not empty")
        _require(caller, path)
    elif path.exists():
        raise Refused(f"export to {path}: it exists already")
    _require(caller, parent)
    return Target(kind, path, caller)


def _require(caller: Caller, path: Path) -> None:
    if not may_write(caller, path.stat()):
        raise Refused(f"export to {path}: {caller.name} may not write there")


@contextmanager
def workshop(target: Target, spool: Path, leavings: Leavings) -> Iterator[Path]:
    """A folder to make the file-set in; it is gone afterwards, or when the daemon starts again.

    For a folder it lies beside the target, so that one rename is all that is left to do.

    :raises OperatorNeeded: the daemon itself may not write there.
    """
    leavings.settle(target.path.parent)
    parent = target.path.parent if target.kind is Kind.FOLDER else spool
    work: Path | None = None
    try:
        if target.kind is not Kind.FOLDER:
            parent.mkdir(mode=0o700, exist_ok=True)
        work = leavings.begin(parent)
        work.mkdir(mode=0o700)
        leavings.mark(work)
    except OSError as error:
        if work is not None:
            leavings.end(work)
        who = _user_name()
        raise OperatorNeeded(
            f"export to {target.path}: the daemon (user {who}) cannot write in {parent}: {error.strerror}"
        ) from error
    try:
        yield work
    finally:
        leavings.end(work)


def deliver(target: Target, tree: Path, name: str, leavings: Leavings, *, udf: bool) -> None:
    """Bring a finished file-set to its place: all of it or nothing."""
    if target.kind is Kind.FOLDER:
        hand_over(tree, target.caller)
        os.rename(tree, target.path)  # over an empty folder too, never over a full one
        _sync(target.path.parent)
        return
    if target.kind is Kind.DISC:
        device = str(target.path)
        found = xorriso.look(device)
        if found.state is not xorriso.State.BLANK:
            raise OperatorNeeded(f"put a blank disc into {device}: the one in it is {found.state}")
        if udf:
            OnceBurner(device, None, program=XORRISO, udf=True).burn(tree, name, close=True)
        else:
            xorriso.burn(device, tree, name, close=True)
        read_back(device, tree)
        return
    large = any(path.stat().st_size > LARGE_BYTES for path in tree.rglob("*") if path.is_file())
    image = tree.parent / f"{tree.name}.iso"
    beside = leavings.begin(target.path.parent, ".part")
    try:
        xorriso.make_image(tree, image, name, level=3 if large else 1, udf=udf)
        read_back(f"stdio:{image}", tree)
        shutil.copyfile(image, beside)
        _sync(beside)
        hand_over(beside, target.caller)
        os.link(beside, target.path)  # fails where something has come meanwhile
        _sync(target.path.parent)
    finally:
        image.unlink(missing_ok=True)
        leavings.end(beside)


def read_back(device: str, tree: Path) -> None:
    """Compare every file of a burnt disc, or of an image, with those of ``tree``.

    :raises Corrupt: one is missing or has other bytes.
    """
    contents = XorrisoBurner(device).contents()
    try:
        contents.drop_caches()
        for path in sorted(each for each in tree.rglob("*") if each.is_file()):
            name = path.relative_to(tree).as_posix()
            if name not in contents or contents.digest(name) != file_digest(path):
                raise Corrupt(f"{device}: {name} was read back other than it was written; take another disc")
    finally:
        contents.close()


def hand_over(path: Path, caller: Caller) -> None:
    """Give files to who asked, where the daemon may; else to the daemon's group, which may read them."""
    for each in (path, *path.rglob("*")):
        os.chmod(each, 0o750 if each.is_dir() else 0o640)
        if os.geteuid() == 0:
            os.chown(each, caller.uid, -1, follow_symlinks=False)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _user_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
