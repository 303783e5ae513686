"""Burning and looking at discs with xorriso (libburnia): one command at a time, with a time limit.

A device is a burner (``/dev/sr0``) or an image file (``stdio:/path``), which xorriso treats as an
overwriteable medium. xorriso writes ISO 9660 with Rock Ridge and Joliet, which PS3.12 (F.1, P.2.2) allows
beside the File IDs; it cannot write UDF, but burns an image that genisoimage made.
"""

from __future__ import annotations

import enum
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from drivers.errors import NoSpace, OperatorNeeded, Permanent, Retryable

SECTOR_BYTES = 2048
OUTPUT_BYTES_MAX = 256 << 20
LOOK_SECONDS = 180.0
"""A drive may take a minute or two to recognise a disc."""
BURN_SECONDS_MAX = 8 * 3600.0
"""A BD-R of 100 GB at 2x takes about four."""
_ADDED = re.compile(rb"File data lba:\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*,\s*'(.*)'")
_BLOCKS = re.compile(r"Media blocks : (\d+) readable , (\d+) writable , (\d+) overall")
# What lies in the spool only we may read; a disc is read by whoever holds it. (xorriso knows no X of chmod.)
_FOR_EVERYBODY = ("-chmod_r", "a=r", "/", "--", "-find", "/", "-type", "d", "-exec", "chmod", "a=rx", "--")


class State(enum.StrEnum):
    """What a drive has in it."""

    EMPTY = "empty"
    BLANK = "blank"
    APPENDABLE = "appendable"
    CLOSED = "closed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Disc:
    """What xorriso says of a disc; sizes are bytes."""

    state: State
    volume_id: str
    kind: str
    writable: int


@dataclass(frozen=True, slots=True)
class Extent:
    """Consecutive bytes of a file on a disc."""

    position: int
    size: int


def installed(program: str = "xorriso") -> bool:
    return shutil.which(program) is not None


def look(device: str) -> Disc:
    """What is in the drive now.

    :raises Retryable: the drive does not answer.
    """
    # A disc that is closed, or none at all, is a failure to xorriso and an answer to us: its words count.
    what = f"look at {device}"
    command = ["xorriso", "-no_rc", "-abort_on", "NEVER", "-return_with", "FATAL", "32"]
    text = finish([*command, "-outdev", device, "-toc"], LOOK_SECONDS, what)
    if "Media status" not in text:
        raise Retryable(f"{what}: {_last_words(text)}")
    return parse_toc(text)


def parse_toc(text: str) -> Disc:
    """Out of what ``-toc`` prints."""
    lines = {
        key.strip(): value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())
    }
    status, kind = lines.get("Media status", ""), lines.get("Media current", "")
    if "not present" in f"{status} {kind}" or "absent" in status:
        state = State.EMPTY
    elif "is blank" in status:
        state = State.BLANK
    elif "is appendable" in status:
        state = State.APPENDABLE
    elif "is written" in status or "is closed" in status:
        state = State.CLOSED
    else:
        state = State.UNKNOWN
    blocks = _BLOCKS.search(text)
    volume = lines.get("Volume id", "").strip("'")
    return Disc(state, volume, kind, int(blocks[2]) * SECTOR_BYTES if blocks else 0)


def volume_id(device: str) -> str:
    """The volume id of the last session; empty when there is none."""
    return parse_toc(_run(("-indev", device), LOOK_SECONDS, f"look at {device}")).volume_id


def files(device: str) -> dict[str, tuple[Extent, ...]]:
    """Where each file of the last session's tree lies, by its absolute path.

    :raises Retryable: the drive does not answer, or the disc's directory cannot be read.
    """
    command = ("-indev", device, "-find", "/", "-type", "f", "-exec", "report_lba", "--")
    return parse_extents(_run(command, LOOK_SECONDS, f"read the directory of {device}").encode())


def parse_extents(raw: bytes) -> dict[str, tuple[Extent, ...]]:
    """Out of what ``report_lba`` prints: section number, first sector, sectors, size of the file, path."""
    found: dict[str, list[Extent]] = {}
    sizes: dict[str, int] = {}
    for line in raw.splitlines():
        match = _ADDED.match(line)
        if match is None:
            continue
        path = match[5].decode("utf-8", "replace")
        sizes[path] = int(match[4])
        extents = found.setdefault(path, [])
        left = sizes[path] - sum(each.size for each in extents)
        extents.append(Extent(int(match[2]) * SECTOR_BYTES, min(left, int(match[3]) * SECTOR_BYTES)))
    return {path: tuple(extents) for path, extents in found.items()}


