"""What stands at the beginning of a cartridge: ours, somebody else's, or nothing. Pure.

Tape file 0 of a plain volume is two records: an ANSI X3.27 volume header (80 characters, ``VOL1``), so
that other systems see a labelled tape and leave it alone, and a JSON object that says who the volume is
and how to read it by hand.
"""

from __future__ import annotations

import enum
import json
import re
from dataclasses import dataclass

from drivers.base import VolumeLabel
from drivers.errors import WrongVolume
from drivers.tape.ltfs.volume import LtfsLabel

FORMAT = "hsm-plain-tape"
VERSION = 1
BLOCK_BYTES_MIN = 1 << 10
BLOCK_BYTES_MAX = 1 << 20
"""A record is one piece of :data:`drivers.base.CHUNK_BYTES` at most."""
LABEL_BYTES_MAX = 1 << 20
FIRST_BLOCK = 3
"""Of the first package: behind two label records and a filemark."""

_VOL1_BYTES = 80
_DAMAGED_BITS_MAX = 4
"""So far from LTFS's header is none that another system writes: spaces in its place differ in 17 bits."""
_IMPLEMENTATION = "HSM-PLAIN"
_HOW_TO_READ = (
    "Tape file 0 is this label. Each further tape file is one package (a POSIX tar) or an index. "
    "mt -f /dev/nst0 setblk 0; mt -f /dev/nst0 asf N; "
    "tar -b {tar_blocks} -xf /dev/nst0. The last index lists them: dd if=/dev/nst0 bs={block_bytes} prints "
    "one JSON object a line with file number N, first block, size, SHA-256 and key."
)


@dataclass(frozen=True, slots=True)
class PlainLabel:
    """Who a plain volume is, and the size of its records in bytes."""

    volume: VolumeLabel
    block_bytes: int
    key: str = ""
    """Fingerprint of the key that what follows the label is encrypted with; empty: it is not."""

    def __post_init__(self) -> None:
        if not BLOCK_BYTES_MIN <= self.block_bytes <= BLOCK_BYTES_MAX or self.block_bytes % 512:
            raise ValueError(
                f"a block size of {self.block_bytes} bytes; expected {BLOCK_BYTES_MIN} to {BLOCK_BYTES_MAX}, "
                "a multiple of 512"
            )


class Content(enum.StrEnum):
    """What a cartridge begins with."""

    BLANK = "blank"
    OURS = "ours"
    FOREIGN = "foreign"
    BROKEN = "broken"
    """Our volume header, and behind it no label that can be read."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was found at the beginning of a cartridge, and in an admin's words."""

    content: Content
    words: str
    label: PlainLabel | LtfsLabel | None = None
    ltfs_serial: str = ""
    """Of an LTFS volume, whose own label is inside."""


def volume_of(found: Found, barcode: str, drive: str) -> VolumeLabel | None:
    """Which of our volumes was found; None of a blank one.

    :raises WrongVolume: it is somebody else's; the message says whose.
    """
    if found.content is Content.BLANK:
        return None
    if found.content is Content.BROKEN:
        raise WrongVolume(f"{barcode} in drive {drive} is {found.words}; left alone")
    if found.label is None:
        raise WrongVolume(f"{barcode} in drive {drive} is not ours: it is {found.words}; left alone")
    return found.label.volume


def require_blank(found: Found, barcode: str, drive: str) -> None:
    """:raises WrongVolume: it is not blank; the message says what it is."""
    if found.content is not Content.BLANK:
        raise WrongVolume(f"{barcode} in drive {drive} is not blank: it is {found.words}; left alone")


def label_records(label: PlainLabel) -> tuple[bytes, bytes]:
    """The two records of tape file 0."""
    volume = label.volume
    serial = re.sub(r"[^A-Z0-9]", "", volume.barcode.upper())[:6].ljust(6)
    header = f"VOL1{serial} {'':13}{_IMPLEMENTATION:13}{'HSM ARCHIVE':14}{'':28}4"
    text = {
        "format": FORMAT,
        "version": VERSION,
        "barcode": volume.barcode,
        "uuid": volume.uuid,
        "pool": volume.pool,
        "block_bytes": label.block_bytes,
        **({"key": label.key} if label.key else {}),
        "read me": _HOW_TO_READ.format(
            tar_blocks=label.block_bytes // 512, block_bytes=max(label.block_bytes, 1 << 18)
        ),
    }
    return header.encode("ascii"), (json.dumps(text, indent=1, ensure_ascii=True) + "\n").encode("ascii")


def is_our_header(record: bytes) -> bool:
    """Whether a first record is our volume header, so that the second one is our label."""
    return _is_ansi(record) and record[24:37].decode("ascii", "replace").strip() == _IMPLEMENTATION


def parse_label(header: bytes, record: bytes) -> Found:
    """The label behind our header."""
    try:
        said = json.loads(record)
        if said["format"] != FORMAT:
            raise ValueError(f"format {said['format']!r}")
        if said["version"] != VERSION:
            words = f"a {FORMAT} volume of version {said['version']!r}, which this software does not know"
            return Found(Content.BROKEN, words)
        volume = VolumeLabel(str(said["barcode"]), str(said["uuid"]), str(said["pool"]))
        label = PlainLabel(volume, int(said["block_bytes"]), str(said.get("key", "")))
    except (ValueError, KeyError, TypeError) as error:
        serial = header[4:10].decode("ascii", "replace").strip()
        return Found(Content.BROKEN, f"a volume of this archive ({serial}) whose label is damaged: {error!r}")
    return Found(Content.OURS, f"volume {volume.uuid} ({volume.barcode}) of pool {volume.pool!r}", label)


def describe(record: bytes) -> Found:
    """What a tape holds whose first record is this and not our header."""
    bits = _bits_from_ltfs(record)
    if bits <= _DAMAGED_BITS_MAX:
        serial = record[4:10].decode("ascii", "replace").strip()
        damaged = " whose VOL1 record is damaged" if bits else ""
        return Found(Content.FOREIGN, f"an LTFS volume ({serial}){damaged}", ltfs_serial=serial or "?")
    return Found(Content.FOREIGN, _whose(record))


def _whose(record: bytes) -> str:
    if _is_ansi(record):
        serial = record[4:10].decode("ascii", "replace").strip()
        owner = record[37:51].decode("ascii", "replace").strip() or record[24:37].decode("ascii", "replace")
        return f"a tape with the ANSI label {serial!r} (owner {owner.strip()!r})"
    if record[:4] == b"\xe5\xd6\xd3\xf1":
        return f"a tape with the IBM standard label {record[4:10].decode('cp037', 'replace').strip()!r}"
    if record[257:262] == b"ustar":
        return f"a tar archive (its first file is {_text(record[:100])!r})"
    if record[12:16] in (b"BB01", b"BB02") or b"Bacula 1.0" in record[:512] or b"Bareos " in record[:512]:
        return f"a Bacula or Bareos volume{_bacula_name(record)}"
    if record.startswith(b"AMANDA: TAPESTART"):
        return f"an Amanda tape ({_text(record[:120])})"
    if record[:4] == b"TAPE":
        return "a backup in Microsoft Tape Format (NTBackup, Backup Exec, Veeam)"
    if record[:6] in (b"070701", b"070702", b"070707") or record[:2] in (b"\xc7\x71", b"\x71\xc7"):
        return "a cpio archive"
    if int.from_bytes(record[24:28], "little") in (60011, 60012, 60013):
        return "a backup made with dump"
    if _is_old_tar(record):
        return f"a tar archive of the old kind (its first file is {_text(record[:100])!r})"
    if not record:
        return "a file mark and nothing known behind it"
    return f"data of an unknown kind (its first record has {len(record)} bytes: {record[:16].hex(' ')} ...)"


def _bits_from_ltfs(record: bytes) -> int:
    """How many bits of the two words by which a volume header of LTFS is known are not as they should be."""
    if len(record) != _VOL1_BYTES:
        return _VOL1_BYTES
    pairs = zip(record[:4] + record[24:28], b"VOL1LTFS", strict=True)
    return sum((had ^ should).bit_count() for had, should in pairs)


def _is_ansi(record: bytes) -> bool:
    return len(record) == _VOL1_BYTES and record[:4] == b"VOL1"


def _is_old_tar(record: bytes) -> bool:
    if len(record) < 512:
        return False
    try:
        claimed = int(record[148:156].rstrip(b"\0 ") or b"x", 8)
    except ValueError:
        return False
    return claimed == sum(record[:148]) + 8 * 32 + sum(record[156:512])


def _bacula_name(record: bytes) -> str:
    """The volume name: the second text of the volume label record."""
    texts = re.findall(rb"[\x20-\x7e]{4,}", record[24:1024])
    return f" ({texts[1].decode('ascii')})" if len(texts) > 1 else ""


def _text(raw: bytes) -> str:
    return raw.split(b"\0")[0].split(b"\n")[0].decode("utf-8", "replace")