def burn(device: str, tree: Path, name: str, *, close: bool, speed: int | None = None) -> None:
    """Add ``tree`` to the disc as one more session; files of the same path take the place of older ones.

    :param name: the volume id, 32 characters at most.
    :param close: nothing can be added afterwards.
    :param speed: a multiple of the medium's single speed; None leaves it to the drive.
    :raises NoSpace: it does not fit; nothing was written.
    :raises Permanent: the burn failed, so the disc can be trusted no more.
    """
    command = ["-joliet", "on", "-compliance", "iso_9660_level=3", "-volid", name, "-dev", device]
    if speed is not None:
        command += ["-speed", str(speed)]
    command += ["-close", "on" if close else "off", "-uid", "0", "-gid", "0"]
    command += ["-map", str(tree), "/", *_FOR_EVERYBODY, "-commit"]
    try:
        _run(command, BURN_SECONDS_MAX, f"burn {name} in {device}")
    except Retryable as error:
        if "exceed" in str(error) or "not enough" in str(error).lower():
            raise NoSpace(str(error)) from error
        raise Permanent(str(error)) from error


def make_image(tree: Path, image: Path, name: str, *, level: int = 1, udf: bool = False) -> None:
    """Write ``tree`` into the image file ``image``, which must not be there.

    :param level: of ISO 9660; 3 when a file has 4 GiB or more.
    :param udf: a bridge of ISO 9660 and UDF 1.02, which needs genisoimage.
    """
    if udf:
        if not installed("genisoimage"):
            raise Permanent("UDF: xorriso cannot write it, and genisoimage is not installed")
        command = ["genisoimage", "-quiet", "-udf", "-rational-rock", "-joliet", "-iso-level", str(level)]
        command += ["-volid", name, "-output", str(image), str(tree)]
        finish(command, BURN_SECONDS_MAX, f"write {image}")
        return
    command = ["-joliet", "on", "-compliance", f"iso_9660_level={level}", "-volid", name]
    command += ["-outdev", f"stdio:{image}", "-uid", "0", "-gid", "0", "-map", str(tree), "/"]
    _run([*command, *_FOR_EVERYBODY, "-commit"], BURN_SECONDS_MAX, f"write {image}")


def burn_image(device: str, image: Path, speed: int | None = None) -> None:
    """Write an image onto a blank disc and close it.

    :raises Permanent: the burn failed, so the disc can be trusted no more.
    """
    command = ["xorriso", "-no_rc", "-as", "cdrecord", f"dev={device}", "-tao"]
    command += [f"speed={speed}"] if speed is not None else []
    try:
        finish([*command, str(image)], BURN_SECONDS_MAX, f"burn {image.name} in {device}")
    except Retryable as error:
        raise Permanent(str(error)) from error


def eject(device: str) -> None:
    """Open the tray, or let the robot have the disc."""
    if not device.startswith("stdio:"):
        _run(("-outdev", device, "-eject", "all"), LOOK_SECONDS, f"eject {device}")


def reload(device: str) -> None:
    """Out and in again: only then does the kernel ask a drive anew how much there is to read.

    :raises Retryable: the drive does not answer.
    """
    eject(device)
    look(device)


def _run(command: Sequence[str], seconds: float, what: str) -> str:
    head = ["xorriso", "-no_rc", "-abort_on", "FAILURE", "-return_with", "FAILURE", "32"]
    return finish([*head, *command], seconds, what)


def finish(command: Sequence[str], seconds: float, what: str) -> str:
    """Run a tool to its end: what it said.

    :raises Retryable: it failed, or took longer than ``seconds``.
    :raises OperatorNeeded: it is not installed.
    """
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "LC_ALL": "C"},
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise OperatorNeeded(
            f"{what}: there is no {command[0]}; install it (Debian: {command[0]})"
        ) from error
    try:
        out, _ = process.communicate(timeout=seconds)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if isinstance(error, subprocess.TimeoutExpired):
            raise Retryable(
                f"{what}: {command[0]} had not finished after {seconds:g} s; look at the drive"
            ) from error
        raise
    finally:
        if process.stdout is not None:
            process.stdout.close()
    text = out[:OUTPUT_BYTES_MAX].decode("utf-8", "replace")
    if process.returncode != 0:
        raise Retryable(f"{what}: {command[0]} ended with {process.returncode}: {_last_words(text)}")
    return text


def _last_words(text: str) -> str:
    """The complaints, which xorriso marks, or the last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    marked = [line for line in lines if re.search(r": (FAILURE|FATAL|SORRY|ABORT) :", line)]
    return "; ".join((marked or lines[-1:])[:3])[:600] or "it said nothing"
